"""Ships a journal to MLflow from a thread: late if the server is slow, complete once it answers, never in the way.

A run carries a tag that says how much of its journal MLflow has, so that MLflow itself answers this question, also one that
has taken another one's place. It is asked once; a process that goes on to ship remembers the answer until a call fails.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import read_if_whole, write_json
from pipeline.errors import DamagedError, first_line, hint
from pipeline.tracking import database, journal
from pipeline.tracking.location import (
    KEY_TAG,
    SHIPPED_TAG,
    Location,
    client,
    experiment_id,
    is_deleted,
    search,
)
from pipeline.tracking.replay import replay
from pipeline.tracking.system_metrics import PREFIX, SystemMetrics
from pipeline.tracking.writer import write

log = logging.getLogger(__name__)

STATE = "shipped.json"  # {"uri", "store_id", "run_id"}: the run, for those who do not ask MLflow
SHORT_TAG = 250  # characters that any database of MLflow holds
PERIOD_S = 3.0
LOOK_S = 0.2  # between looks for the first metrics, or for a turn to ship
TURN_S = 20.0  # shipping twice does no harm, not shipping does
# What MLflow answers where the run, or its experiment, is no longer there.
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")


@dataclass(frozen=True)
class Shipped:
    """A run of MLflow, and how many bytes of its journal it has."""

    run_id: str
    offset: int


class Shipper:
    """Follows `folder`/journal.jsonl until `close`.

    Args:
        folder: of a run, with its journal.
        location: of MLflow.
        samples: of this machine, which are taken from the first shipment on.
        at_once: False waits for the first metrics of a training. Importing MLflow takes seconds of a core and of the
            interpreter's lock, which the start of a training needs.
        kept: how many bytes of the journal are to be shipped: another attempt repeats what lies behind them. None: all.
    """

    def __init__(
        self,
        folder: Path,
        location: Location,
        samples: SystemMetrics | None = None,
        at_once: bool = True,
        kept: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._folder, self._location, self._samples, self._kept = folder, location, samples, kept
        path = folder / journal.NAME
        self._looked = 0 if at_once else path.stat().st_size  # where the look for the first metrics goes on
        self._at_once, self._stop = at_once, threading.Event()
        self._shipped: Shipped | None = None
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="shipper", daemon=True)
        self._thread.start()

    def close(self, patience_s: float = 30.0) -> str | None:
        """Ships what is left and returns the run's id; None, with one warning, where MLflow did not answer."""
        if self._samples is not None:
            self._samples.close()
        self._stop.set()
        self._thread.join(patience_s)
        if not self._failed and not self._thread.is_alive():
            return run_id(self._folder, self._location)
        log.warning(
            "MLflow at %s does not have all of %s yet%s; nothing is lost, the next stage or %s ships the rest",
            self._location.uri,
            self._folder / journal.NAME,
            f" ({first_line(self._failed)})" if self._failed else "",
            hint("sync"),
        )
        return None

    def _follow(self) -> None:
        while not (self._at_once or self._has_metrics()) and not self._stop.wait(LOOK_S):
            pass
        while True:
            last = self._stop.is_set()
            try:
                if self._samples is not None and not last:
                    self._samples.start()
                self._shipped = ship(self._folder, self._location, self._shipped, self._kept())
                self._failed = None
            except Exception as error:  # whatever MLflow, its database or the network raise: the journal keeps the run
                self._failed, self._shipped = error, None
            if last:
                return
            self._stop.wait(PERIOD_S)

    def _has_metrics(self) -> bool:
        """Whether the training has written any since the last look."""
        events, self._looked = journal.read(self._folder / journal.NAME, self._looked)
        return any(not key.startswith(PREFIX) for event in events for key in event.get("values", ()))


def run_id(folder: Path, location: Location | None = None) -> str | None:
    """Id of the run at `location` (None: at any) that `folder`'s journal was last shipped to; None before that.

    MLflow is not asked, and may have lost the run. Of a SQLite store it is known whether another has taken its place.
    """
    state = read_if_whole(folder / STATE)
    if location is None or _place(location).items() <= state.items():
        return state.get("run_id")
    return None


def wait_for_run(folder: Path, patience_s: float, location: Location | None = None) -> str | None:
    """The run's id as soon as a shipper has it, see `run_id`; None after `patience_s`."""
    until = time.monotonic() + patience_s
    while (run := run_id(folder, location)) is None and time.monotonic() < until:
        time.sleep(0.1)
    return run


def _place(location: Location) -> dict[str, Any]:
    """Names the store in STATE: its address and, of a SQLite store, when it was made."""
    path = database.file_of(location.uri)
    return {"uri": location.uri, **({"store_id": database.made_at(path)} if path else {})}


def keep_run_id(folder: Path, location: Location, run: str) -> None:
    """Writes the id down for `run_id`."""
    if run_id(folder, location) != run:
        write_json(folder / STATE, {**_place(location), "run_id": run})


def ship(folder: Path, location: Location, shipped: Shipped | None = None, until: int | None = None) -> Shipped | None:
    """Replays what MLflow does not have yet of a folder's journal; returns what it has then, None for an empty journal.

    A run that was deleted in MLflow is restored, since somebody works on it; one that is gone is made again.

    Args:
        shipped: what MLflow has, as an earlier call returned it; None asks MLflow.
        until: how many bytes of the journal are to be shipped; None for all.
    Raises:
        Exception: whatever MLflow raises; the journal is unharmed and shipping can be tried again.
    """
    with _turn(folder):
        mlflow_client = client(location)
        from mlflow.exceptions import MlflowException  # which has been imported by now

        try:
            return _ship(mlflow_client, folder, location, shipped, until)
        except MlflowException as error:
            if shipped is None or error.error_code not in GONE:
                raise
        return _ship(mlflow_client, folder, location, None, until)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Waits for another process that ships the journal, `pipeline sync` for example, but not for one that stands still."""
    with (folder / "shipping").open("wb") as lock:
        until = time.monotonic() + TURN_S
        while time.monotonic() < until:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(LOOK_S)
            except OSError:  # a file system without locks
                break
        yield


def _ship(
    mlflow_client: Any, folder: Path, location: Location, shipped: Shipped | None, until: int | None
) -> Shipped | None:
    path = folder / journal.NAME
    if until == 0:
        return shipped
    run: Any = None
    experiment = ""
    if shipped is None or shipped.offset > path.stat().st_size:
        begin = journal.begin_of(path)
        if begin is None:
            _require_empty(folder)
            return None
        experiment = experiment_id(mlflow_client, begin["experiment"], location)
        run = _run_of(mlflow_client, experiment, begin["tags"][KEY_TAG], location)
        shipped = Shipped(run.info.run_id, shipped_bytes(run, path)) if run else Shipped("", 0)
    events, end = journal.read(path, shipped.offset, until)
    if events:
        made = replay(events, folder)
        if made.first is not None and run is None:
            shipped_id = shipped.run_id
            run = mlflow_client.get_run(shipped_id) if shipped_id else _create(mlflow_client, experiment, made.first)
        shipped = Shipped(shipped.run_id or run.info.run_id, end)
        keep_run_id(folder, location, shipped.run_id)  # trials wait for their parent's run, not for its content
        write(mlflow_client, shipped.run_id, run, made, {SHIPPED_TAG: journal.mark(path, end)})
    keep_run_id(folder, location, shipped.run_id)
    return shipped


def _require_empty(folder: Path) -> None:
    """Raises DamagedError where the journal has events, of which none begins a run."""
    if journal.read(folder / journal.NAME)[0]:
        raise DamagedError(
            f"{folder / journal.NAME} has lost the line that begins its run; remove {folder}/run.json and run the same "
            "training again, which goes on from its last checkpoint"
        )


def shipped_bytes(run: Any, path: Path) -> int:
    """How much of the journal the run says that MLflow has; 0 where it speaks of another journal."""
    return journal.marked(path, run.data.tags.get(SHIPPED_TAG, ""))


def _run_of(mlflow_client: Any, experiment: str, key: str, location: Location) -> Any | None:
    """The run with this key, restored if it was deleted; None where MLflow has none."""
    runs = list(search(mlflow_client, [experiment], f"tags.`{KEY_TAG}` = '{key}'", deleted=True))
    if runs and all(is_deleted(run.info) for run in runs):
        mlflow_client.restore_run(runs[0].info.run_id)
        log.warning("run %s was deleted in MLflow at %s; it is restored", key, location.uri)
    return next((run for run in runs if not is_deleted(run.info)), next(iter(runs), None))


def _create(mlflow_client: Any, experiment: str, begin: dict[str, Any]) -> Any:
    # MLflow cuts a long tag to what its database holds only where tags are logged, as `write` does next.
    tags = {key: value for key, value in begin["tags"].items() if len(str(value)) <= SHORT_TAG}
    return mlflow_client.create_run(experiment, begin["time"], tags, run_name=begin["name"])
