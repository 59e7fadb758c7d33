from __future__ import annotations

import pytest
from imports import ROOT

from pipeline.compose import compose
from pipeline.config import from_dict
from pipeline.credentials import HIDDEN, redacted
from pipeline.errors import PipelineError

SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        (f"data.mirror='https://user:{SECRET}@host/data'", "netrc"),
        (f"data.mirror='https://{SECRET}@host/data'", "netrc"),
        (f"data.mirror='https://user:{SECRET}/@/@host/data'", "netrc"),
        (f"data.mirror='https://host/data?X-Amz-Signature={SECRET}'", "netrc"),
        (f"data.mirror=[HTTPS://host/?{SECRET}]", "netrc"),
        (f"+data.path='https://user:{SECRET}@host/data.tar'", "environment"),
        (f"+start.weights='s3://key:{SECRET}@bucket/net.pt'", "environment"),
        (f"sweep.space='{{start.weights: [\"https://host/net.pt?token={SECRET}\"]}}'", "environment"),
        (f"tracking.uri='https://user:{SECRET}@host'", "MLFLOW_TRACKING_PASSWORD"),
        (f"tracking.uri='postgresql://mlflow:{SECRET}@host/mlflow'", "PGPASSFILE"),
        (f"tracking.uri='postgresql://host/mlflow?password={SECRET}'", "PGPASSFILE"),
        (f"data.miror='https://user:{SECRET}@host/data'", ""),
        (f"data.mirror=https://user:{SECRET}@host/data?a=b", ""),
    ],
)
def test_the_configuration_refuses_credentials_and_does_not_repeat_them(override, remedy):
    with pytest.raises(PipelineError, match=remedy or "data.mirr?or") as refused:
        from_dict(compose(ROOT, ["data=cifar10", override]))
    assert SECRET not in str(refused.value) and HIDDEN in str(refused.value)
    assert not refused.value.__cause__ and (refused.value.__suppress_context__ or not refused.value.__context__)


@pytest.mark.parametrize(
    "value",
    ["https://host:8080/data", "postgresql+psycopg://mlflow@postgres:5432/mlflow", "/data/a:b@c?d", "sqlite:///a"],
)
def test_addresses_without_credentials_are_kept(value):
    assert from_dict(compose(ROOT, [f"tracking.uri='{value}'"])).tracking.uri == value


def test_a_text_that_leaves_shows_no_secret(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from/the/environment")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/run/secrets/s3")
    text = f"https://u:{SECRET}@h/x?token={SECRET}&n=1 failed: from/the/environment, /run/secrets/s3, password={SECRET}"
    assert redacted(text) == "https://***@h/x?token=***&n=1 failed: ***, /run/secrets/s3, password=***"
