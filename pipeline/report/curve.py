"""A run's learning curves, and the errors that claims read from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.record import Net, from_json
from pipeline.report.paper import Metric

TRAIN, VAL = "train/err1", "val/err1"
EARLY_TRAIN = "train/err1 at first"  # of kept results: a warm-up's steps before they are averaged over windows
TRAIN_WINDOWS = 50  # parts of a training; a training error is the mean over the last of them
EARLY = 1 / 4  # share of a training, before the learning rate first drops, that shows how fast a net converges

COUNTED = {"train": 1 / TRAIN_WINDOWS, "early": EARLY}  # share of the steps whose training images an error counts


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A run's learning curves."""

    net: Net
    points: Mapping[str, Sequence[tuple[float, float | None]]]  # by metric: (step, value)
    errors: Mapping[str, Any] = field(default_factory=dict)  # for claims, where the points have been thinned

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Curve:
        return cls(net=from_json(values["net"]), points=values["points"], errors=values.get("errors", {}))

    def series(self, metric: str) -> list[tuple[float, float]]:
        """Finite points in order of step; a diverged run's NaN shortens the line."""
        points = ((step, value) for step, value in self.points.get(metric, []) if value is not None)
        return sorted((step, value) for step, value in points if math.isfinite(value))

    @property
    def last_error(self) -> float | None:
        """The last validation error, else the last training error."""
        values = self.series(VAL) or self.series(TRAIN)
        return values[-1][1] if values else None

    @cached_property
    def steps(self) -> int:
        """The last step of the curves."""
        return int((self.series(VAL) or self.series(TRAIN))[-1][0])

    def error(self, metric: Metric) -> float | None:
        """The error that claims compare; None where none was recorded. See `pipeline.report.trainings.trainings`."""
        if self.errors:
            value: float | None = self.errors[metric]
            return value
        if metric == "validation":
            return val[-1][1] if (val := self.series(VAL)) else None
        train = self.series(TRAIN)
        if metric == "early":
            errors = [error for step, error in train if step <= EARLY * self.steps]
        else:
            errors = [error for step, error in train if step > (1 - COUNTED["train"]) * self.steps]
        return sum(errors) / len(errors) if errors else None

    def by_part(self) -> Sequence[float | None]:
        """Mean training error in each of the `TRAIN_WINDOWS` parts of a training; None in a part without a point."""
        if self.errors:
            kept: Sequence[float | None] = self.errors["parts"]
            return kept
        parts: list[list[float]] = [[] for _ in range(TRAIN_WINDOWS)]
        for step, error in self.series(TRAIN):
            parts[min(TRAIN_WINDOWS, math.ceil(TRAIN_WINDOWS * step / self.steps)) - 1].append(error)
        return [sum(errors) / len(errors) if errors else None for errors in parts]
