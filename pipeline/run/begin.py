"""What all ranks must agree on before the first step: the run, whether it has finished, and where it goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.errors import PipelineError
from pipeline.learn.training.precision import uses_cuda
from pipeline.record import Net, from_json
from pipeline.run.attempt import Attempt, attempt_on, is_part, make_whole
from pipeline.run.checkpoint import resumable
from pipeline.run.continuing import take_over
from pipeline.run.key import run_key
from pipeline.run.launch import Launched, rank
from pipeline.run.run import Run, identify
from pipeline.run.shared import held, objects_of
from pipeline.storage.copy import is_stored


@dataclass(frozen=True)
class Beginning:
    """The same on all ranks, but for rank zero's own parts of `run` and `attempt`."""

    run: Run
    attempt: Attempt
    finished: Net | None  # the record of a run that is not to be trained
    checkpoint: Path | None  # on rank zero's disk
    step: int  # of the checkpoint, 0 without one
    compiled: bool | None = (
        None  # whether the steps before the checkpoint were; None without one, and for several ranks
    )


@contextmanager
def begun(
    config: Config,
    store: Path,
    ranks: Launched,
    *,
    tags: dict[str, str],
    asked: Callable[[], bool],
    owner: str,
    track: bool,
) -> Iterator[Beginning]:
    """Owns and tracks the run for the block, on rank zero; see `pipeline.run.fit.fit` for the arguments.

    Raises:
        PipelineError: see `fit`; on another rank also if its data, code or configuration would make another run, or if it has no
            GPU where rank zero has one, or the reverse.
        meeting.RefusedByRankZero: on another rank, if rank zero raised.
    """
    with ExitStack() as open_:
        if rank() == 0:
            with ranks.deciding():
                here = _beginning(identify(config, store, track=track), tags, asked, owner, open_)
                ranks.decide(lambda: _told(here))
        else:
            here = _follow(config, store, ranks)
        if here.finished is not None:
            ranks.part()
        yield here


def _beginning(run: Run, tags: dict[str, str], asked: Callable[[], bool], owner: str, open_: ExitStack) -> Beginning:
    finished, storage = run.finished(), run.config.cluster.storage
    stored = not storage or is_stored(run.folder, objects_of(storage, run.folder))
    if finished is None or not stored or is_part(run, tags):
        claim = open_.enter_context(held(run.folder, storage, owner, math.inf if owner else 0.0, asked))
        finished = run.finished()  # by the attempt that was waited for
    if finished is not None:
        if is_part(run, tags):
            make_whole(run, claim)
        return Beginning(run, Attempt(run), finished, None, finished.steps)
    attempt = open_.enter_context(attempt_on(run, claim, tags))
    checkpoint = resumable(run.folder, run.key)
    if checkpoint is None and run.config.start.checkpoint:
        checkpoint = take_over(run.config, run.folder, run.key, attempt.require)
    return Beginning(run, attempt, None, checkpoint, *_state_of(checkpoint))


def _told(here: Beginning) -> dict[str, Any]:
    return {
        "key": here.run.key,
        "cuda": uses_cuda(here.run.config.trainer.accelerator),
        "precision": here.run.precision,
        "start": here.run.start.fingerprint if here.run.start else "",
        "finished": here.finished.to_json() if here.finished else None,
        "checkpoint": str(here.checkpoint) if here.checkpoint else None,
        "step": here.step,
    }


def _follow(config: Config, store: Path, ranks: Launched) -> Beginning:
    """Another rank's part: it trains what rank zero trains, with weights that come from there."""
    decision = ranks.decide(dict)
    try:
        manifest = open_store(store).manifest
        key = run_key(config, manifest.content_hash, decision["precision"], decision["start"])
        if key != decision["key"]:
            raise PipelineError(
                f"would train run {key}, and rank zero trains run {decision['key']}; give all machines the same data "
                f"({store} here), code and configuration"
            )
        if (cuda := uses_cuda(config.trainer.accelerator)) != decision["cuda"]:
            here, there = ("GPU", "CPU") if cuda else ("CPU", "GPU")
            raise PipelineError(
                f"would train on its {here}, and rank zero trains on its {there}; mend the machine where `nvidia-smi` lists no "
                "GPU, or train on the CPUs of all (override: trainer.accelerator=cpu)"
            )
    except PipelineError as error:
        ranks.quit(str(error))
        raise
    run = Run(config=config, manifest=manifest, precision=decision["precision"], start=None, location=None, key=key)
    finished = from_json(decision["finished"]) if decision["finished"] else None
    checkpoint = Path(decision["checkpoint"]) if decision["checkpoint"] else None
    return Beginning(run, Attempt(run), finished, checkpoint, decision["step"])


def _state_of(checkpoint: Path | None) -> tuple[int, bool | None]:
    if checkpoint is None:
        return 0, None
    content = torch.load(checkpoint, "cpu", weights_only=True, mmap=True)
    return content["global_step"], content["classifier"].get("compiled")
