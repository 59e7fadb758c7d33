"""sync: compares what MLflow has with every journal, and ships what it lacks."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.run import LAST
from pipeline.run.shared import bring_all
from pipeline.tracking.location import locate, require_answer
from pipeline.tracking.sync import Synced, sync
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    location = locate(config.tracking.uri, config.paths.mlruns)
    require_answer(location, "journals are to be shipped")
    bring_all(Path(config.paths.runs), config.cluster.storage, without=(LAST,))
    done = sync(Path(config.paths.runs), location, thorough=True)
    print(_sentence(done, location.uri))
    if done.failed:
        raise PipelineError(f"{done.failed} of {done.journals} journals could not be shipped; the lines above say why")


def _sentence(done: Synced, uri: str) -> str:
    there = done.journals - done.shipped - done.failed
    parts = [f"{_count(done.shipped, 'journal')} shipped to {uri}, which had {_count(there, 'other')} in full"]
    parts += [f"the deleted experiment {name} restored with its runs" for name in done.experiments]
    if done.restored:
        parts.append(f"{_count(done.restored, 'deleted run')} restored")
    return "; ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
