"""What the paper says, read from paper.yaml: its protocols, its numbers in percent as printed, and its claims.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

_NET = re.compile(r"(?P<kind>resnet|plain)(?P<depth>\d+)(?P<option>[ABC]?)")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the paper trained and tested on a data set."""

    title: str
    steps: int
    lr: float
    num_train: int
    num_test: int
    views: str  # of a test image
    run: str  # the command that trains and tests its nets
    recipe: dict[str, Any]  # what else decides a result, by its key in our configuration

    def follows(self, recipe: Mapping[str, Any]) -> bool:
        """Whether a training's recipe is known to be the paper's."""
        return bool(recipe) and all(self.has(key, value) for key, value in recipe.items())

    def has(self, key: str, value: Any) -> bool:
        """Whether the paper's recipe, where it fixes the key, has this value."""
        return key not in self.recipe or self.recipe[key] == (list(value) if isinstance(value, tuple) else value)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published error; percent, None where the table has none."""

    dataset: str
    net: str
    reference: str
    model: str = (
        ""  # its name in our runs (`pipeline.learn.models.net_name`): resnet34C; "" for a system that is only cited
    )
    err1: float | None = None
    err5: float | None = None
    views: str = ""
    note: str = ""
    best_of: int = 1  # runs, of which this is the best
    run: str = ""  # the command that trains the net; "": that of the data set's protocol
    read_off: bool = False  # a reader's estimate from a figure, no printed number

    @property
    def depth(self) -> int | None:
        found = _NET.fullmatch(self.model)
        return int(found["depth"]) if found else None

    @property
    def residual(self) -> bool:
        return not self.model.startswith("plain")

    @property
    def printed(self) -> str:
        """The error as the page shows it: top-1, then top-5 where there is one."""
        top1 = "–" if self.err1 is None else f"≈{self.err1:g}" if self.read_off else f"{self.err1:.2f}"
        return f"{top1}%" if self.err5 is None else f"{top1} / {self.err5:.2f}%"


Check = Literal[
    "ensemble_gain", "falls", "comparable", "reaches", "at_least", "at_most", "seeds", "cold_start", "gradients", "not_public",
    "size", "smaller", "share", "same",
]  # fmt: skip
Metric = Literal["test", "top5", "validation", "train", "early", "responses", "macs", "params"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of the paper that a number of ours can hold up or contradict."""

    id: str
    statement: str
    reference: str
    check: Check  # see `pipeline.report.checks`
    dataset: str = ""  # "": any
    metric: Metric = "test"
    nets: tuple[str, ...] = ()  # by their names in our runs; of "falls", the one with the greatest value first
    length: float = 0.0  # of "falls" and "comparable": how many times the paper's iterations it needs; 0: an eighth of them is enough
    views: str = ""  # of a test image, which the paper's number is at; "": any
    margin: float = 0.0  # of "comparable", in points of percent: what the two nets may be apart
    paper: dict[str, float] = field(default_factory=dict)  # its numbers, by net or by what they are; errors in percent
    run: str = ""  # the command that tests it; "": that of the data set's protocol
    target: Published | None = None  # of "reaches"

    @property
    def command(self) -> str:
        return self.run or (PROTOCOLS[self.dataset].run if self.dataset else "")


_VALUES: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "paper.yaml").read_text(encoding="utf-8"))
TITLE: str = _VALUES["title"]
PROTOCOLS = {name: Protocol(**values) for name, values in _VALUES["protocols"].items()}
PUBLISHED = tuple(Published(**values) for values in _VALUES["results"])
PAPER_ENSEMBLE = Published(**_VALUES["ensemble"])


def _reaches(result: Published, metric: Literal["test", "top5"]) -> Claim:
    title, table = PROTOCOLS[result.dataset].title, result.reference.lower().replace(" ", "-")
    error, which, end = (result.err1, "", "") if metric == "test" else (result.err5, " top-5 error", "-top5")
    assert error is not None
    views = f", {result.views}" if result.views else ""
    multi_scale = " -S evaluation=multi_scale" if result.views.startswith("dense") else ""
    return Claim(
        id=f"{result.dataset}-{result.model}-{table}{end}",
        statement=f"{result.net} reaches {error:.2f}%{which} on {title}{views}",
        reference=result.reference,
        check="reaches",
        dataset=result.dataset,
        metric=metric,
        nets=(result.model,),
        paper={result.model: error},
        run=(result.run or PROTOCOLS[result.dataset].run) + multi_scale,
        target=result,
    )


def _claim(values: dict[str, Any]) -> Claim:
    return Claim(**{**values, "nets": tuple(values.get("nets", values.get("paper", {})))})


# The best of several runs is no mark for one run, nor for a mean: such a result has a claim of its own.
_TABULATED = [r for r in PUBLISHED if r.depth is not None and r.reference.startswith("Table") and r.best_of == 1]
CLAIMS = (
    *map(_claim, _VALUES["claims"]),
    *(_reaches(result, "test") for result in _TABULATED if result.err1 is not None),
    *(_reaches(result, "top5") for result in _TABULATED if result.err5 is not None),
)
