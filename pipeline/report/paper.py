"""The paper's protocols, numbers (in percent, as printed) and claims, from paper.yaml.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.learn.models import zoo


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the paper trained and tested on a data set."""

    title: str
    steps: int
    lr: float
    num_train: int
    num_test: int
    views: str  # of a test image
    margin: float  # points by which an error may exceed the printed one and still reach it
    seed_std: float  # points; standard deviation between seeds, for comparisons of single runs
    run: str  # the command that trains and tests its nets
    recipe: dict[str, Any]  # other settings that decide a result, by our keys

    def follows(self, recipe: Mapping[str, Any]) -> bool:
        """Whether a training's recipe is recorded and agrees with the paper's."""
        return bool(recipe) and all(self.has(key, value) for key, value in recipe.items())

    def has(self, key: str, value: Any) -> bool:
        """Whether the paper's recipe has this value of the key, or leaves the key open."""
        return key not in self.recipe or self.recipe[key] == (list(value) if isinstance(value, tuple) else value)


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How detectors are trained and tested on a data set."""

    title: str
    run: str  # the command that trains and tests its detectors
    steps: int = 0  # of the paper; 0: not told


NETS = {net.name: net for net in zoo.NETS}  # nets of ours, by display name


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published error; percent, None where the table has none."""

    dataset: str
    net: str  # display name of one of our nets, or of a system that is only cited
    reference: str
    err1: float | None = None
    err5: float | None = None
    views: str = ""
    note: str = ""
    best_of: int = 1  # number of runs whose best this is
    run: str = ""  # the command that trains the net; "": the protocol's
    read_off: bool = False  # estimated from a figure, not printed

    @property
    def of_the_paper(self) -> bool:
        """Whether it belongs to a plain or residual net."""
        return self.net in NETS and NETS[self.net].model.family in ("cifar", "imagenet")

    @property
    def printed(self) -> str:
        """The error as the page shows it: top-1, then top-5 if the table has it."""
        top1 = "–" if self.err1 is None else f"≈{self.err1:g}" if self.read_off else f"{self.err1:.2f}"
        return f"{top1}%" if self.err5 is None else f"{top1} / {self.err5:.2f}%"


Check = Literal[
    "ensemble_gain", "falls", "comparable", "gains", "reaches", "at_least", "at_most", "seeds", "warm_up", "cold_start", "throughout", "gradients",
    "not_public", "refines", "sees_context", "sees_scales", "detects_better", "detects_by", "size", "smaller", "below", "share", "same", "doubled", "projections",
]  # fmt: skip
Metric = Literal[
    "test", "top5", "validation", "train", "early", "responses", "macs", "params", "ap", "ap50", "voc07", "voc12"
]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the paper that our numbers can confirm or contradict."""

    id: str
    statement: str
    reference: str
    check: Check  # see `pipeline.report.checks`, of detectors `pipeline.report.check_detectors`
    dataset: str = ""  # "": any
    metric: Metric = "test"
    nets: tuple[str, ...] = ()  # display names; for "falls", in order of falling value
    length: float = 0.0  # "falls", "comparable": multiple of the paper's steps that it needs; 0: an eighth suffices
    views: str = ""  # views of a test image behind the paper's number; "": any
    margin: float = (
        0.0  # "comparable", "gains", "detects_by": largest difference from zero or from the paper's gain, in points
    )
    paper: dict[str, float] = field(default_factory=dict)  # its numbers, by net or by meaning; errors in percent
    run: str = ""  # the command that tests it; "": the protocol's
    target: Published | None = None  # "reaches"

    @property
    def command(self) -> str:
        """The command that tests it; "" for none."""
        if self.check == "not_public":
            return ""
        return self.run or (STUDIED[self.dataset].run if self.dataset else "")


_VALUES: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "paper.yaml").read_text(encoding="utf-8"))
TITLE: str = _VALUES["title"]
PROTOCOLS = {name: Protocol(**values) for name, values in _VALUES["protocols"].items()}
DETECTION = {name: Detection(**values) for name, values in _VALUES["detection"].items()}
STUDIED: dict[str, Protocol | Detection] = {**PROTOCOLS, **DETECTION}
PUBLISHED = tuple(Published(**values) for values in _VALUES["results"])
PAPER_ENSEMBLE = Published(**_VALUES["ensemble"])


def title_of(dataset: str) -> str:
    """The data set's name as the paper writes it; its own name where the paper has none."""
    return STUDIED[dataset].title if dataset in STUDIED else dataset


def _reaches(result: Published, metric: Literal["test", "top5"]) -> Claim:
    title = PROTOCOLS[result.dataset].title
    error, which, end = (result.err1, "", "") if metric == "test" else (result.err5, " top-5 error", " top5")
    assert error is not None
    views = f", {result.views}" if result.views else ""
    multi_scale = " -S evaluation=multi_scale" if result.views.startswith("dense") else ""
    net = "".join(filter(str.isalnum, result.net))
    return Claim(
        id="-".join(f"{result.dataset} {net} {result.reference}{end}".lower().split()),  # cifar10-resnet20-table-6
        statement=f"{result.net} reaches {error:.2f}%{which} on {title}{views}",
        reference=result.reference,
        check="reaches",
        dataset=result.dataset,
        metric=metric,
        nets=(result.net,),
        paper={result.net: error},
        run=(result.run or PROTOCOLS[result.dataset].run) + multi_scale,
        target=result,
    )


def _claim(values: dict[str, Any]) -> Claim:
    return Claim(**{**values, "nets": tuple(values.get("nets", values.get("paper", {})))})


# The best of several runs is no target for one run or a mean; such a result has a claim of its own.
_TABULATED = [r for r in PUBLISHED if r.of_the_paper and r.reference.startswith("Table") and r.best_of == 1]
CLAIMS = (
    *map(_claim, _VALUES["claims"]),
    *(_reaches(result, "test") for result in _TABULATED if result.err1 is not None),
    *(_reaches(result, "top5") for result in _TABULATED if result.err5 is not None),
)
