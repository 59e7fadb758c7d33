"""What a report is made of: the published JSON of earlier stages, checked before anything is drawn.

Errors are fractions; steps are optimiser steps; an interval is [low, high] at 95 %. A `None` says "not measured".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic reads this one on every Python, typing's from 3.12 on

CI = Sequence[float]
Kind = Literal["plain", "residual", "others"]
_SPELT = {"vgg": "VGG", "alexnet": "AlexNet", "googlenet": "GoogLeNet"}
_PREDECESSOR = re.compile(rf"({'|'.join(_SPELT)})(\d*)(_bn)?")


class Data(TypedDict):
    """From the store's manifest, see `data_of`."""

    name: str
    classes: list[str]
    counts: dict[str, int]  # images of the holdout split that are trained on, chosen on, tested on: train, val, test
    content_hash: NotRequired[str]


class Net(TypedDict):
    """An evaluated training: a member of the ensemble, or the named run."""

    run_id: str  # "" where the tracking server has never answered
    key: NotRequired[str]  # of the training's folder
    model: str
    depth: int
    residual: bool
    params: int
    macs: NotRequired[int]  # multiply-adds of one image of the size it was trained on
    lr: float | None  # None: made elsewhere
    seed: int | None
    steps: int  # length of the training, not the step of the checkpoint that was kept; 0: made elsewhere
    val_err1: float | None  # None: trained on all images, see `split_of`
    test_err1: float
    test_err5: float | None
    ci95: CI  # of test_err1
    ci95_err5: NotRequired[CI | None]
    weight: NotRequired[float | None]  # in the ensemble's average
    seconds: NotRequired[float]  # of training and validation, over all attempts
    images_per_s: NotRequired[float]  # of the last attempt
    checkpoint_sha256: NotRequired[str]
    num_train: NotRequired[int]  # images it was trained on; 0 for all of the split
    start: NotRequired[str]  # what it started from, "" for random weights
    snapshot: NotRequired[int]  # step of the snapshot that this is; 0 for the weights that the run chose


class Gain(TypedDict):
    """Ensemble's error minus the best member's on the same images: negative where the ensemble is better."""

    estimate: float
    ci95: CI
    run_id: NotRequired[str]  # of that member; without it the one with the lowest validation error
    checkpoint_sha256: NotRequired[str]  # of that member, whose run may have others in the ensemble


class Ensemble(TypedDict):
    size: int
    selection: str
    val_err1: float | None
    test_err1: float
    test_err5: float | None
    ci95: CI
    ci95_err5: NotRequired[CI | None]
    mcnemar_p: NotRequired[float | None]
    difference_to_best_member: NotRequired[Gain | None]
    difference_to_best_member5: NotRequired[Gain | None]  # of top-5 errors
    by_size: NotRequired[list[Size]]


class Size(TypedDict):
    """The average of the ensemble's first `size` members."""

    size: int
    val_err1: float | None
    test_err1: float
    ci95: CI


class Average(TypedDict):
    """Of nets that weigh the same."""

    models: list[str]
    alone: float  # mean test error of these nets, each by itself
    test_err1: float
    ci95: CI


class SeedsAgainstDepths(TypedDict):
    """Averages of `size` nets each: seeds of `net`, and the best net of each of several depths."""

    size: int
    net: str
    seeds: Average
    depths: Average


# "class" is a word of Python, so this one is spelt as a call.
PerClass = TypedDict("PerClass", {"class": str, "test_err1": float | None, "count": int})


class Evaluation(TypedDict):
    """evaluate.json. per_class and confusion are the ensemble's, or the named run's where there is none."""

    data: NotRequired[dict[str, Any]]  # "protocol": views of a test image, for example "10-crop"
    members: list[Net]
    ensemble: NotRequired[Ensemble | None]
    run: NotRequired[Net | None]
    others: NotRequired[list[Net]]  # tested too
    seeds_against_depths: NotRequired[list[SeedsAgainstDepths]]
    per_class: NotRequired[list[PerClass]]
    confusion: NotRequired[list[list[int]]]  # (K, K), rows are the true classes


class Trial(TypedDict):
    name: str
    config: dict[str, Any]  # dotted key -> value
    val_err1: float | None
    steps: int | None
    stopped_early: bool
    status: str
    run_id: NotRequired[str | None]
    key: NotRequired[str | None]


class Leaderboard(TypedDict):
    trials: list[Trial]
    metric: NotRequired[str]


class Curve(TypedDict):
    """A run's learning curves; points by metric name, each a list of [step, value]."""

    run_id: str
    key: NotRequired[str]
    name: str
    model: str
    depth: int
    residual: bool
    points: dict[str, list[tuple[float, float | None]]]
    lr: NotRequired[float]
    warmup: NotRequired[bool]  # began at a lower learning rate
    recipe: NotRequired[dict[str, Any]]  # what else decides its result, see `pipeline.tracking.setting`
    seed: NotRequired[int | None]
    complete: NotRequired[bool]  # trained to its end
    plainly: NotRequired[bool]  # trained from random weights on the whole split, as the paper's nets are


class Layers(TypedDict):
    """What a net's 3x3 layers answer with after batch norm, from the input on, see `pipeline.ensemble.responses`."""

    run_id: str
    key: str
    model: str
    depth: int
    residual: bool
    seed: int | None
    snapshot: NotRequired[int]
    std: list[float]
    gradient: list[float]


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """Everything the report says; `leaderboard`, `curves` and `provenance` may be missing.

    provenance, all keys optional: git_commit, dvc_lock (hash), host (each a list of what the runs say), date (of the
    runs), versions {package: version} (of the report), commands {what it makes: command}, tracking_uri; any other key is shown under its own name.

    Raises:
        ValueError: one line a problem: which file's which key, and what is wrong with it.
    """

    data: Data
    evaluation: Evaluation
    leaderboard: Leaderboard | None = None
    curves: Sequence[Curve] = ()
    responses: Sequence[Layers] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from pydantic import TypeAdapter

        _check("data", TypeAdapter(Data), self.data)
        _check("evaluation", TypeAdapter(Evaluation), self.evaluation)
        _check("leaderboard", TypeAdapter(Leaderboard | None), self.leaderboard)
        _check("curves", TypeAdapter(list[Curve]), list(self.curves))
        _check("responses", TypeAdapter(list[Layers]), list(self.responses))
        _check("provenance", TypeAdapter(dict[str, Any]), self.provenance)

    @property
    def members(self) -> list[Net]:
        return self.evaluation["members"]

    @property
    def ensemble(self) -> Ensemble | None:
        return self.evaluation.get("ensemble")

    @property
    def gain(self) -> Gain | None:
        return self.ensemble.get("difference_to_best_member") if self.ensemble else None

    @property
    def named_run(self) -> Net | None:
        return self.evaluation.get("run")

    @property
    def nets(self) -> list[Net]:
        return evaluated(self.evaluation)

    @property
    def on_all_images(self) -> list[Net]:
        """The nets of data.split=full."""
        return [net for net in self.nets if split_of(net) == "full"]

    @property
    def best_member(self) -> Net | None:
        """The member that evaluation compared the ensemble with, else the one with the lowest validation error."""
        gain: Mapping[str, Any] = self.gain or {}
        for name in ("checkpoint_sha256", "run_id"):
            for member in self.members:
                if gain.get(name) and member.get(name) == gain.get(name):
                    return member
        return min(self.members, key=_by_validation, default=None)

    @property
    def trials(self) -> list[Trial]:
        return self.leaderboard["trials"] if self.leaderboard else []

    @property
    def kinds(self) -> dict[str, tuple[bool, int]]:
        """(residual, depth) of every run that has curves or was evaluated, by its ids (see `ids`)."""
        return {name: (run["residual"], run["depth"]) for run in (*self.curves, *self.nets) for name in ids(run)}

    @property
    def num_test(self) -> int:
        return int(self.data["counts"].get("test", 0))

    @property
    def depths(self) -> list[int]:
        """All depths in the report, so that every figure gives a depth the same colour."""
        swept = [trial["config"].get("model.depth") for trial in self.trials]
        known = [net["depth"] for net in self.nets] + [curve["depth"] for curve in self.curves]
        return sorted({int(depth) for depth in [*known, *swept] if depth is not None})


def _by_validation(net: Net) -> tuple[bool, float]:
    error = net["val_err1"]
    return (error is None, net["test_err1"] if error is None else error)


def data_of(manifest: Mapping[str, Any]) -> Data:
    """What a report says of a data store: split.num_val of the training images are validation.

    So they are to every member and trial, whatever data.split says: only the named run can be trained on all images.
    """
    num_val = int(manifest["split"]["num_val"])
    train, test = manifest["counts"]["train"] - num_val, manifest["counts"]["test"]
    return {
        "name": manifest["name"],
        "classes": list(manifest["classes"]),
        "counts": {"train": train, "val": num_val, "test": test},
        "content_hash": manifest["content_hash"],
    }


def as_the_paper(net: Net) -> bool:
    """Whether it was trained here, from random weights, on the whole split, to its end."""
    return net["steps"] > 0 and not beginnings(net)


def beginnings(net: Net) -> str:
    """What tells a net from the paper's of its name: its images, what it started from; "" where nothing does."""
    parts = [f"{net['num_train']:,} images"] if net.get("num_train") else []
    parts += [f"from {net['start']}"] if net.get("start") else []
    parts += [f"snapshot at {net['snapshot']:,}"] if net.get("snapshot") else []
    return ", ".join(parts)


def named(net: Net) -> str:
    """`full_name` with what tells the net from the paper's of that name."""
    return full_name(net) + (f" ({apart})" if (apart := beginnings(net)) else "")


def split_of(net: Net) -> str:
    """holdout, or full for a net that was trained on the validation images too and so has no validation error."""
    return "full" if net["val_err1"] is None else "holdout"


def ids(run: Mapping[str, Any]) -> set[str]:
    """What a run, a trial or a curve may be recognised by in another file: its key and its tracking id."""
    return {run[name] for name in ("key", "run_id") if run.get(name)}


def same_training(a: Net, b: Net) -> bool:
    if a.get("snapshot", 0) != b.get("snapshot", 0):
        return False
    return bool(ids(a) & ids(b)) or bool(
        a.get("checkpoint_sha256") and a.get("checkpoint_sha256") == b.get("checkpoint_sha256")
    )


def evaluated(evaluation: Evaluation) -> list[Net]:
    """Every evaluated training once: the members, then the named run if it is none of them, then the others."""
    members, run, others = evaluation["members"], evaluation.get("run"), evaluation.get("others", [])
    named = [run] if run and not any(same_training(run, member) for member in members) else []
    return [*members, *named, *others]


def net_name(depth: int, residual: bool) -> str:
    """As the paper writes it: ResNet-56, plain-56."""
    return f"{'ResNet' if residual else 'plain'}-{depth}"


def kind_of(run: Mapping[str, Any]) -> Kind:
    """Whether a net or a curve is of the paper's plain or residual nets, or of those that it is held against."""
    if _PREDECESSOR.match(run["model"]):
        return "others"
    return "residual" if run["residual"] else "plain"


def short_name(run: Mapping[str, Any]) -> str:
    """As its authors write it: ResNet-56, plain-56, VGG-16, VGG-16 (BN), GoogLeNet."""
    found = _PREDECESSOR.match(run["model"])
    if not found:
        return net_name(run["depth"], run["residual"])
    family, depth, batchnorm = found.groups()
    return _SPELT[family] + (f"-{depth}" if depth else "") + (" (BN)" if batchnorm else "")


def full_name(net: Mapping[str, Any]) -> str:
    """With the option or stride that is not the paper's first choice for the depth: ResNet-34 (C), ResNet-50 (v1.5)."""
    variant = re.search(r"\d([ABC]?)(_v1\.5)?$", net["model"])
    marks = [part.lstrip("_") for part in variant.groups() if part] if variant else []
    return short_name(net) + (f" ({', '.join(marks)})" if marks else "")


def _check(source: str, adapter: Any, value: Any) -> None:
    from pydantic import ValidationError

    try:
        adapter.validate_python(value)
    except ValidationError as error:
        problems = [
            f"report input {'.'.join([source, *map(str, problem['loc'])])}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise ValueError("\n".join(problems)) from None
