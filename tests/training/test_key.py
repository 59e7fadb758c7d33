"""What makes a run another run."""

from __future__ import annotations

import pytest
from runs import composed

from pipeline.training import key
from pipeline.training.key import run_key


@pytest.mark.parametrize(
    "change", ["recipe.lr=0.05", "seed=1", "model.depth=20", "data.split=full", "recipe.augment.padding=2"]
)
def test_what_decides_the_result_makes_another_run(workspace, change):
    root = workspace()
    assert run_key(composed(root), "hash", "fp32") != run_key(composed(root, change), "hash", "fp32")


@pytest.mark.parametrize(
    "change", ["trainer.devices=2", "trainer.threads=2", "paths.runs=elsewhere", "data.workers=3", "ensemble.size=2"]
)
def test_what_does_not_leaves_it_the_same(workspace, change):
    root = workspace()
    assert run_key(composed(root), "hash", "fp32") == run_key(composed(root, change), "hash", "fp32")


def test_other_data_or_arithmetic_make_another_run(workspace):
    config = composed(workspace())
    assert len({run_key(config, data, precision) for data in ("a", "b") for precision in ("fp32", "bf16")}) == 4


def test_code_counts_and_its_comments_do_not(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text('"""Doc."""\nx = 1  # one\n')
    monkeypatch.setattr(key, "_ROOT", tmp_path)
    monkeypatch.setattr(key, "_CODE", ("a.py",))
    versions = [key.code_version.__wrapped__()]
    (tmp_path / "a.py").write_text('"""Another text."""\n\nx = 1\n')
    versions.append(key.code_version.__wrapped__())
    (tmp_path / "a.py").write_text('"""Doc."""\nx = 2\n')
    versions.append(key.code_version.__wrapped__())
    assert versions[0] == versions[1] != versions[2]


def test_every_file_that_decides_the_arithmetic_counts():
    assert all((key._ROOT / name).is_file() for name in key._CODE)
    trained_by = {
        "models/resnet.py",
        "data/order.py",
        "data/augment.py",
        "training/classifier.py",
        "training/schedule.py",
    }
    assert trained_by <= set(key._CODE)
