"""What the paper says: its numbers in percent, as printed, and the claims this report checks against them.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TITLE = "Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun, 2015)"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How the paper trained and tested on a data set."""

    title: str
    steps: int
    lr: float
    num_train: int
    num_test: int
    views: str  # of a test image


PROTOCOLS = {
    "cifar10": Protocol(
        title="CIFAR-10", steps=64_000, lr=0.1, num_train=50_000, num_test=10_000, views="single 32x32 view"
    ),  # Sec. 4.2
    "imagenet": Protocol(
        title="ImageNet", steps=600_000, lr=0.1, num_train=1_281_167, num_test=50_000, views="10-crop"
    ),  # Sec. 3.4, "up to 60 x 10^4 iterations"
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published error; percent, None where the table has none."""

    dataset: str
    net: str
    err1: float | None
    err5: float | None = None
    depth: int | None = None  # None: not a net that this project trains
    residual: bool = True
    reference: str
    shortcut: str = ""  # option A, B or C where the table names it; "" is the paper's own choice for the depth
    views: str = ""
    note: str = ""
    read_off: bool = False  # a reader's estimate from a figure, no printed number

    @property
    def model(self) -> str:
        """The net's name in our runs (`pipeline.models.net_name`), which tells options and strides apart: resnet34C."""
        option = "" if self.shortcut == "A" else self.shortcut  # named only at 18 and 34 layers, where A is the default
        return f"{'resnet' if self.residual else 'plain'}{self.depth}{option}"

    @property
    def printed(self) -> str:
        """The error as the page shows it: top-1, then top-5 where there is one."""
        top1 = "–" if self.err1 is None else f"≈{self.err1:g}" if self.read_off else f"{self.err1:.2f}"
        return f"{top1}%" if self.err5 is None else f"{top1} / {self.err5:.2f}%"


def _cifar(net: str, depth: int | None, err1: float, note: str = "") -> Published:
    return Published(dataset="cifar10", net=net, depth=depth, err1=err1, reference="Table 6", note=note)


def _reading(depth: int, err1: float) -> Published:
    return Published(
        dataset="cifar10",
        net=f"plain-{depth}",
        depth=depth,
        residual=False,
        err1=err1,
        reference="Fig. 6",
        note="read off the figure by one reader; the paper prints no number",
        read_off=True,
    )


def _imagenet(net: str, depth: int | None, err1: float | None, err5: float | None, table: str) -> Published:
    views = {"Table 4": "dense, 5 scales", RELEASED: "1-crop"}.get(table, "10-crop")
    return Published(
        dataset="imagenet",
        net=net,
        depth=depth,
        residual=not net.startswith("plain"),
        shortcut=net[-2] if net.endswith(")") else "",
        err1=err1,
        err5=err5,
        reference=table,
        views=views,
        note="the authors' own models, measured after the paper and not in it" if table == RELEASED else "",
    )


RELEASED = "released models"  # README of KaimingHe/deep-residual-networks
BEST_OF_FIVE = "the best of five runs; their mean is 6.61 ± 0.16"

PUBLISHED = (
    _cifar("Maxout", None, 9.38),
    _cifar("NIN", None, 8.81),
    _cifar("DSN", None, 8.22),
    _cifar("FitNet-19", None, 8.39),
    _cifar("Highway-19", None, 7.54, "mean 7.72 ± 0.16"),
    _cifar("Highway-32", None, 8.80),
    _cifar("ResNet-20", 20, 8.75),
    _cifar("ResNet-32", 32, 7.51),
    _cifar("ResNet-44", 44, 7.17),
    _cifar("ResNet-56", 56, 6.97),
    _cifar("ResNet-110", 110, 6.43, BEST_OF_FIVE),
    _cifar("ResNet-1202", 1202, 7.93),
    _reading(20, 9.5),
    _reading(32, 10.0),
    _reading(44, 12.0),
    _reading(56, 13.5),
    _imagenet("plain-18", 18, 27.94, None, "Table 2"),
    _imagenet("plain-34", 34, 28.54, 10.02, "Table 3"),
    _imagenet("ResNet-18 (A)", 18, 27.88, None, "Table 2"),
    _imagenet("ResNet-34 (A)", 34, 25.03, 7.76, "Table 3"),
    _imagenet("ResNet-34 (B)", 34, 24.52, 7.46, "Table 3"),
    _imagenet("ResNet-34 (C)", 34, 24.19, 7.40, "Table 3"),
    _imagenet("ResNet-50", 50, 22.85, 6.71, "Table 3"),
    _imagenet("ResNet-101", 101, 21.75, 6.05, "Table 3"),
    _imagenet("ResNet-152", 152, 21.43, 5.71, "Table 3"),
    _imagenet("ResNet-34 (B)", 34, 21.84, 5.71, "Table 4"),
    _imagenet("ResNet-34 (C)", 34, 21.53, 5.60, "Table 4"),
    _imagenet("ResNet-50", 50, 20.74, 5.25, "Table 4"),
    _imagenet("ResNet-101", 101, 19.87, 4.60, "Table 4"),
    _imagenet("ResNet-152", 152, 19.38, 4.49, "Table 4"),
    _imagenet("ResNet-50", 50, 24.7, 7.8, RELEASED),
    _imagenet("ResNet-101", 101, 23.6, 7.1, RELEASED),
    _imagenet("ResNet-152", 152, 23.0, 6.7, RELEASED),
)

# Table 5: six models of different depth; 100,000 test images whose labels are not public.
PAPER_ENSEMBLE = Published(
    dataset="imagenet",
    net="ensemble of six",
    err1=None,
    err5=3.57,
    reference="Table 5",
    views="dense, 5 scales",
    note="on the test server's 100,000 images, which are not the validation images that ours is counted on",
)

Kind = Literal["ensemble_gain", "depth_helps", "depth_hurts", "residual_beats_plain", "reaches", "not_public"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of the paper that a number of ours can hold up or contradict."""

    id: str
    statement: str
    reference: str
    kind: Kind
    datasets: tuple[str, ...] = ()  # where it can be measured; () anywhere
    target: Published | None = None  # of "reaches" and "not_public"


BOTH = ("cifar10", "imagenet")


def _reaches(result: Published) -> Claim:
    title = PROTOCOLS[result.dataset].title
    return Claim(
        id=f"{result.dataset}-resnet{result.depth}-error",
        statement=f"{result.net} reaches {result.err1:.2f}% on {title}",
        reference=result.reference,
        kind="reaches",
        datasets=(result.dataset,),
        target=result,
    )


def _headline(result: Published) -> bool:
    """One row a depth: Table 6, and the 10-crop errors with option A or, from 50 layers on, B."""
    tabulated = result.reference in ("Table 6", "Table 2", "Table 3") and result.residual and result.depth is not None
    return tabulated and result.shortcut not in ("B", "C")


CLAIMS = (
    Claim(
        id="ensemble-beats-best-member",
        statement="An ensemble of several nets errs less than its best member",
        reference="Sec. 4.1, Tables 4 and 5",
        kind="ensemble_gain",
    ),
    Claim(
        id="deeper-residual-nets-err-less",
        statement="Deeper residual nets err less than shallower ones: no degradation",
        reference="Fig. 6, Table 6; Fig. 4, Table 2",
        kind="depth_helps",
        datasets=BOTH,
    ),
    Claim(
        id="deeper-plain-nets-err-more",
        statement="Plain nets degrade: the deeper one errs more",
        reference="Fig. 6; Fig. 4, Table 2",
        kind="depth_hurts",
        datasets=BOTH,
    ),
    Claim(
        id="residual-beats-plain",
        statement="At the same depth a residual net errs less than a plain one",
        reference="Fig. 6; Table 2",
        kind="residual_beats_plain",
        datasets=BOTH,
    ),
    *(_reaches(result) for result in PUBLISHED if _headline(result)),
    Claim(
        id="imagenet-ensemble-top5",
        statement="An ensemble of six reaches 3.57% top-5 error on ImageNet's test set",
        reference="Table 5",
        kind="not_public",
        datasets=("imagenet",),
        target=PAPER_ENSEMBLE,
    ),
)
