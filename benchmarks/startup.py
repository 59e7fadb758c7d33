"""How long the command line takes to answer, training to begin, and DVC to find that nothing is to be done.

Real commands run as processes of their own, in a workspace made of this clone's files.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from benchmarks import commands
from benchmarks.bench import FULL, Bench
from benchmarks.harness import Measured, Row
from pipeline.tracking import journal

COPIED = (".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml", "pipeline")
PYTHON = sys.executable
PIPELINE, DVC = (PYTHON, "-m", "pipeline"), (PYTHON, "-m", "dvc")
HELP_S, FIRST_STEP_S, NO_OP_S = 0.3, 2.0, 2.0


def section(bench: Bench) -> list[Measured]:
    root = commands.workspace(bench.folder("startup"), "cifar10", bench.store.path)
    run(root, *PIPELINE, "sync", "data=cifar10")  # makes MLflow's database
    rows = [*help_rows(root), first_step_row(root, bench, "plain", "trainer.compile=false")]
    if bench.effort is FULL:  # where no training was timed on this machine yet, that comes first and takes minutes
        rows.append(first_step_row(root, bench, "compiled", "trainer.compile=auto"))
    return [bench.measure(row) for row in (*rows, no_op_row(root, bench))]


def help_rows(root: Path) -> list[Row]:
    """The command's own answers, against Python's start."""
    return [
        Row(
            name=" ".join(("pipeline", *arguments)),
            unit="s",
            bar=HELP_S,
            judged="ours <=",
            ours=lambda arguments=arguments: seconds(root, *PIPELINE, *arguments),  # type: ignore[misc]
            reference=lambda: seconds(root, PYTHON, "-c", "pass"),
        )
        for arguments in (("--help",), ("train", "--help"))
    ]


def first_step_row(root: Path, bench: Bench, title: str, override: str) -> Row:
    """`pipeline train data=cifar10` until its first step is done, against its two big imports."""
    first_step_s(root, override)  # compiled bytecode, files in memory, and what a machine finds out once
    return Row(
        name=f"from the shell to the first training step, {title}",
        unit="s",
        bar=FIRST_STEP_S,
        judged="excess <=",
        ours=lambda: first_step_s(root, override),
        reference=lambda: seconds(root, PYTHON, "-c", "import torch, pytorch_lightning"),
        pairs=None if bench.effort is FULL else 1,
    )


def no_op_row(root: Path, bench: Bench) -> Row:
    make_done(root)
    return Row(
        name="dvc repro with nothing to do, against dvc status",
        unit="s",
        bar=NO_OP_S,
        judged="excess <=",
        ours=lambda: no_op_s(root),
        reference=lambda: seconds(root, *DVC, "status", "--quiet"),
        pairs=None if bench.effort is FULL else 1,
    )


def make_done(root: Path) -> None:
    """Makes a workspace a repository in which DVC has nothing to do: dvc.lock says that all outs came from what is there.

    Only composed.yaml is what its stage makes; each other out is one small file. DVC is as fast with the real ones: it
    reads no contents again where names, sizes and times are those it noted.
    """
    for name in COPIED:
        source, target = commands.ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    run(root, "git", "init", "--quiet")
    run(root, *PIPELINE, "compose")
    stages = yaml.safe_load((root / "dvc.yaml").read_text())["stages"].values()
    chosen = yaml.safe_load((root / "params.yaml").read_text())["data"]
    for out in [out for stage in stages for kind in ("outs", "metrics") for out in stage.get(kind, ())]:
        name = out if isinstance(out, str) else next(iter(out))
        path = root / name.replace("${data}", chosen)
        if not path.exists():
            path = path if path.suffix else path / "made.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}\n")
    run(root, *DVC, "commit", "--force", "--quiet")


def no_op_s(root: Path) -> float:
    """Seconds of a `dvc repro` that runs no stage.

    Raises:
        ValueError: it ran one.
    """
    start = time.monotonic()
    said = run(root, *DVC, "repro")
    taken = time.monotonic() - start
    if "Running stage" in said:
        raise ValueError(f"dvc repro was to find nothing to do and ran a stage:\n{said}")
    return taken


class _Begun(Exception):  # noqa: N818 (no error)
    """Ends a training once it has made a step."""


def first_step_s(root: Path, *overrides: str) -> float:
    """Seconds from the command to its journal's entry about the first step; the training is then killed."""
    runs = root / "runs" / str(time.monotonic_ns())
    done: list[float] = []

    def watch(_: int) -> None:
        for path in runs.glob(f"*/{journal.NAME}"):
            done.extend(
                event["time"] / 1000 for event in journal.read(path)[0] if "train/loss" in event.get("values", ())
            )
        if done:
            raise _Begun

    start = time.time()
    settings = ("data=cifar10", "trainer.log_every_steps=1", f"paths.runs={runs}", *overrides)
    try:
        commands.run(root, "pipeline", "train", *settings, watch=watch)
    except _Begun:
        return done[0] - start
    raise ValueError(f"pipeline train {' '.join(settings)} ended before it wrote of a step")


def seconds(root: Path, *command: str) -> float:
    """Wall time of a command, process start included."""
    start = time.monotonic()
    run(root, *command)
    return time.monotonic() - start


def run(root: Path, *command: str) -> str:
    """What a command printed.

    Raises:
        ValueError: it failed.
    """
    done = subprocess.run(
        command,
        cwd=root,
        env=commands.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stdout}")
    return done.stdout
