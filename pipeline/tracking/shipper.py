"""Ships a journal to MLflow from a thread: late if the server is slow, complete once it answers, never in the way."""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.atomic import read_if_whole, write_json
from pipeline.errors import DamagedError, hint
from pipeline.tracking import database, journal
from pipeline.tracking.location import (
    KEY_TAG,
    PARENT_TAG,
    Location,
    client,
    experiment_id,
    find_run,
    first_line,
    require_answer,
    store_id,
)

log = logging.getLogger(__name__)

STATE = "shipped.json"  # {"uri", "store_id", "run_id", "offset"}: how much of the journal MLflow has
PERIOD_S = 3.0
LOOK_S = 0.2  # between looks for the first metrics
BATCH = {"params": 100, "metrics": 1000}  # that a log_batch call may hold


class Shipper:
    """Follows `folder`/journal.jsonl until `close`.

    Args:
        folder: of a run, with its journal.
        location: of MLflow.
        system_metrics_every_s: sampling interval of MLflow's own system metrics of this machine; 0 for none.
        at_once: False waits for the first metrics. Importing MLflow takes seconds of a core and of the interpreter's
            lock, which the start of a training needs.
    """

    def __init__(self, folder: Path, location: Location, system_metrics_every_s: int = 0, at_once: bool = True) -> None:
        self._folder, self._location, self._every_s = folder, location, system_metrics_every_s
        self._at_once = at_once
        self._stop, self._monitor = threading.Event(), None
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="shipper", daemon=True)
        self._thread.start()

    def close(self, patience_s: float = 30.0) -> str | None:
        """Ships what is left and returns the run's id; None, with one warning, where MLflow did not answer."""
        if self._monitor is not None:
            self._monitor.finish()
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
        while not (self._at_once or _has_metrics(self._folder)) and not self._stop.wait(LOOK_S):
            pass
        while True:
            last = self._stop.is_set()
            try:
                ship(self._folder, self._location)
                self._failed = None
                if self._every_s and self._monitor is None and not last:
                    self._monitor = _start_monitor(run_id(self._folder), self._location, self._every_s)
            except Exception as error:  # whatever MLflow, its database or the network raise: the journal keeps the run
                self._failed = error
            if last:
                return
            self._stop.wait(PERIOD_S)


def _has_metrics(folder: Path) -> bool:
    """Whether the latest attempt has written any."""
    events = [event["event"] for event in journal.read(folder / journal.NAME)[0]]
    return "metrics" in events[len(events) - events[::-1].index("begin") :] if "begin" in events else False


def _start_monitor(run: str | None, location: Location, every_s: int) -> Any:
    import mlflow
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    if run is None:
        return None
    mlflow.set_tracking_uri(location.uri)
    monitor = SystemMetricsMonitor(run, sampling_interval=every_s, samples_before_logging=1)
    monitor.start()
    return monitor


def run_id(folder: Path, location: Location | None = None) -> str | None:
    """Id of the run at `location` (None: at any) that `folder`'s journal was shipped to; None before that."""
    path = database.file_of(location.uri) if location else None
    return _state(folder, location, database.made_at(path) if path else None).get("run_id")


def wait_for_run(folder: Path, patience_s: float, location: Location | None = None) -> str | None:
    """The run's id as soon as a shipper has it, see `run_id`; None after `patience_s`."""
    until = time.monotonic() + patience_s
    while (run := run_id(folder, location)) is None and time.monotonic() < until:
        time.sleep(0.1)
    return run


def _state(folder: Path, location: Location | None, store: int | None = None) -> dict[str, Any]:
    """What STATE says of `location`, where None is any; empty if the journal was shipped elsewhere or not at all.

    Args:
        store: `store_id` of the location; None where it does not matter.
    """
    state = read_if_whole(folder / STATE)  # without it the whole journal is shipped again, which changes nothing
    here = location is None or state.get("uri") == location.uri
    return state if here and store in (None, state.get("store_id")) else {}


def ship_all(runs: Path, location: Location) -> int:
    """Ships every journal below `runs` that MLflow does not have in full; returns how many it has now.

    A journal that cannot be shipped, for example because its run was deleted in MLflow, holds up no other; it is named in
    a warning.

    Raises:
        Exception: whatever MLflow raises where it does not answer.
    """
    paths = sorted(runs.glob(f"*/{journal.NAME}"))
    if not paths:
        return 0
    store, shipped = store_id(location), 0
    left = [
        path.parent for path in paths if _state(path.parent, location, store).get("offset", 0) != path.stat().st_size
    ]
    for folder in sorted(left, key=_turn):
        try:
            ship(folder, location)
            shipped += 1
        except Exception as error:  # of this run, unless MLflow has stopped to answer
            require_answer(location, f"{folder / journal.NAME} is to be shipped")
            log.warning("%s was not shipped to MLflow: %s", folder / journal.NAME, first_line(error))
    return shipped


def _turn(folder: Path) -> int:
    """Parents come first, because a child's run links to its parent's; test errors last, because they belong to a run."""
    begins = [event for event in journal.read(folder / journal.NAME)[0] if event["event"] == "begin"]
    return 2 if not begins else int(any(PARENT_TAG in event["tags"] for event in begins))


def ship(folder: Path, location: Location) -> None:
    """Replays what MLflow does not have yet of a folder's journal.

    Raises:
        Exception: whatever MLflow raises; the journal is unharmed and shipping can be tried again.
    """
    with (folder / "shipping").open("w") as lock:  # `pipeline sync` may meet the training's own shipper
        fcntl.flock(lock, fcntl.LOCK_EX)
        _ship(folder, location)


def _ship(folder: Path, location: Location) -> None:
    store = store_id(location)
    new = {"uri": location.uri, "store_id": store, "run_id": None, "offset": 0}
    state = {**new, **_state(folder, location, store)}
    if state["offset"] > (folder / journal.NAME).stat().st_size:  # the journal was cut short, which moved its lines
        state["offset"] = 0
    events, end = journal.read(folder / journal.NAME, state["offset"])
    if not events:
        return
    mlflow_client, begun = client(location), -1
    for at, event in enumerate(events):
        if event["event"] == "begin":
            begun, state["run_id"] = at, _begin(mlflow_client, location, event)
            write_json(folder / STATE, state)
    run = state["run_id"]
    if run is None and any(event["event"] != "tested" for event in events):
        raise DamagedError(
            f"{folder / journal.NAME} has lost the line that begins its run; remove {folder}/run.json and run the same "
            "training again, which goes on from its last checkpoint"
        )
    _log_metrics(mlflow_client, run, [event for event in events if event["event"] == "metrics"])
    for at, event in enumerate(events):
        if event["event"] == "tags":
            _set_tags(mlflow_client, run, event["tags"])
        elif event["event"] == "artifact" and Path(event["path"]).exists():
            mlflow_client.log_artifact(run, event["path"], event["folder"])
        elif event["event"] == "tested":
            _log_tested(mlflow_client, location, event)
        elif event["event"] == "end" and at > begun:  # the end of an attempt that another has followed is no news
            mlflow_client.set_terminated(run, event["status"], end_time=event["time"])
    write_json(folder / STATE, {**state, "offset": end})


def _begin(mlflow_client: Any, location: Location, event: dict[str, Any]) -> str:
    """Id of the run of a begin event: the earlier attempt's, running again, or a new one."""
    from mlflow.entities import Param

    experiment = experiment_id(mlflow_client, event["experiment"], location)
    tags = dict(event["tags"])
    parent = find_run(mlflow_client, experiment, tags[PARENT_TAG]) if PARENT_TAG in tags else None
    if parent is not None:
        tags["mlflow.parentRunId"] = parent.info.run_id
    run = find_run(mlflow_client, experiment, tags[KEY_TAG])
    if run is None:
        run = mlflow_client.create_run(experiment, start_time=event["time"], tags=tags, run_name=event["name"])
    else:
        mlflow_client.update_run(run.info.run_id, status="RUNNING")
        _set_tags(mlflow_client, run.info.run_id, tags)
    # MLflow's params cannot change, but where a run is trained may, from one attempt to the next.
    params = [Param(key, str(value)) for key, value in event["params"].items() if key not in run.data.params]
    _log(mlflow_client, run.info.run_id, "params", params)
    return run.info.run_id


def _log_metrics(mlflow_client: Any, run: str | None, events: list[dict[str, Any]]) -> None:
    from mlflow.entities import Metric

    points = [(event, *value) for event in events for value in event["values"].items()]
    metrics = [Metric(key, float(value), event["time"], event["step"]) for event, key, value in points]
    _log(mlflow_client, run, "metrics", metrics)


def _log_tested(mlflow_client: Any, location: Location, event: dict[str, Any]) -> None:
    """Adds test errors to a run that has ended; one that it has already is written again only where it has changed."""
    from mlflow.entities import Metric

    experiment = experiment_id(mlflow_client, event["experiment"], location)
    run = find_run(mlflow_client, experiment, event["key"])
    if run is None:
        log.warning("run %s is not in MLflow at %s, which therefore lacks its test errors", event["key"], location.uri)
        return
    earlier, ended = run.data.metrics, run.info.end_time or run.info.start_time
    points = [  # MLflow shows the latest value
        Metric(name, value, event["time"] if name in earlier else ended, event["step"])
        for name, value in event["values"].items()
        if earlier.get(name) != value
    ]
    _log(mlflow_client, run.info.run_id, "metrics", points)


def _log(mlflow_client: Any, run: str | None, kind: str, entries: list[Any]) -> None:
    for start in range(0, len(entries), BATCH[kind]):
        mlflow_client.log_batch(run, **{kind: entries[start : start + BATCH[kind]]})


def _set_tags(mlflow_client: Any, run: str | None, tags: dict[str, str]) -> None:
    for tag, value in tags.items():
        mlflow_client.set_tag(run, tag, value)
