"""What a sweep is: its configuration and data, its name, its folder and its size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipeline.config import Config
from pipeline.config.detectors import check_sides
from pipeline.data.facts import require_settings, require_task
from pipeline.data.store import open_store
from pipeline.errors import PipelineError
from pipeline.run import LAST
from pipeline.run.key import code_version, deciding
from pipeline.run.shared import bring
from pipeline.tracking import location as tracking
from pipeline.tuning import population
from pipeline.tuning.extending import trained_elsewhere
from pipeline.tuning.space import check_space, example_points, grid_of, has_ranges, points, values_of
from pipeline.tuning.state import NAME as TRIALS
from pipeline.tuning.state import About
from pipeline.tuning.trial import trial_config
from pipeline.tuning.trials import Trials

Role = Literal["sweep", "search"]  # search: it chooses values for a sweep


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What every part of a sweep needs to know about it."""

    config: Config
    store: Path
    content_hash: str  # of the store
    num_train: int  # training images of the holdout split, as data.num_train limits them
    num_val: int  # its validation images
    role: Role = "sweep"

    @property
    def facts(self) -> dict[str, Any]:
        """All that decides the sweep's result. A budget decides only how far it gets."""
        config = self.config
        settings = asdict(config.sweep)
        del settings["search"], settings["budget"]
        if not self.is_population:
            del settings["population"], settings["interval_steps"], settings["quantile"]
        return {
            "data": [config.data.name, self.content_hash],
            "model": asdict(config.model),
            "recipe": asdict(config.recipe),
            "trainer": deciding(config),
            "seed": config.seed,
            "start": {key: value for key, value in asdict(config.start).items() if key != "checkpoint" or value},
            "num_train": config.data.num_train,
            "sweep": settings,
            "code": code_version(config.model.detects),
            # Draws from ranges; lists say all of theirs.
            **({"points": self.points} if has_ranges(config.sweep.space) and not self.suggested else {}),
        }

    @cached_property
    def name(self) -> str:
        return f"{self.role}-" + hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def runs(self) -> Path:
        return Path(self.config.paths.runs).resolve()

    @property
    def run(self) -> Path:
        """Folder of the sweep's own run: its journal, its trials, the leaderboard."""
        return self.runs / self.name

    @property
    def folder(self) -> Path:
        """Ray Tune's own files."""
        return self.runs / "ray" / self.name

    @property
    def location(self) -> tracking.Location:
        return tracking.locate(self.config.tracking.uri, self.config.paths.mlruns)

    @cached_property
    def points(self) -> list[dict[str, Any]]:
        return points(self.config.sweep.space, self.config.sweep.num_samples, self.config.seed)

    @property
    def suggested(self) -> bool:
        """Whether a searcher chooses the points, each from the trials before it."""
        return self.config.sweep.searcher != "grid"

    @property
    def is_population(self) -> bool:
        return self.config.sweep.searcher == "pbt"

    @property
    def size(self) -> int:
        """Trials of the whole sweep."""
        if self.is_population:
            return population.size(self.config)
        return self.config.sweep.num_samples if self.suggested else len(self.points)

    @property
    def allowed(self) -> int:
        """Trials that sweep.budget.trials lets the sweep train."""
        return min(self.config.sweep.budget.trials or self.size, self.size)

    @property
    def about(self) -> About:
        """For the record of its trials."""
        return About(
            sweep=self.name,
            role=self.role,
            data=self.config.data.name,
            facts=self.facts,
            size=self.size,
            max_steps=self.config.recipe.max_steps,
            num_val=self.num_val,
            detects=self.config.model.detects,
        )

    def trials(self, require: Callable[[], object] = lambda: None) -> Trials:
        """Its trials so far; of a sweep that begins, those that earlier sweeps have trained for it.

        Args:
            require: called before each write of them; may raise to prevent it.
        """
        # A member's trials are runs that a longer or repeated population finds by their keys.
        begins = not (self.run / TRIALS).exists() and not self.is_population
        elsewhere = trained_elsewhere(self.runs, self.about, suggested=self.suggested) if begins else []
        points = None if self.suggested else self.points
        if points is None:
            space = self.config.sweep.space
            elsewhere = [trial for trial in elsewhere if grid_of(space, trial.point) is not None][: self.size]
        return Trials(self.run, points, self.runs, self.about, elsewhere, require, self.bring)

    def bring(self, folder: Path) -> None:
        """Makes this machine's copy of a trial's run the newest one, without its checkpoint."""
        bring(folder, self.config.cluster.storage, without=(LAST,))

    @property
    def epochs(self) -> int:
        """Epochs of the longest trial that the space allows.

        Raises:
            PipelineError: a trial's batch is larger than its training set.
        """
        space, recipe = self.config.sweep.space, self.config.recipe
        batch_size = max(values_of(space, "recipe.batch_size", recipe.batch_size))
        fewest = min(value or self.num_train for value in values_of(space, "data.num_train", 0))  # 0: the whole split
        if batch_size > fewest:
            raise PipelineError(
                f"recipe.batch_size={batch_size} is larger than the {fewest} training images; choose a smaller one"
            )
        return -(-max(values_of(space, "recipe.max_steps", recipe.max_steps)) // (fewest // batch_size))


def checked(config: Config, store: Path, role: Role = "sweep") -> Sweep:
    """The sweep of config.sweep.space; nothing has started yet.

    Raises:
        PipelineError: images with labels for a detector or boxes for another net, a store that was made with other values of
            data.*, a space that cannot be searched, or a point that cannot be trained.
    """
    if config.sweep.searcher == "pbt":
        config = population.population_config(config)
    opened = open_store(store)
    require_task(opened.manifest, config.model)
    require_settings(opened, config.data)
    train, val = opened.split_indices("holdout", config.data.num_train)
    content_hash = opened.manifest.content_hash
    images = {"num_train": len(train), "num_val": len(val)}
    sweep = Sweep(config=config, store=store, content_hash=content_hash, role=role, **images)
    if not sweep.is_population:
        check_space(config.sweep.space, config.sweep.num_samples, suggested=sweep.suggested)
    for point in example_points(config.sweep.space):
        try:
            check_sides(trial_config(config, point))
        except PipelineError as error:
            values = ", ".join(f"{key}={value}" for key, value in point.items())
            raise PipelineError(f"the {role} has a trial with {values}: {error}") from None
    _ = sweep.epochs
    return sweep
