"""A copy of the repository with an experiment of a minute, and what has to be equal and tidy in it after a fault."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.atomic import read_json
from pipeline.run.weights import BEST, load_weights

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("compose", "fetch", "preprocess", "pretrain", "sweep", "train", "ensemble", "evaluate", "report")
MARK = "RELIABILITY_MARK"  # environment variable of every process that a fault's commands start
RESULTS = Path("experiments/digits")
# What a stage has made, to be made again under the fault; runs of the sweep and of the train stage by key.
MADE = {
    "compose": ("composed", "composed.yaml"),
    "fetch": ("data/raw/digits",),
    "preprocess": ("data/store/digits", "data/store/digits.made.json"),
    "pretrain": (f"{RESULTS}/pretrained.json",),
    "sweep": ("runs/sweep-*", "runs/ray", "runs/{trials}", f"{RESULTS}/leaderboard.json"),
    "train": ("runs/{named}", f"{RESULTS}/train.json"),
    "ensemble": ("runs/predictions", f"{RESULTS}/ensemble"),
    "evaluate": (
        "runs/predictions",
        f"{RESULTS}/evaluate.json",
        f"{RESULTS}/responses.json",
        f"{RESULTS}/mistakes.json",
    ),
    "report": (f"{RESULTS}/report", f"{RESULTS}/curves.csv"),
}
DONE = {
    "compose": "composed.yaml",
    "fetch": "data/raw/digits",
    "preprocess": "data/store/digits",
    "pretrain": f"{RESULTS}/pretrained.json",
    "sweep": f"{RESULTS}/leaderboard.json",
    "train": f"{RESULTS}/train.json",
    "ensemble": f"{RESULTS}/ensemble/members.json",
    "evaluate": f"{RESULTS}/evaluate.json",
    "report": f"{RESULTS}/report/index.html",
}
# The sweep's nets differ from the one that the train stage trains, so that each stage has something to do.
SMALL: dict[str, Any] = {
    "model": {"depth": 8},
    "recipe": {"max_steps": 120, "batch_size": 50},
    "trainer": {"val_every_epochs": 4, "checkpoint_every_steps": 10},
    "sweep": {"space": {"model.depth": [8], "recipe.lr": [0.05, 0.02]}},
    "ensemble": {"size": 2},
}


def copy_of_repository(root: Path) -> Path:
    """`root`, filled with the files that git tracks or would track, and the small experiment."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    (root / "params.yaml").write_text(yaml.safe_dump({**params, "set": SMALL}), encoding="utf-8")
    git = ["git", "-c", "user.name=reliability", "-c", "user.email=reliability@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=root, check=True, capture_output=True)
    return root


def remove_made(root: Path, stage: str) -> None:
    """Removes what a finished stage has made, so that it runs again; nothing where it has not finished."""
    if not (root / DONE[stage]).exists():
        return
    board = read_json(root / RESULTS / "leaderboard.json")["trials"] if stage == "sweep" else []
    named = read_json(root / RESULTS / "train.json")["key"] if stage == "train" else ""
    shutil.rmtree(root / ".dvc" / "cache", ignore_errors=True)  # DVC would restore the outputs without a run
    for pattern in MADE[stage]:
        keys = [trial["key"] for trial in board] if "{trials}" in pattern else [named]
        for key in keys:
            for path in root.glob(pattern.format(trials=key, named=key)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def results(root: Path) -> dict[str, Any]:
    """All that a fault may not change, however often the commands were interrupted: errors, members, weights."""
    board, ensemble = (
        read_json(root / RESULTS / "leaderboard.json"),
        read_json(root / RESULTS / "ensemble/members.json"),
    )
    tested = read_json(root / RESULTS / "evaluate.json")
    keys = [trial["key"] for trial in board["trials"]] + [read_json(root / RESULTS / "train.json")["key"]]
    return {
        "trials": [(trial["name"], trial["key"], trial["val_err1"], trial["status"]) for trial in board["trials"]],
        "members": [(member["key"], member["weight"], member["val_err1"]) for member in ensemble["members"]],
        "test": {net["key"]: net["test_err1"] for net in [*tested["members"], *tested["others"], tested["run"]]},
        "ensemble": tested["ensemble"]["test_err1"],
        "weights": {key: _digest(root / "runs" / key / BEST) for key in keys},
    }


def _digest(path: Path) -> str:
    state, _ = load_weights(path)
    parts = [name.encode() + state[name].numpy().tobytes() for name in sorted(state)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def untidy(root: Path) -> list[str]:
    """What a finished experiment may not leave: temporary files, a training with two runs, runs that never ended."""
    return [*_temporary_files(root), *_odd_runs(root / "mlruns" / "mlflow.db")]


def _temporary_files(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", ".dvc", ".venv")]
        for name in (*folders, *files):
            if name.endswith((".part", ".old", ".tmp")) or name.startswith("tmp"):
                yield f"left behind: {(Path(folder) / name).relative_to(root)}"


def _odd_runs(database: Path) -> Iterator[str]:
    if not database.exists():
        return
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "select tags.value, runs.status from runs join tags on tags.run_uuid = runs.run_uuid "
            "where tags.key = 'pipeline.key' and runs.lifecycle_stage = 'active'"
        ).fetchall()
        for key, number in Counter(key for key, _ in rows).items():
            if number > 1:
                yield f"{number} runs of {key} in MLflow"
        yield from (f"run of {key} in MLflow is {status}" for key, status in rows if status != "FINISHED")
        for key, status in connection.execute(
            "select run_uuid, status from runs where status = 'RUNNING' and run_uuid not in "
            "(select run_uuid from tags where key = 'pipeline.key')"
        ):
            yield f"run {key} without a key in MLflow is {status}"


def marked(mark: str) -> list[psutil.Process]:
    """Running processes that were started with `mark` in their environment."""
    alive = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except psutil.Error:
            continue
    return alive
