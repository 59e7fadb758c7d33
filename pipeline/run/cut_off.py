"""A run whose process was killed: what it could not say itself is written for it."""

from __future__ import annotations

import sys
from collections.abc import Container
from pathlib import Path

from pipeline.atomic import read_if_whole, write_json
from pipeline.errors import first_line
from pipeline.run import LAST, RUN
from pipeline.run.shared import bring, held
from pipeline.tracking.journal import Journal
from pipeline.tracking.location import Location
from pipeline.tracking.shipper import ship

ENDING_S = 30.0  # that a killed process may take to release its run


def end_cut_off(folder: Path, storage: str, location: Location | None, statuses: Container[str] = ("running",)) -> None:
    """Marks a run whose process was killed as interrupted, in run.json, the journal and MLflow.

    Args:
        storage: cluster.storage.
        statuses: which statuses in run.json count as left behind by a killed process.
    Raises:
        PipelineError: another process still writes the run.
    """
    bring(folder, storage, without=(LAST,))
    if read_if_whole(folder / RUN).get("status") not in statuses:
        return
    with held(folder, storage, patience_s=ENDING_S) as claim:
        run = read_if_whole(folder / RUN)
        if run.get("status") not in statuses:
            return
        Journal(folder, claim.require).end("KILLED")
        write_json(folder / RUN, {**run, "status": "interrupted"}, require=claim.require)
    if location is not None:
        try:
            ship(folder, location)
        except Exception as error:  # whatever MLflow raises; `pipeline sync` ships it later
            print(f"{folder}: MLflow does not have it as interrupted yet ({first_line(error)})", file=sys.stderr)
