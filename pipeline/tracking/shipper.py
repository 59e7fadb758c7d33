"""Ships a journal to MLflow from a thread: late if the server is slow, complete once it answers, never in the way."""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, write_json
from pipeline.tracking import journal
from pipeline.tracking.location import KEY_TAG, PARENT_TAG, Location, client, experiment_id, find_run

log = logging.getLogger(__name__)

STATE = "shipped.json"  # {"run_id", "uri", "offset"}: how much of the journal MLflow has
PERIOD_S = 3.0
LOOK_S = 0.2  # between looks for the first metrics
BATCH = 1000  # metrics a log_batch call may hold


class Shipper:
    """Follows `folder`/journal.jsonl until `close`.

    Args:
        folder: of a run, with its journal.
        location: of MLflow.
        system_metrics_every_s: sampling interval of MLflow's own system metrics of this machine; 0 for none.
        at_once: False waits for the first metrics. Importing MLflow takes seconds of a core and of the interpreter's
            lock, and a training that begins should not share them.
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
        if self._failed or self._thread.is_alive():
            reason = f" ({self._failed})" if self._failed else ""
            log.warning(
                "MLflow at %s does not have all of %s yet%s; nothing is lost, the next stage or `pipeline sync` ships the rest",
                self._location.uri,
                self._folder / journal.NAME,
                str(reason).splitlines()[0] if reason else "",
            )
            return None
        return run_id(self._folder, self._location)

    def _follow(self) -> None:
        while not (self._at_once or _has_metrics(self._folder)) and not self._stop.wait(LOOK_S):
            pass
        while True:
            last = self._stop.is_set()
            try:
                ship(self._folder, self._location)
                self._failed = None
                if self._every_s and self._monitor is None and not last:
                    self._monitor = _start_monitor(run_id(self._folder, self._location), self._location, self._every_s)
            except Exception as error:  # whatever MLflow, its database or the network raise: the journal keeps the run
                self._failed = error
            if last:
                return
            self._stop.wait(PERIOD_S)


def _has_metrics(folder: Path) -> bool:
    """Whether the latest attempt has written any."""
    events = [event["event"] for event in journal.read(folder / journal.NAME)[0]]
    return "metrics" in events[len(events) - events[::-1].index("begin") :] if "begin" in events else False


def run_id(folder: Path, location: Location | None = None) -> str | None:
    """Id of the MLflow run that `folder`'s journal was shipped to, or None so far.

    Args:
        location: of the MLflow that is asked next; the id of another one's run is none there. None takes any.
    """
    path = folder / STATE
    state = read_json(path) if path.exists() else {}
    return None if location is not None and state.get("uri") != location.uri else state.get("run_id")


def ship(folder: Path, location: Location) -> None:
    """Replays what MLflow does not have yet of a folder's journal.

    Raises:
        Exception: whatever MLflow raises; the journal is unharmed and shipping can be tried again.
    """
    with (folder / "shipping").open("w") as one_at_a_time:  # `pipeline sync` may meet the training's own shipper
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        _ship(folder, location)


def _ship(folder: Path, location: Location) -> None:
    path = folder / STATE
    state = read_json(path) if path.exists() else {}
    if state.get("uri") != location.uri:
        state = {}  # another server knows nothing of this run
    events, end = journal.read(folder / journal.NAME, state.get("offset", 0))
    if not events:
        return
    mlflow_client = client(location)
    run = state.get("run_id")
    for event in [e for e in events if e["event"] == "begin"]:
        run = _begin(mlflow_client, location, event)
        write_json(path, {"run_id": run, "uri": location.uri, "offset": state.get("offset", 0)})
    _metrics(mlflow_client, run, [e for e in events if e["event"] == "metrics"])
    begun = max((at for at, event in enumerate(events) if event["event"] == "begin"), default=-1)
    for at, event in enumerate(events):
        if event["event"] == "tags":
            for tag, value in event["tags"].items():
                mlflow_client.set_tag(run, tag, value)
        elif event["event"] == "artifact" and Path(event["path"]).exists():
            mlflow_client.log_artifact(run, event["path"], event["folder"])
        elif event["event"] == "end" and at > begun:  # an earlier attempt's end is no news when a later one has begun
            mlflow_client.set_terminated(run, event["status"], end_time=event["time"])
    write_json(path, {"run_id": run, "uri": location.uri, "offset": end})


def ship_all(runs: Path, location: Location) -> int:
    """Ships every journal below `runs` that MLflow does not have in full; returns how many had something left."""
    left = []
    for path in sorted(runs.glob(f"*/{journal.NAME}")):
        state = path.parent / STATE
        shipped = read_json(state) if state.exists() else {}
        if shipped.get("uri") != location.uri or shipped.get("offset", 0) < path.stat().st_size:
            left.append(path.parent)
    for folder in sorted(left, key=_has_parent):  # a child's run is linked to its parent's, if there is one by then
        ship(folder, location)
    return len(left)


def _has_parent(folder: Path) -> bool:
    events, _ = journal.read(folder / journal.NAME)
    return any(PARENT_TAG in event["tags"] for event in events if event["event"] == "begin")


def _begin(mlflow_client: Any, location: Location, event: dict[str, Any]) -> str:
    """Id of the run of a begin event: the one made before, running again, or a new one."""
    from mlflow.entities import Param

    experiment = experiment_id(mlflow_client, event["experiment"], location)
    tags = dict(event["tags"])
    parent = find_run(mlflow_client, experiment, tags[PARENT_TAG]) if PARENT_TAG in tags else None
    if parent is not None:
        tags["mlflow.parentRunId"] = parent.info.run_id
    existing = find_run(mlflow_client, experiment, tags[KEY_TAG])
    if existing is None:
        existing = mlflow_client.create_run(experiment, start_time=event["time"], tags=tags, run_name=event["name"])
    else:
        mlflow_client.update_run(existing.info.run_id, status="RUNNING")
        for tag, value in tags.items():
            mlflow_client.set_tag(existing.info.run_id, tag, value)
    # Those it has stay: where a run was trained may change from one attempt to the next, and MLflow's params do not.
    params = [Param(k, str(v)) for k, v in event["params"].items() if k not in existing.data.params]
    for start in range(0, len(params), 100):
        mlflow_client.log_batch(existing.info.run_id, params=params[start : start + 100])
    return existing.info.run_id


def _metrics(mlflow_client: Any, run: str | None, events: list[dict[str, Any]]) -> None:
    from mlflow.entities import Metric

    metrics = [
        Metric(key, float(value), event["time"], event["step"])
        for event in events
        for key, value in event["values"].items()
    ]
    for start in range(0, len(metrics), BATCH):
        mlflow_client.log_batch(run, metrics=metrics[start : start + BATCH])


def _start_monitor(run: str | None, location: Location, every_s: int) -> Any:
    import mlflow
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    if run is None:
        return None
    mlflow.set_tracking_uri(location.uri)
    monitor = SystemMetricsMonitor(run, sampling_interval=every_s, samples_before_logging=1)
    monitor.start()
    return monitor


def wait_for_run(folder: Path, patience_s: float, location: Location | None = None) -> str | None:
    """The run's id (at `location`) as soon as a shipper has it, or None after `patience_s`."""
    until = time.monotonic() + patience_s
    while (existing := run_id(folder, location)) is None and time.monotonic() < until:
        time.sleep(0.1)
    return existing
