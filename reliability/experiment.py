"""A small finished experiment on the digits, made by the commands themselves in children."""

from __future__ import annotations

import shutil
from pathlib import Path

from reliability.child import call, pipeline

REPOSITORY = Path(__file__).resolve().parents[1]
# 24 steps in epochs of 4, each validated.
OVERRIDES = (
    "data=digits",
    "model.depth=8",
    "recipe.max_steps=24",
    "trainer.accelerator=cpu",
    "trainer.threads=1",
    "trainer.val_every_epochs=1",
    "trainer.log_every_steps=1",
    "tracking.system_metrics_every_s=0",
    "ensemble=top_k",
    "ensemble.size=2",
    "evaluation.runs=members",
)
TIMEOUT_S = 300


def preload() -> None:
    """Imports what the commands need, so that forked children have it."""
    import mlflow  # noqa: F401

    from pipeline.stages import ensemble, evaluate, fetch, preprocess, train  # noqa: F401


def make(root: Path) -> None:
    """A workspace with two trained nets, an ensemble of them and its evaluation."""
    shutil.copytree(REPOSITORY / "conf", root / "conf")
    shutil.copy(REPOSITORY / "params.yaml", root)
    run(root, "compose")
    run(root, "fetch")
    run(root, "preprocess")
    run(root, "train", "seed=1")
    run(root, "train")
    run(root, "ensemble")
    run(root, "evaluate")


def run(root: Path, verb: str, *more: str) -> None:
    """One verb, which has to succeed."""
    ended = pipeline(verb, *OVERRIDES, *more, cwd=root, timeout_s=TIMEOUT_S)
    if ended.code:
        raise RuntimeError(f"pipeline {verb}: {ended.summary()}\n{ended.output}")


def stop_after_two_validations(root: Path, seed: int) -> None:
    """A training that ended early, with its last checkpoint and the one before it."""
    ended = call(lambda: _stopped(root, seed), cwd=root, timeout_s=TIMEOUT_S)
    if ended.code:
        raise RuntimeError(ended.output)


def _stopped(root: Path, seed: int) -> None:
    from pipeline.run.fit import Stopped, fit

    steps: list[int] = []

    def report(validated: object) -> None:
        steps.append(1)
        if len(steps) == 2:
            raise Stopped

    fit(configured(root, f"seed={seed}"), root / "data" / "store" / "digits", report=report, track=False)


def configured(root: Path, *more: str):
    """The checked configuration with absolute paths."""
    from pipeline.anchor import anchor
    from pipeline.compose import compose
    from pipeline.config import from_dict

    return anchor(from_dict(compose(root, [*OVERRIDES, *more])), root)
