"""The whole configuration, and the rules between its sections."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.config.detectors import check_classifier, check_detector, check_sides
from pipeline.config.model import LARGE_STEM, NO_GLOBAL_POOL, OTHER_DEPTHS, ModelConfig, backbone_name
from pipeline.config.section import Section, Seed, require
from pipeline.config.stages import (
    DataConfig,
    EnsembleConfig,
    EvaluationConfig,
    ExportConfig,
    PathsConfig,
    PredictConfig,
    ServeConfig,
    TrackingConfig,
)
from pipeline.config.sweep import ClusterConfig, SweepConfig
from pipeline.config.training import SWEEP, RecipeConfig, StartConfig, TrainerConfig
from pipeline.errors import printable

MOST_COUNTS = 10  # numbers of elastic ranks: those from 1 to 10 divide 2,520, those to 16 no less than 720,720


@dataclass(frozen=True, kw_only=True)
class Config(Section):
    """The whole configuration."""

    choices: dict[str, str] = field(default_factory=dict)  # the files of conf/ that it was composed of, by group
    seed: Seed = 0  # seeds first weights, order of images and augmentation
    data: DataConfig
    model: ModelConfig
    recipe: RecipeConfig
    start: StartConfig = field(default_factory=StartConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    sweep: SweepConfig
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)

    def check(self) -> None:
        self._check_start()
        self._check_ranks()
        if self.model.detects:
            check_detector(self)
        else:
            check_classifier(self)
            self._check_views()
            self._check_sides()
        self._check_plateau()
        self._check_stop()
        self._check_population()

    def _check_start(self) -> None:
        for name in self.start_sweeps:
            weights = f"start.weights={SWEEP}{printable(name)}"
            require(
                re.fullmatch(r"\w[\w-]*", name) is not None,
                f"{weights}; it takes the name of a data set, for example {SWEEP}digit_objects",
            )
            require(
                name != self.data.name,
                f"{weights} with data.name={name}; a training starts from the sweep of another data set, or from run:<key>",
            )

    def _check_ranks(self) -> None:
        batch, ranks, trainer = self.recipe.batch_size, self.trainer.world_size, self.trainer
        parts, counts = self.recipe.accumulate, trainer.world_sizes
        if len(counts) > MOST_COUNTS:
            advice = f"no useful batch divides over all {len(counts)} numbers of ranks that may be left; choose a multiple of {parts * ranks} and a fixed number of ranks (override: trainer.elastic=false)"
        else:
            advice = f"choose a multiple of {parts * math.lcm(*counts)}"
        for count in counts:
            require(
                batch % (count * parts) == 0,
                f"recipe.batch_size={batch} does not divide over {count} ranks (trainer.devices={trainer.devices} x trainer.num_nodes={trainer.num_nodes}{', trainer.elastic=true' if trainer.elastic else ''}){f' in recipe.accumulate={parts} parts' if parts > 1 else ''}; {advice}",
            )
        require(
            not trainer.elastic or self.model.kind not in OTHER_DEPTHS,
            f"trainer.elastic=true with model.family={self.model.family}, whose dropout depends on the number of ranks (override: trainer.elastic=false)",
        )
        # A net halves the side 2 (cifar) or 5 times, and batch norm has no variance of one value.
        side, halvings = self._least_side, 2 if self.model.family == "cifar" else 5
        require(
            self.model.detects or batch > ranks * parts or side > 2**halvings,
            f"recipe.batch_size={batch} over {ranks} ranks{f' in recipe.accumulate={parts} parts' if parts > 1 else ''} with images of {side} pixels leaves batch norm a single value; choose a larger batch (override: recipe.batch_size={2 * ranks * parts})",
        )

    def _check_views(self) -> None:
        small, views = self.data.format == "arrays", self.evaluation.views
        require(
            not small or views == "single",
            f"evaluation.views={views} with data.format=arrays; small images have a single view (override: evaluation.views=single)",
        )
        require(
            views != "multi_scale" or self.model.family not in NO_GLOBAL_POOL,
            f"evaluation.views=multi_scale with model.family={self.model.family}, which has no fully convolutional form (override: evaluation.views=ten_crop)",
        )

    def _check_sides(self) -> None:
        small, augment, side = self.data.format == "arrays", self.recipe.augment, self._least_side
        require(
            small == (augment.kind == "pad_crop"),
            f"recipe.augment.kind={augment.kind} with data.format={self.data.format}; arrays take pad_crop, shards take random_resized_crop or scale_jitter",
        )
        require(
            not small or augment.crop == self.data.image_size,
            f"recipe.augment.crop={augment.crop} with data.image_size={self.data.image_size}; images kept as arrays are cropped to their own size",
        )
        require(
            not self.model.family.endswith("_small") or side >= 32,
            f"model.family={self.model.family} with images of {side} pixels; it needs at least 32",
        )
        require(
            self.model.family not in LARGE_STEM or side >= 64,
            f"model.family={self.model.family} with images of {side} pixels; choose its form for small images (override: model.family={self.model.family}_small)",
        )
        require(
            small or augment.crop <= augment.test_side,
            f"recipe.augment.crop={augment.crop} with test_side={augment.test_side}; a test image's shorter side must be at least the crop (override: recipe.augment.test_side={augment.crop * 8 // 7})",
        )

    def check_composed(self) -> None:
        """Rules for a configuration that is composed anew.

        They are no part of `check`: what was trained before there were these rules goes on as it began, by the configuration
        in its run's folder or by start.checkpoint; and what one trial of a sweep leaves unread, another one reads.

        Raises:
            PipelineError: a value that nothing reads, training images that shrink to nothing, or weights of another net.
        """
        recipe, sweep = self.recipe, self.sweep
        varied = {*sweep.keys, *(sweep.search.space if sweep.search else ())}
        if self.start.checkpoint or "start.checkpoint" in varied:
            return
        check_sides(self)
        self._check_published(varied)
        require(
            not recipe.warmup_fraction
            or recipe.schedule in ("one_cycle", "cosine")
            or bool(varied & {"recipe.schedule", "recipe.warmup_fraction"}),
            f"recipe.warmup_fraction={recipe.warmup_fraction} with recipe.schedule={recipe.schedule}, which does not read it; its warm-up is recipe.warmup_lr (override: recipe.warmup_fraction=0)",
        )
        require(
            not recipe.small_fraction
            or recipe.small_side > 0
            or bool(varied & {"recipe.small_side", "recipe.small_fraction"}),
            f"recipe.small_fraction={recipe.small_fraction} with recipe.small_side=0, which shrinks no images (override: recipe.small_fraction=0)",
        )

    def _check_published(self, varied: set[str]) -> None:
        """torchvision's weights have the name of their net: resnet101, or ResNet101_Weights.IMAGENET1K_V1."""
        weights, net = self.start.weights, self.model.net
        name, wanted = weights.removeprefix("torchvision:"), backbone_name(net)
        none = net.small or wanted.startswith("plain")
        require(
            name == weights
            or wanted in ("", name.lower().split("_weights")[0])
            or ("start.weights" not in varied and any(key.startswith("model.") for key in varied)),
            f"start.weights={printable(weights)} are of another net than {net.name} (override: start.weights={repr('') if none else f'torchvision:{wanted}'})",
        )

    def _check_plateau(self) -> None:
        plateau = self.recipe.schedule == "plateau"
        require(
            not plateau or self.data.split == "holdout",
            f"recipe.schedule=plateau with data.split={self.data.split}, which validates on nothing; choose data.split=holdout, or recipe.schedule=multistep with the steps at which an earlier run fell",
        )
        require(
            not plateau or self.trainer.val_every_epochs == 1,
            f"recipe.schedule=plateau with trainer.val_every_epochs={self.trainer.val_every_epochs}; recipe.plateau_patience counts epochs, each of which must end in a validation (override: trainer.val_every_epochs=1)",
        )

    def _check_stop(self) -> None:
        patience = self.recipe.stop_patience
        require(
            not patience or self.data.split == "holdout",
            f"recipe.stop_patience={patience} with data.split={self.data.split}, which validates on nothing (override: recipe.stop_patience=0)",
        )
        require(
            not patience or (not self.start.checkpoint and self.sweep.searcher != "pbt"),
            f"recipe.stop_patience={patience} with {f'start.checkpoint={self.start.checkpoint}' if self.start.checkpoint else 'sweep.searcher=pbt'}, where one training goes on from the end of another (override: recipe.stop_patience=0)",
        )

    def _check_population(self) -> None:
        if self.sweep.searcher != "pbt":
            return
        recipe, interval = self.recipe, self.sweep.interval_steps
        require(
            0 < interval < recipe.max_steps and recipe.max_steps % interval == 0,
            f"sweep.searcher=pbt with sweep.interval_steps={interval} and recipe.max_steps={recipe.max_steps}; the interval must divide the steps into two or more parts, at whose ends members copy each other (override: {_parts(recipe.max_steps)})",
        )
        require(
            recipe.schedule == "multistep" and not recipe.milestones and not recipe.small_side,
            f"sweep.searcher=pbt with recipe.schedule={recipe.schedule}, recipe.milestones={recipe.milestones}, recipe.small_side={recipe.small_side}; a population finds the schedule itself, from rates and images that stay as they are (override: recipe.schedule=multistep recipe.milestones=[] recipe.warmup_fraction=0 recipe.small_side=0 recipe.small_fraction=0)",
        )
        require(
            self.seed + self.sweep.population <= 2**32,
            f"sweep.searcher=pbt with seed={self.seed} and sweep.population={self.sweep.population}; members take the seeds from there on, at most {2**32 - 1} (override: seed=0)",
        )

    @property
    def _least_side(self) -> int:
        """Side in pixels of the smallest images that the net trains on."""
        return self.recipe.small_side or self.recipe.augment.crop

    @property
    def start_sweeps(self) -> list[str]:
        """Names of the data sets whose sweeps start.weights names, in sweep.space too."""
        grids = self.sweep.space if isinstance(self.sweep.space, list) else [self.sweep.space]
        listed = [grid.get("start.weights") for grid in grids]
        given = [self.start.weights, *(value for values in listed if isinstance(values, list) for value in values)]
        names = [str(value).removeprefix(SWEEP) for value in given if str(value).startswith(SWEEP)]
        return list(dict.fromkeys(names))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _parts(steps: int) -> str:
    """The override that divides `steps` into ten parts, or as close to ten as divides them; of a prime, one step fewer."""
    counts = (*range(min(10, steps), 1, -1), *range(11, math.isqrt(steps) + 1))
    if count := next((count for count in counts if steps % count == 0), 0):
        return f"sweep.interval_steps={steps // count}"
    fewer = max(steps - 1, 2)
    return f"recipe.max_steps={fewer} {_parts(fewer)}"
