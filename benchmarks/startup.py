"""How long the command line takes to answer, training to begin, and DVC to find that nothing has to be done."""

from __future__ import annotations

import shutil
import sys
import time
from functools import partial
from pathlib import Path

import yaml

from benchmarks.commands import ROOT, execute, run, workspace
from benchmarks.harness import FULL, Bench, Measured, Row
from pipeline.tracking import journal

COPIED = (".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml", "pipeline")
HELP_S, FIRST_STEP_S, NO_OP_S = 0.3, 2.0, 2.0


def section(bench: Bench) -> list[Measured]:
    root = workspace(bench.folder("startup"), "cifar10", bench.store.path)
    run(root, "pipeline", "sync", "data=cifar10")  # makes MLflow's database
    pairs = None if bench.effort is FULL else 1
    rows = [*help_rows(root), first_step_row(root, "plain", "trainer.compile=false", pairs)]
    if bench.effort is FULL:  # a machine's first compiled training times its steps, which takes minutes
        rows.append(first_step_row(root, "compiled", "trainer.compile=auto", pairs))
    return [bench.measure(row) for row in (*rows, no_op_row(root, pairs))]


def help_rows(root: Path) -> list[Row]:
    """The command's own answers, against Python's start."""
    return [
        Row(
            name=" ".join(("pipeline", *arguments)),
            unit="s",
            bar=HELP_S,
            judged="ours <=",
            ours=partial(run, root, "pipeline", *arguments),
            reference=partial(execute, root, [sys.executable, "-c", "pass"]),
        )
        for arguments in (("--help",), ("train", "--help"))
    ]


def first_step_row(root: Path, title: str, override: str, pairs: int | None) -> Row:
    """`pipeline train data=cifar10` until its first step is done, against its two big imports."""
    first_step_s(root, override)  # compiles bytecode, reads files into memory, and times what is timed once a machine
    return Row(
        name=f"from the shell to the first training step, {title}",
        unit="s",
        bar=FIRST_STEP_S,
        judged="excess <=",
        ours=partial(first_step_s, root, override),
        reference=partial(execute, root, [sys.executable, "-c", "import torch, pytorch_lightning"]),
        pairs=pairs,
    )


def no_op_row(root: Path, pairs: int | None) -> Row:
    make_done(root)
    return Row(
        name="dvc repro with nothing to do, against dvc status",
        unit="s",
        bar=NO_OP_S,
        judged="excess <=",
        ours=partial(no_op_s, root),
        reference=partial(run, root, "dvc", "status", "--quiet"),
        pairs=pairs,
    )


def make_done(root: Path) -> None:
    """Makes a workspace a repository in which DVC has nothing to do: dvc.lock says that all outs came from what is there.

    Only composed.yaml is the real one; each other out is one small file. DVC is as fast with the real ones, since it
    reads no contents again where names, sizes and times are those it noted.
    """
    for name in COPIED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    execute(root, ["git", "init", "--quiet"])
    run(root, "pipeline", "compose")
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    chosen = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))["data"]
    for out in [out for stage in stages for kind in ("outs", "metrics") for out in stage.get(kind, ())]:
        name = out if isinstance(out, str) else next(iter(out))
        path = root / name.replace("${data}", chosen)
        if not path.exists():
            path = path if path.suffix else path / "made.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}\n", encoding="utf-8")
    run(root, "dvc", "commit", "--force", "--quiet")


def no_op_s(root: Path) -> float:
    """Seconds of a `dvc repro` that runs no stage.

    Raises:
        ValueError: it ran one.
    """
    seconds = run(root, "dvc", "repro")
    output = (root / "output.txt").read_text(encoding="utf-8")
    if "Running stage" in output:
        raise ValueError(f"dvc repro was to find nothing to do and ran a stage:\n{output}")
    return seconds


class _Begun(Exception):  # noqa: N818 (no error)
    """Ends a training once it has made a step."""


def first_step_s(root: Path, *overrides: str) -> float:
    """Seconds from the command to its journal's entry about the first step; the training is then killed."""
    runs = root / "runs" / str(time.monotonic_ns())
    done: list[float] = []

    def watch(_: int) -> None:
        for path in runs.glob(f"*/{journal.NAME}"):
            events = journal.read(path)[0]
            done.extend(event["time"] / 1000 for event in events if "train/loss" in event.get("values", ()))
        if done:
            raise _Begun

    start = time.time()
    settings = ("data=cifar10", "trainer.log_every_steps=1", f"paths.runs={runs}", *overrides)
    try:
        run(root, "pipeline", "train", *settings, watch=watch)
    except _Begun:
        return done[0] - start
    raise ValueError(f"pipeline train {' '.join(settings)} ended before it wrote of a step")
