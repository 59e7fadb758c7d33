"""Makes MLflow agree with the journals, by what MLflow itself says that it has.

Its runs are searched in pages, so that thousands of journals take some dozens of calls; what is missing is shipped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.errors import PipelineError, first_line, hint
from pipeline.tracking import database, journal, models
from pipeline.tracking.location import (
    KEY_TAG,
    PARENT_TAG,
    SHIPPED_TAG,
    Location,
    client,
    is_deleted,
    require_answer,
    search,
)
from pipeline.tracking.replay import Replay, replay
from pipeline.tracking.shipper import Shipped, keep_run_id, ship, shipped_bytes
from pipeline.tracking.writer import MLFLOW_PARENT_TAG

log = logging.getLogger(__name__)

KEPT = 5000  # characters that MLflow keeps of a tag at the least
Place = tuple[str, str]  # an experiment's name and a run's key


@dataclass
class Synced:
    """What `sync` found and did.

    Attributes:
        shipped: journals of which MLflow lacked something.
        experiments: deleted ones that are restored, with all of their runs.
        restored: deleted runs that are restored; without those of `experiments`.
        deleted: runs that are left deleted.
        failed: journals that could not be shipped, each named in a warning.
    """

    journals: int = 0
    shipped: int = 0
    experiments: list[str] = field(default_factory=list)
    restored: int = 0
    deleted: int = 0
    failed: int = 0


def sync(runs: Path, location: Location, *, thorough: bool = False) -> Synced:
    """Ships what MLflow lacks of the journals below `runs`.

    A journal that cannot be shipped holds up no other. What was deleted in MLflow stays so, which a line says, unless the
    call is thorough. A finished run that another folder's journal of the same training has filled is left as it is.

    Args:
        thorough: compares the content of the journals with what MLflow has, which takes calls for the model of each training,
            and restores what was deleted there. Else the tag that shipping leaves is believed, and no journal that has it in
            full is read.
    Raises:
        PipelineError: MLflow does not answer, or cannot read its own runs.
    """
    return _Sync(runs, location, thorough).run()


class _Sync:
    def __init__(self, runs: Path, location: Location, thorough: bool) -> None:
        self._location, self._thorough = location, thorough
        self._folders = [path.parent for path in sorted(runs.glob(f"*/{journal.NAME}"))]
        self._done = Synced(len(self._folders))
        self._client: Any = None
        self._lost: set[str] = set()  # experiments that stay deleted
        self._there: dict[Place, Any] = {}  # runs of MLflow, the active one where there are several

    def run(self) -> Synced:
        begins: dict[Path, dict[str, Any]] = {}
        tested: dict[Path, dict[Place, dict[str, Any]]] = {}
        for folder in self._folders:
            if begin := journal.begin_of(folder / journal.NAME):
                begins[folder] = begin
            elif errors := _test_errors(folder):
                tested[folder] = errors
            else:  # an empty journal, or a damaged one
                self._try(folder, partial(self._ship, folder))
        names = {begin["experiment"] for begin in begins.values()} | {name for e in tested.values() for name, _ in e}
        try:
            self._ask(sorted(names))
        except PipelineError:
            raise
        except Exception as error:  # of MLflow or SQLAlchemy, for example where a value of the database has changed
            require_answer(self._location, "journals are to be shipped")
            raise _unreadable(self._location, error) from error
        parents = {begin["tags"].get(PARENT_TAG) for begin in begins.values()}
        # A child's run links to its parent's, and test errors belong to a run.
        for folder in sorted(begins, key=lambda folder: begins[folder]["tags"].get(KEY_TAG) not in parents):
            self._try(folder, partial(self._run, folder, begins[folder]))
        for folder, errors in tested.items():
            self._try(folder, partial(self._test_errors, errors))
        if self._done.deleted:
            log.warning(
                "the runs of %d journals were deleted in MLflow at %s and stay so; %s restores them",
                self._done.deleted,
                self._location.uri,
                hint("sync"),
            )
        return self._done

    def _try(self, folder: Path, step: Callable[[], bool]) -> None:
        """Counts the journal as shipped if `step` returns that it was."""
        try:
            self._done.shipped += step()
        except Exception as error:  # of this run, unless MLflow has stopped to answer
            require_answer(self._location, f"{folder / journal.NAME} is to be shipped")
            self._done.failed += 1
            log.warning("%s was not shipped to MLflow: %s", folder / journal.NAME, first_line(error))

    def _ask(self, names: Sequence[str]) -> None:
        """Reads the runs that have a key in the experiments of these names."""
        if not names:
            return
        self._client, experiments = client(self._location), {}
        for name in names:
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                continue
            if is_deleted(experiment):
                if self._thorough:
                    self._client.restore_experiment(experiment.experiment_id)
                    self._done.experiments.append(name)
                else:
                    self._lost.add(name)
            experiments[experiment.experiment_id] = name
        for run in search(self._client, list(experiments), f"tags.`{KEY_TAG}` != ''", deleted=True):
            place = experiments[run.info.experiment_id], run.data.tags[KEY_TAG]
            if place not in self._there or is_deleted(self._there[place].info) > is_deleted(run.info):
                self._there[place] = run

    def _run(self, folder: Path, begin: dict[str, Any]) -> bool:
        """Whether something was shipped of the journal."""
        path, place = folder / journal.NAME, (begin["experiment"], begin["tags"][KEY_TAG])
        run = self._there.get(place)
        if place[0] in self._lost or (run is not None and is_deleted(run.info) and not self._thorough):
            self._done.deleted += 1
            return False
        have = None if run is None else Shipped(run.info.run_id, shipped_bytes(run, path))
        if run is not None and have is not None:
            if restored := is_deleted(run.info):
                self._client.restore_run(have.run_id)
                self._done.restored += 1
                run = self._there[place] = self._client.get_run(have.run_id)
            if _of_another_journal(run, have) or not (restored or self._lacks(run, have, folder, begin)):
                keep_run_id(folder, self._location, have.run_id)
                return False
            if restored or have.offset == path.stat().st_size:
                have = Shipped(have.run_id, 0)  # something is missing, so that all is shipped again
        return self._ship(folder, have, place)

    def _ship(self, folder: Path, have: Shipped | None = None, place: Place | None = None) -> bool:
        shipped = ship(folder, self._location, have)
        if shipped is not None and place is not None:
            self._there[place] = self._client.get_run(shipped.run_id)
        return shipped != have

    def _lacks(self, run: Any, have: Shipped, folder: Path, begin: dict[str, Any]) -> bool:
        path = folder / journal.NAME
        if have.offset != path.stat().st_size or self._lacks_parent(run, begin["experiment"], begin["tags"]):
            return True
        if not self._thorough:
            return False
        made = replay(journal.read(path)[0], folder)
        return (
            lacks(run, made)
            or self._lacks_parent(run, begin["experiment"], made.tags)
            or (self._location.artifacts != "" and _lacks_artifacts(run, made))
            or (made.model is not None and not models.keeps(self._client, run, made.model[1]))
        )

    def _lacks_parent(self, run: Any, experiment: str, tags: Mapping[str, str | None]) -> bool:
        parent = self._there.get((experiment, tags.get(PARENT_TAG) or ""))
        if parent is None or is_deleted(parent.info):
            return False
        return run.data.tags.get(MLFLOW_PARENT_TAG) != parent.info.run_id

    def _test_errors(self, errors: Mapping[Place, dict[str, Any]]) -> bool:
        return sum(self._log_tested(place, event) for place, event in errors.items()) > 0  # each of them

    def _log_tested(self, place: Place, event: dict[str, Any]) -> bool:
        """Adds test errors to a run that has ended; one that it has already is written again only where it has changed."""
        from mlflow.entities import Metric

        run = self._there.get(place)
        if run is None:
            log.warning(
                "run %s is not in MLflow at %s, which therefore lacks its test errors", place[1], self._location.uri
            )
        if run is None or is_deleted(run.info):
            return False
        earlier, ended = run.data.metrics, run.info.end_time or run.info.start_time
        points = [  # MLflow shows the latest value
            Metric(name, value, event["time"] if name in earlier else ended, event["step"])
            for name, value in event["values"].items()
            if earlier.get(name) != value
        ]
        if points:
            self._client.log_batch(run.info.run_id, metrics=points)
        return bool(points)


def _unreadable(location: Location, error: Exception) -> PipelineError:
    path = database.file_of(location.uri)
    remedy = database.remedy(path) if path else "its own log says why"
    return PipelineError(f"MLflow at {location.uri} cannot read its own runs ({first_line(error)}); {remedy}")


def _test_errors(folder: Path) -> dict[Place, dict[str, Any]]:
    """The latest test errors of each run that the journal has any of."""
    errors: dict[Place, dict[str, Any]] = {}
    for event in journal.read(folder / journal.NAME)[0]:
        if event["event"] == "tested":
            place = event["experiment"], event["key"]
            values = {**errors.get(place, {}).get("values", {}), **event["values"]}
            errors[place] = {**event, "values": values}
    return errors


def _of_another_journal(run: Any, have: Shipped) -> bool:
    """Whether a run holds another folder's finished training of the same key; to repeat it would double its curves."""
    mark = run.data.tags.get(SHIPPED_TAG, "")
    return run.info.status == "FINISHED" and journal.MARK.fullmatch(mark) is not None and not have.offset


def lacks(run: Any, made: Replay) -> bool:
    """Whether a run lacks a param, a tag, the last value of a metric, or the status that the journal came to."""
    data = run.data
    last = {point.key: point.value for point in made.points}
    return (
        not made.params.keys() <= data.params.keys()
        or any(not _same(data.tags.get(tag), value) for tag, value in made.tags.items())
        or any(data.metrics.get(key, math.nan) != value for key, value in last.items() if math.isfinite(value))
        or not last.keys() <= data.metrics.keys()
        or made.status not in (None, "RUNNING", run.info.status)
    )


def _same(there: str | None, value: str | None) -> bool:
    """Whether MLflow has the value of a tag, or none; it cuts long ones."""
    return there == value or (
        there is not None and value is not None and len(there) >= KEPT and value.startswith(there)
    )


def _lacks_artifacts(run: Any, made: Replay) -> bool:
    """Whether files of a local store are gone or were cut short."""
    root = Path(url2pathname(urlsplit(run.info.artifact_uri).path))
    return any(_size(root / folder / path.name) != _size(path) for path, folder in made.artifacts)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
