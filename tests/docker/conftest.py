from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from compose_command import HARD, compose
from imports import ROOT


@pytest.fixture(scope="session")
def services() -> dict[str, Any]:
    return json.loads(compose("config", "--format", "json").stdout)["services"]


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """docker/secrets/ as make-secrets.sh fills it, in a folder of its own."""
    root = tmp_path_factory.mktemp("checkout")
    folder = root / "docker" / "secrets"
    folder.mkdir(parents=True)
    for name in ("postgres_password", "s3_secret_key", "mlflow_password"):  # as someone chose them
        (folder / name).write_text(HARD + "\n")
    shutil.copy(ROOT / "docker" / "make-secrets.sh", root / "docker")
    done = subprocess.run([root / "docker" / "make-secrets.sh"], check=True, cwd="/", capture_output=True, text=True)
    assert done.stderr.count("was open to other users and is closed now") == 3
    return folder
