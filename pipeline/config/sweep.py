"""sweep.*: what Ray Tune searches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.config.section import Section, require


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Section):
    """Ray Tune's search: a grid over lists, draws from ranges, ASHA on validation error."""

    # Config key -> list of values, or {uniform|loguniform: [low, high]}; or a list of such grids, of lists alone.
    space: dict[str, Any] | list[dict[str, Any]]
    num_samples: int  # repeats of the grid; draws of the ranges
    grace_epochs: int  # ASHA stops no trial before this
    reduction_factor: int  # ASHA keeps 1 of this many at each rung; 0 runs every trial to its end
    cpus_per_trial: int
    gpus_per_trial: float
    max_concurrent: int  # 0: as resources allow
    max_failures: int
    address: str  # of a running Ray cluster; "" starts Ray on this machine

    def __post_init__(self) -> None:
        require(
            bool(self.space) and (isinstance(self.space, dict) or all(self.space)),
            "sweep.space is empty; name at least one key and its values, for example {model.depth: [20, 32]}",
        )
        require(
            self.num_samples > 0 and self.grace_epochs > 0,
            "sweep.num_samples and sweep.grace_epochs must be at least 1",
        )
        require(
            self.reduction_factor == 0 or self.reduction_factor >= 2,
            f"sweep.reduction_factor={self.reduction_factor}; 0 turns ASHA off, else at least 2",
        )
        for key, least in {"cpus_per_trial": 1, "gpus_per_trial": 0, "max_concurrent": 0, "max_failures": 0}.items():
            require(getattr(self, key) >= least, f"sweep.{key}={getattr(self, key)}; it must be at least {least}")
        for key in self.keys:
            require(
                key.split(".")[0] in ("model", "recipe", "start", "seed") or key == "data.num_train",
                f"sweep.space names {key}; a sweep varies model.*, recipe.*, start.*, data.num_train or seed",
            )

    @property
    def keys(self) -> list[str]:
        """What `space` varies."""
        grids = self.space if isinstance(self.space, list) else [self.space]
        return list(dict.fromkeys(key for grid in grids for key in grid))
