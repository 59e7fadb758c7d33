"""Which run a configuration names, before anything of it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.run.key import run_key
from pipeline.run.start import Start, starting_point
from pipeline.tracking.store import Location


@dataclass(frozen=True)
class Identity:
    key: str  # see `pipeline.run.key`
    folder: Path  # paths.runs/<key>
    content_hash: str  # of the store
    start: Start | None  # what it starts from; None for random weights


def identify(config: Config, store: Path, precision: str, location: Location | None) -> Identity:
    """The run, with the weights that it starts from read and checked.

    Args:
        store: folder that preprocess made.
        precision: what recipe.precision came to where the run is to be made, see `pipeline.learn.training.precision`.
        location: MLflow, which is asked for a run to start from that is not in paths.runs.

    Raises:
        FileNotFoundError, ValueError: of start.weights, see `pipeline.run.start`.
    """
    content_hash, runs = open_store(store).manifest.content_hash, Path(config.paths.runs)
    start = starting_point(config.start.weights, runs, location)
    if start is not None:
        start.check(config, content_hash, as_they_are=config.start.backbone_lr == 0)
    key = run_key(config, content_hash, precision, start.fingerprint if start else "")
    return Identity(key, runs / key, content_hash, start)
