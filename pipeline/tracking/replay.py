"""What a journal's events come to: one run of MLflow, whatever number of attempts wrote them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Point(NamedTuple):
    """A value of a metric; the time is in milliseconds since 1970."""

    key: str
    value: float
    time: int
    step: int


@dataclass
class Replay:
    """What is to be found in MLflow once the events are there.

    Attributes:
        first: the first event that begins an attempt; None where the events go on with one.
        params: the first attempt's, since MLflow's params cannot change, and what later ones add.
        tags: None for one that is to be removed.
        status: RUNNING or what the last attempt ended with; None where no attempt begins or ends.
        end_time: of an ended run, in milliseconds since 1970.
        artifacts: files below the journal's folder, each with its folder in MLflow; those that are gone are left out.
        model: the run's model: what it needs beside its weights, and these by their sha256. None where a file is gone.
    """

    first: dict[str, Any] | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    artifacts: dict[tuple[Path, str], None] = field(default_factory=dict)
    model: tuple[Path, dict[str, Path]] | None = None
    status: str | None = None
    end_time: int = 0


def replay(events: Iterable[dict[str, Any]], folder: Path) -> Replay:
    """What the events come to.

    Args:
        folder: of the journal.
    """
    made = Replay()
    for event in events:
        match event["event"]:
            case "begin":
                made.first, made.status = made.first or event, "RUNNING"
                made.params = {**{key: str(value) for key, value in event["params"].items()}, **made.params}
                made.tags |= event["tags"]
            case "metrics":
                made.points += [
                    Point(key, float(value), event["time"], event["step"]) for key, value in event["values"].items()
                ]
            case "tags":
                made.tags |= event["tags"]
            # The next ensemble's evaluation replaces files outside of the folder.
            case "artifact" if (path := folder / event["path"]).is_relative_to(folder) and path.exists():
                made.artifacts[path, event["folder"]] = None
            case "model":
                served = folder / event["path"]
                weights = {digest: folder / name for digest, name in event["weights"].items()}
                made.model = (served, weights) if all(map(Path.exists, (served, *weights.values()))) else None
            case "end":
                made.status, made.end_time = event["status"], event["time"]
    return made
