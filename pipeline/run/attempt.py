"""One process's work on a run: the folder it holds, the journal it writes, the result it leaves."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, sha256, write_json
from pipeline.config import Config
from pipeline.learn.models import net_name
from pipeline.run.checkpoint import BEST, FolderLock
from pipeline.run.ranks import rank
from pipeline.run.stop import Interrupted
from pipeline.tracking import store as tracking
from pipeline.tracking.journal import Journal
from pipeline.tracking.shipper import Shipper, run_id, ship

RUN = "run.json"  # key, name, status, step, seconds, host, pid; the result once there is one
ENDING_S = 30.0  # for a killed process to let go of its run


@dataclass(frozen=True)
class FitResult:
    """What a training came to. Errors are fractions of the validation split; None where it is empty (data.split=full)."""

    key: str
    name: str
    folder: str
    run_id: str | None  # in MLflow; None while MLflow has not answered
    status: str  # finished, or stopped by a sweep's scheduler
    steps: int
    best_step: int
    val_err1: float | None
    val_err5: float | None
    seconds: float  # of training and validation, over all attempts
    images_per_s: float  # of the last attempt, validation included
    precision: str


def run_name(config: Config) -> str:
    """For example cifar10-resnet56-lr0.1-s0."""
    net = net_name(config.model.family, config.model.depth, config.model.residual, config.model.shortcut)
    return f"{config.data.name}-{net}-lr{config.recipe.lr:g}-s{config.seed}"


def location_of(config: Config) -> tracking.Location:
    """The MLflow that a configuration tracks its runs in."""
    return tracking.locate(config.tracking.uri, config.paths.mlruns)


def finished(folder: Path, location: tracking.Location | None) -> FitResult | None:
    """The result of a run that has nothing left to do, with its id at `location`."""
    if not (folder / RUN).exists() or not (folder / BEST).exists():
        return None
    run = read_json(folder / RUN)
    if run["status"] != "finished":
        return None
    return FitResult(**{**run["result"], "folder": str(folder), "run_id": run_id(folder, location)})


class Attempt:
    """What rank zero writes of a run; on other ranks `journal` is None and nothing is written."""

    def __init__(self, folder: Path, name: str, key: str, precision: str, journal: Journal | None) -> None:
        self.journal = journal
        self._folder, self._name, self._key, self._precision = folder, name, key, precision
        self._start = time.monotonic()
        earlier = read_json(folder / RUN) if (folder / RUN).exists() else {}
        self._earlier_s = earlier.get("seconds", 0.0)
        self.write("running", 0)

    def write(self, status: str, step: int, result: FitResult | None = None) -> None:
        if self.journal is not None:
            facts = {"key": self._key, "name": self._name, "status": status, "step": step, "seconds": self._seconds()}
            where = {"host": socket.gethostname(), "pid": os.getpid()}
            write_json(self._folder / RUN, {**facts, **where, "result": asdict(result) if result else None})

    def close(self, status: str, step: int, first_step: int, best: dict[str, float], batch_size: int) -> FitResult:
        """Result of the run, written to run.json and the journal, weights queued for upload."""
        seconds = time.monotonic() - self._start
        result = FitResult(
            key=self._key,
            name=self._name,
            folder=str(self._folder),
            run_id=None,
            status=status,
            steps=step,
            best_step=int(best["step"]),
            val_err1=best.get("val/err1"),
            val_err5=best.get("val/err5"),
            seconds=self._seconds(),
            images_per_s=(step - first_step) * batch_size / seconds,
            precision=self._precision,
        )
        if self.journal is not None:
            weights = self._folder / BEST
            summary = {f"best/{name.removeprefix('val/')}": value for name, value in best.items()}
            self.journal.metrics(step, {**summary, "seconds": result.seconds, "images_per_s": result.images_per_s})
            self.journal.artifact(weights, "checkpoints")
            self.journal.tags({tracking.CHECKPOINT_TAG: sha256(weights), tracking.STATUS_TAG: status})
            self.journal.end("FINISHED")
            self.write(status, step, result)
        return result

    def tag(self, tags: dict[str, str]) -> None:
        if self.journal is not None:
            self.journal.tags(tags)

    def fail(self, error: BaseException) -> None:
        # A second SIGINT comes out of Lightning as SystemExit.
        asked = isinstance(error, Interrupted | KeyboardInterrupt | SystemExit)
        if self.journal is not None:
            self.journal.tags({"pipeline.error": f"{type(error).__name__}: {error}"[:500]})
            self.journal.end("KILLED" if asked else "FAILED")
            self.write("interrupted" if asked else "failed", 0)

    def _seconds(self) -> float:
        return self._earlier_s + time.monotonic() - self._start


@contextmanager
def attempt_on(
    folder: Path, config: Config, key: str, content_hash: str, precision: str, tags: dict[str, str], track: bool
) -> Iterator[Attempt]:
    """Holds the run's folder, its journal and the shipper to MLflow for the block; on rank zero alone.

    Raises:
        ValueError: another process holds the folder.
    """
    if rank() != 0:
        yield Attempt(folder, run_name(config), key, precision, None)
        return
    with FolderLock(folder):
        journal = Journal(folder)
        journal.begin(
            run_name(config), config.data.name, _params(config, precision), {**_tags(config, key, content_hash), **tags}
        )
        attempt = Attempt(folder, run_name(config), key, precision, journal)
        location = location_of(config) if track else None
        every_s = config.tracking.system_metrics_every_s
        shipper = Shipper(folder, location, every_s, at_once=False) if location else None
        try:
            yield attempt
        except BaseException as error:
            attempt.fail(error)
            raise
        finally:
            if shipper is not None:
                shipper.close()


def end_cut_off(folder: Path, location: tracking.Location | None, statuses: Container[str] = ("running",)) -> None:
    """Says, in run.json, journal and MLflow, that a run was interrupted whose process was killed and could not.

    Args:
        statuses: of run.json, that such a process leaves behind.
    Raises:
        ValueError: another process still writes the run.
    """
    if not (folder / RUN).exists():
        return
    with FolderLock(folder, patience_s=ENDING_S):
        run = read_json(folder / RUN)
        if run["status"] not in statuses:
            return
        Journal(folder).end("KILLED")
        write_json(folder / RUN, {**run, "status": "interrupted"})
    if location is not None:
        try:
            ship(folder, location)
        except Exception as error:  # whatever MLflow raises; `pipeline sync` ships it later
            print(f"{folder}: MLflow has not heard that it was interrupted ({error})", file=sys.stderr)


def with_run_id(result: FitResult, location: tracking.Location | None) -> FitResult:
    return replace(result, run_id=run_id(Path(result.folder), location))


def _params(config: Config, precision: str) -> dict[str, Any]:
    """The configuration that decides the result, one flat key a value, as MLflow shows it."""
    values = config.to_dict()
    flat: dict[str, Any] = {"seed": config.seed, "precision": precision}
    for section in ("data", "model", "recipe", "start", "trainer"):
        for name, value in values[section].items():
            if isinstance(value, dict):
                flat.update({f"{section}.{name}.{leaf}": v for leaf, v in value.items()})
            else:
                flat[f"{section}.{name}"] = value
    return flat


def _tags(config: Config, key: str, content_hash: str) -> dict[str, str]:
    return {
        tracking.KEY_TAG: key,
        tracking.KIND_TAG: "train",
        tracking.DATA_TAG: content_hash,
        tracking.SPLIT_TAG: config.data.split,
    }
