"""Processes that cannot import this repository, where a model of MLflow brings its own code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

# Python imports this before anything else; what installed the repository for development has its finder in place then.
SITECUSTOMIZE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
"""
PREDICT = """
import sys
import mlflow, numpy, pipeline
assert pipeline.MINE
mlflow.set_tracking_uri(sys.argv[1])
mlflow.pyfunc.load_model(sys.argv[2]).predict(numpy.load("images.npy")).to_parquet("answer.parquet")
"""


def elsewhere(root: Path) -> tuple[Path, dict[str, str]]:
    """A folder below `root` with a `pipeline.py` of its user, and the environment of processes there."""
    folder = root / "elsewhere"
    folder.mkdir()
    (folder / "pipeline.py").write_text("MINE = True")
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where MLflow looks for uvicorn
    return folder, {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}


def predicted(root: Path, tracking: str, model: str, images: np.ndarray) -> pd.DataFrame:
    """What the model that `tracking` has answers there."""
    folder, environment = elsewhere(root)
    np.save(folder / "images.npy", images)
    command = [sys.executable, "-c", PREDICT, tracking, model]
    child = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    return pd.read_parquet(folder / "answer.parquet")
