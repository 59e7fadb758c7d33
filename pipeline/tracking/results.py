"""What the stages after training add to MLflow, by way of journals: ensembles, their files, test errors."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.atomic import replacing
from pipeline.tracking import shipper
from pipeline.tracking.journal import NAME, Journal, read
from pipeline.tracking.location import KEY_TAG, KIND_TAG, Location


def ensemble_run(
    runs: Path,
    location: Location,
    experiment: str,
    key: str,
    name: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    val_err1: float | None,
    since: float,
) -> str:
    """Id of the ensemble's run with this key, created if absent; its tags are updated.

    The run is complete in its journal before MLflow gets any of it, so that a kill leaves nothing that `pipeline sync` does
    not complete.

    Args:
        runs: folder of all runs.
        since: `time.monotonic()` when the ensemble's making began.
    Raises:
        Exception: whatever MLflow raises.
    """
    folder = runs / f"ensemble-{key}"
    tags = {**tags, KEY_TAG: key, KIND_TAG: "ensemble"}
    begins = [event for event in read(folder / NAME)[0] if event["event"] == "begin"]
    if not begins or (begins[-1]["name"], begins[-1]["tags"]) != (name, tags):
        journal = Journal(folder)
        journal.begin(name, experiment, dict(params), tags, since)
        if val_err1 is not None:
            journal.metrics(0, {"val_err1": val_err1})
        journal.end("FINISHED")
    shipped = shipper.ship(folder, location)
    assert shipped is not None  # since the journal has begun
    return shipped.run_id


def keep_files(runs: Path, key: str, files: Mapping[Path, str]) -> None:
    """Keeps copies of files as artifacts of the ensemble with this key, to be shipped as its own journal is.

    The next ensemble on the data set replaces the files themselves.

    Args:
        runs: folder of all runs.
        files: each with its folder among the artifacts.
    """
    folder = runs / f"ensemble-{key}"
    if not read(folder / NAME)[0]:
        return  # an ensemble that was made elsewhere
    journal = Journal(folder)
    for path, where in files.items():
        copy = folder / where / path.name
        with replacing(copy) as part:
            shutil.copyfile(path, part)
        journal.artifact(copy, where)


def keep_test_errors(runs: Path, experiment: str, errors: Mapping[str, tuple[int, Mapping[str, float]]]) -> None:
    """Writes test errors down, to be shipped as a run's own journal is; those that were written before are left out.

    Args:
        runs: folder of all runs.
        errors: by the run's key, the step that they belong to and their values.
    """
    folder = runs / f"tested-{experiment}"
    kept = {event["key"]: event["values"] for event in read(folder / NAME)[0] if event["event"] == "tested"}
    journal = Journal(folder)
    for key, (step, values) in errors.items():
        if kept.get(key) != values:
            journal.tested(experiment, key, step, values)
