"""ensemble.* and evaluation.*: which nets are averaged, and how they are tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.config.section import Section, require


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig(Section):
    """How members are chosen: on validation error alone, or by the user."""

    selection: Literal["best_per_depth", "deepest_twice", "one_net", "top_k", "greedy", "snapshots", "listed"]
    size: int  # members at the most
    members: list[str]  # of selection "listed": keys of runs, or their ids in MLflow
    temperature: Literal["none", "validation"]  # of each member, fitted to validation images before averaging

    def __post_init__(self) -> None:
        require(self.size > 0, f"ensemble.size={self.size}; it must be at least 1")
        listed = self.selection == "listed"
        require(
            listed == bool(self.members),
            f"ensemble.selection={self.selection} with ensemble.members={self.members}; ensemble=listed needs the keys of the "
            "runs, every other selection chooses them itself",
        )
        require(
            len(set(self.members)) == len(self.members), f"ensemble.members={self.members}; each run can be listed once"
        )
        require(
            len(self.members) <= self.size,
            f"ensemble.members lists {len(self.members)} runs, ensemble.size={self.size} is the most; raise it",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """How test images are shown to the nets; members are chosen as they were validated in training."""

    views: Literal["single", "ten_crop", "multi_scale"]  # averaged after the softmax; see `pipeline.learn.input.views`
    batchnorm: Literal["running", "averaged"]  # statistics: training's running ones, or means taken after it
    runs: Literal["members", "all"]  # the members and the named run, or every finished training on these images as well
