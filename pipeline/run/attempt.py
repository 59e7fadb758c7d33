"""An attempt at a run: one process holds the folder, writes the journal and leaves the record."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from pipeline.atomic import read_if_whole, sha256, write_json
from pipeline.errors import first_line
from pipeline.learn.training.divergence import DivergedError
from pipeline.record import Net
from pipeline.run import CONFIG, LAST, PREVIOUS, RUN, Interrupted, described
from pipeline.run.claim import Claim, TakenOver
from pipeline.run.continuing import predecessor
from pipeline.run.inputs import Input
from pipeline.run.run import Run
from pipeline.run.served import queue_model
from pipeline.run.weights import BEST
from pipeline.tracking import location as tracking
from pipeline.tracking.journal import NAME as JOURNAL
from pipeline.tracking.journal import Journal, read
from pipeline.tracking.lineage import machine
from pipeline.tracking.replay import replay
from pipeline.tracking.shipper import Shipper
from pipeline.tracking.system_metrics import SystemMetrics

TRAIN = "train"  # kind of a run unless its tags say another


class Attempt:
    """Writes run.json and the journal on rank zero; on other ranks `journal` is None and nothing is written.

    Args:
        claim: rank zero's right to write the folder; None on other ranks.
    Attributes:
        step: optimiser steps made so far; the recorder keeps it up to date.
        first_step: the step at which this attempt began.
        processors: those of all attempts, see `Net.processors`.
    """

    def __init__(self, run: Run, claim: Claim | None = None) -> None:
        self.run, self._claim = run, claim
        self.journal = Journal(run.folder, claim.require) if claim else None
        self._start = time.monotonic()
        earlier = read_if_whole(run.folder / RUN)
        # Without run.json, the seconds and processors of earlier attempts are not known.
        lost = not earlier and (run.folder / LAST).exists()
        if claim and not (earlier or lost):  # a run that goes on from another one counts that one's seconds, too
            earlier = predecessor(run.config)
        self._earlier_s: float | None = None if lost else earlier.get("seconds", 0.0)
        self.processors = tuple(earlier.get("processors", ()))
        self.step = self.first_step = earlier.get("step", 0)

    def require(self) -> None:
        """Called right before each write; raises `claim.TakenOver` if a newer attempt owns the run."""
        if self._claim is not None:
            self._claim.require()

    def begin(self, step: int, processors: str) -> None:
        """Called right before the first step of this attempt, with its processors."""
        self.step = self.first_step = step
        if self.journal is not None and self._claim is not None:
            self.journal.attempt(step, self._claim.ordinal)
        if self.processors or step == 0:  # else those that made the steps before are not known
            self.processors = tuple(dict.fromkeys((*self.processors, processors)))

    def write(self, status: str, net: Net | None = None, images: Sequence[int] = ()) -> None:
        if self.journal is None:
            return
        values = {"key": self.run.key, "name": self.run.name, "status": status, "step": self.step}
        values |= {"seconds": self._seconds(), "processors": self.processors}
        values |= {"host": socket.gethostname(), "pid": os.getpid()}
        write_json(
            self.run.folder / RUN,
            {**values, "net": net.to_json() if net else None, **({"images": images} if images else {})},
            require=self.require,
        )

    def close(self, net: Net, input: Input) -> Net:
        """Writes the final record to run.json and the journal, queues weights and model for upload, returns the record."""
        seconds = time.monotonic() - self._start
        rate = (self.step - self.first_step) * self.run.config.recipe.batch_size / seconds
        net = replace(net, steps=self.step, seconds=self._seconds(), processors=self.processors, images_per_s=rate)
        if self.journal is None:
            return net
        weights = self.run.folder / BEST
        net = replace(net, checkpoint_sha256=sha256(weights))
        errors = {"best_val_err1": net.val_err1, "best_val_err5": net.val_err5}
        measured = {name: value for name, value in errors.items() if value is not None}
        seconds_of_all = {} if net.seconds is None else {"seconds": net.seconds}
        self.journal.metrics(self.step, {**measured, "best_step": net.step, **seconds_of_all, "images_per_s": rate})
        self.journal.artifact(weights, "checkpoints")
        if net.complete:
            queue_model(self.journal, weights, net, input, self.run.manifest, self.require)
        status = "finished" if net.complete else "stopped"
        self.journal.tags({tracking.CHECKPOINT_TAG: net.checkpoint_sha256, tracking.STATUS_TAG: status})
        self.journal.tags({tracking.NET_TAG: net.to_tag(), tracking.ERROR_TAG: None})  # an earlier attempt's
        self.journal.end("FINISHED")
        self.write(status, net)
        if net.complete:
            (self.run.folder / PREVIOUS).unlink(missing_ok=True)
        return net

    def tag(self, tags: dict[str, str]) -> None:
        if self.journal is not None:
            self.journal.tags(tags)

    def fail(self, error: BaseException) -> None:
        # A second SIGINT comes out of Lightning as SystemExit.
        interrupted = isinstance(error, Interrupted | KeyboardInterrupt | SystemExit)
        if self.journal is not None:
            # A full disk, or a newer attempt, then ended the training and is the error to show.
            with suppress(OSError, TakenOver):
                self.journal.tags({tracking.ERROR_TAG: f"{type(error).__name__}: {first_line(error)}"[:500]})
                self.journal.end("KILLED" if interrupted else "FAILED")
                images = error.images if isinstance(error, DivergedError) else ()
                self.write("interrupted" if interrupted else "failed", images=images)

    def _seconds(self) -> float | None:
        return None if self._earlier_s is None else self._earlier_s + time.monotonic() - self._start


def is_part(run: Run, tags: Mapping[str, str]) -> bool:
    """Whether MLflow has the finished run as one of the kind SEARCH, where these `tags` make it a training of its own."""
    kind = replay(read(run.folder / JOURNAL)[0], run.folder).tags.get(tracking.KIND_TAG)
    return kind == tracking.SEARCH != tags.get(tracking.KIND_TAG, TRAIN)


def make_whole(run: Run, claim: Claim) -> None:
    """Makes such a run a training of its own, which ensembles may choose."""
    Journal(run.folder, claim.require).tags({tracking.KIND_TAG: TRAIN})
    claim.secure()
    if run.location is not None:
        Shipper(run.folder, run.location, kept=claim.kept).close()


@contextmanager
def attempt_on(run: Run, claim: Claim, tags: dict[str, str]) -> Iterator[Attempt]:
    """Rank zero's attempt; its journal is shipped to MLflow for the block.

    Args:
        tags: for MLflow, beside the run's own and this machine's.
    """
    config, net, attempt = run.config, run.net, Attempt(run, claim)
    if (journal := attempt.journal) is not None:
        run_tags = {tracking.KEY_TAG: run.key, tracking.KIND_TAG: TRAIN, tracking.DATA_TAG: net.data}
        run_tags |= {tracking.SPLIT_TAG: net.split, tracking.NET_TAG: net.to_tag()}
        if config.start.checkpoint:
            run_tags[tracking.CONTINUES_TAG] = config.start.checkpoint
        run_tags[tracking.NOTE_TAG] = described.note(run)
        params = described.params(run, tags.get(tracking.VARIED_TAG, ""))
        journal.begin(run.name, config.data.name, params, {**run_tags, **tags, **machine()})
        described.write_config(run, claim.require)
        journal.artifact(run.folder / CONFIG, "config")
        attempt.write("running")
        every_s = config.tracking.system_metrics_every_s
        samples = SystemMetrics(journal, every_s) if every_s else None
        shipper = Shipper(run.folder, run.location, samples, at_once=False, kept=claim.kept) if run.location else None
        try:
            yield attempt
        except BaseException as error:
            attempt.fail(error)
            raise
        finally:
            claim.secure()
            if shipper is not None:
                shipper.close()
