"""sweep.*: what a sweep tries, how it chooses trials and ends them, and what it may take."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pipeline.config.section import Count, Few, NoAmount, Positive, Range, Section, require, shown


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Section):
    """A sweep that runs before sweep.space, to its end, and chooses values for all trials of sweep.space.

    It chooses nothing for the train stage, which trains what the configuration names.
    """

    section: ClassVar[str] = "sweep.search"

    space: dict[str, list[Any]]  # one grid, so that each value is tried with the same values of the other keys
    # Keys of `space`; the sweep takes their values with the lowest mean validation error over the other keys.
    take: list[str]

    def check(self) -> None:
        require(
            bool(self.space) and all(self.space.values()),
            f"sweep.search.space={self.space}; name keys and the values to try, for example {{model.depth: [20], recipe.lr: [0.1, 0.2]}}",
        )
        for key in self.space:
            require(
                key.split(".")[0] in ("model", "recipe", "seed") or key == "data.num_train",
                f"sweep.search.space names {key}; a search varies model.*, recipe.*, data.num_train or seed",
            )
        require(
            bool(self.take) and set(self.take) <= set(self.space),
            f"sweep.search.take={self.take}; name one or more of the keys of sweep.search.space: {', '.join(self.space)}",
        )


@dataclass(frozen=True, kw_only=True)
class BudgetConfig(Section):
    """What ends a sweep before its last trial, with the best so far; a larger budget goes on. 0 for no limit.

    It counts all attempts together, and the trials of sweep.space alone: a search runs to its end.
    """

    section: ClassVar[str] = "sweep.budget"

    trials: Count = 0  # finished trials
    steps: Annotated[int, Range(0, 1e15)] = 0  # optimiser steps of all trials together; a limit is met at a validation
    hours: NoAmount = 0.0  # hours during which trials run


@dataclass(frozen=True, kw_only=True)
class SweepConfig(Section):
    """Ray Tune's trials: a grid over lists, draws from ranges or TPE's suggestions; ASHA or Hyperband on validation error.

    Or a population of trainings that copy each other (pbt), see `pipeline.tuning.population`.
    """

    section: ClassVar[str] = "sweep"

    # Config key -> list of values, or {uniform|loguniform: [low, high]}; or a list of such grids, for ranges that depend on
    # other values.
    space: dict[str, Any] | list[dict[str, Any]]
    search: SearchConfig | None = None  # a sweep before this one, whose best values its trials take
    # grid: each combination of the lists; tpe: what Optuna's TPE suggests; pbt: population based training over recipe.lr.
    searcher: Literal["grid", "tpe", "pbt"] = "grid"
    num_samples: Positive = 1  # grid: draws from the ranges for each combination; tpe: trials
    scheduler: Literal["asha", "hyperband"] = "asha"  # hyperband: asynchronous, brackets that begin at rising rungs
    grace_epochs: Positive = 1  # the scheduler stops no trial before this
    reduction_factor: Count = 0  # the scheduler keeps 1 of this many at each rung; 0 runs every trial to its end
    population: Annotated[int, Range(2, 4096)] = 8  # pbt: members, each with a seed of its own from `seed` on
    interval_steps: Count = 0  # pbt: steps after which the worst members copy the best; a divisor of recipe.max_steps
    # pbt: share of the members that copy, and of those that are copied.
    quantile: Annotated[float, Range(0, 0.5, above=True)] = 0.25
    budget: BudgetConfig = field(default_factory=BudgetConfig)

    def check(self) -> None:
        require(
            bool(self.space) and (isinstance(self.space, dict) or all(self.space)),
            "sweep.space is empty; name at least one key and its values, for example {model.depth: [20, 32]}",
        )
        require(
            self.reduction_factor != 1,
            f"sweep.reduction_factor={self.reduction_factor}; 0 turns ASHA off, else at least 2",
        )
        require(
            self.scheduler == "asha" or self.reduction_factor > 0,
            f"sweep.scheduler={self.scheduler} with sweep.reduction_factor=0, which stops no trial; Hyperband needs at least 2 (override: sweep.reduction_factor=3)",
        )
        require(
            self.searcher != "tpe" or self.num_samples > 1,
            f"sweep.searcher={self.searcher} with sweep.num_samples=1; that is how many trials it suggests, each from those before it (override: sweep.num_samples=20)",
        )
        if self.searcher == "pbt":
            self._check_population()
        for key in self.keys:
            require(
                key.split(".")[0] in ("model", "recipe", "start", "seed") or key == "data.num_train",
                f"sweep.space names {key}; a sweep varies model.*, recipe.*, start.*, data.num_train or seed",
            )
            require(
                self.search is None or key not in self.search.take,
                f"sweep.space names {key}, whose value sweep.search chooses; remove it from sweep.space or from sweep.search.take",
            )

    def _check_population(self) -> None:
        require(
            isinstance(self.space, dict)
            and list(self.space) == ["recipe.lr"]
            and isinstance(self.space["recipe.lr"], dict),
            f"sweep.searcher=pbt with sweep.space={shown(self.space)}; a population varies the learning rate alone, from a range (override: sweep.space={{recipe.lr:{{loguniform:[0.01,1]}}}})",
        )
        require(
            self.reduction_factor == 0,
            f"sweep.searcher=pbt with sweep.reduction_factor={self.reduction_factor}; the members of a population copy each other instead of being stopped (override: sweep.reduction_factor=0)",
        )
        require(
            self.num_samples == 1,
            f"sweep.searcher=pbt with sweep.num_samples={self.num_samples}; sweep.population says how many members there are (override: sweep.num_samples=1)",
        )

    @property
    def keys(self) -> list[str]:
        """The keys that `space` varies."""
        grids = self.space if isinstance(self.space, list) else [self.space]
        return list(dict.fromkeys(key for grid in grids for key in grid))


@dataclass(frozen=True, kw_only=True)
class ClusterConfig(Section):
    """Where trials run and what each is given; it decides no result. Ranks of a trial: trainer.devices x trainer.num_nodes."""

    section: ClassVar[str] = "cluster"

    address: str = ""  # of a running Ray cluster, auto for the one of this machine; "" takes RAY_ADDRESS, or else starts Ray on this machine
    # URL of a store on which machines share runs and data (s3://bucket/folder); "": paths.runs is shared
    storage: str = ""
    # CPUs that Ray reserves for a trial of one rank, and its threads unless trainer.threads is set; several ranks have one each
    cpus_per_trial: Few = 1
    # share of a GPU for a trial of one rank; 0: a whole one where trainer.accelerator takes GPUs
    gpus_per_trial: Annotated[float, Range(0, 4096)] = 0.0
    max_concurrent: Count = 0  # 0: as resources allow
    max_failures: Count = 2  # of a trial itself; above 0, lost machines do not count
    dashboard: bool = False  # Ray's pages about the Ray that the sweep starts on this machine; its address is printed

    def check(self) -> None:
        require(
            not self.storage or bool(self.storage.partition("://")[2].strip("/")),
            f"cluster.storage={shown(self.storage)}; give a URL, such as s3://bucket/folder, gs://bucket/folder or "
            "file:///folder, or '' where machines share paths.runs",
        )
        require(
            self.gpus_per_trial <= 1,
            f"cluster.gpus_per_trial={self.gpus_per_trial}; a rank trains on one GPU or a share of it, at most 1; for a trial on several, give it as many ranks (override: trainer.devices={math.ceil(self.gpus_per_trial)} cluster.gpus_per_trial=0)",
        )
