"""Weights to start a training from, or to adopt: those of a file, of a run, or torchvision's published ones."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from pipeline.config import SWEEP, Config, DataConfig, ModelConfig, StartConfig
from pipeline.config.model import DECIDED, backbone_name
from pipeline.config.stages import DIGITS
from pipeline.errors import DamagedError, MissingError, PipelineError, printable
from pipeline.learn.models.mapping import head_name, mapped
from pipeline.record import Net, from_json
from pipeline.run.foreign import header_of, read_weights
from pipeline.run.sources import PUBLISHED, RUN, TORCHVISION, ended_in_mlflow, require_ended, status_in, weights_title
from pipeline.run.torchvisions import published_weights
from pipeline.run.weights import AGAIN, BEST, HEADER, Stored, fingerprint, load_stored, recorded
from pipeline.tracking.location import Location
from pipeline.tracking.registry import download, net_of

WIRING = ("family", *DECIDED, "stride_on", "shortcut_zeros")


def start_title(start: StartConfig) -> str:
    """Title of the starting weights in tables; "" for random weights."""
    if start.checkpoint:
        return f"the last step of {start.checkpoint}"
    if not start.weights:
        return ""
    path = Path(start.weights)
    # All runs use the same file name, so the folder is part of the title.
    name = f"{path.parent.name}/{path.name}" if path.name == BEST else weights_title(start.weights)
    if start.backbone_lr != 1:
        name += f", backbone at {start.backbone_lr:g} of the rate" if start.backbone_lr else ", frozen"
    return name + (", with its head" if start.head == "kept" else "")


@dataclass(frozen=True)
class Start:
    """Starting weights, under the names that their maker gave them."""

    source: str  # as configured
    state: dict[str, Tensor]
    normalize: str = ""  # recipe.normalize of their training; "" if unknown
    net: Net | None = None  # the record, if this project made the weights
    classes: tuple[str, ...] = ()  # of their training; () if unknown
    among: tuple[Net, ...] = ()  # records of all runs that start.weights names, if there are several

    @property
    def seen(self) -> tuple[str, ...]:
        """Content hashes of the data sets whose validation images were used in training."""
        return self.net.seen if self.net else ()

    def check(self, config: Config, content_hash: str, frozen: bool, classes: tuple[str, ...] = ()) -> None:
        """Raises PipelineError for weights that would load and still be wrong; warns of those that may have seen held-back images.

        Args:
            content_hash: of the store that they are to be validated on.
            frozen: whether layers keep their weights, or batch norm its statistics, so that pixels must be normalised as in their training.
            classes: of the store.
        """
        title, model = f"start.weights={self.source}", config.model.net
        if self.net and self.net.model.detects:
            raise PipelineError(f"{title} are a detector's; start from a net that classifies, its backbone")
        if self.net and _wiring(self.net.model) != _wiring(model):
            raise PipelineError(f"{title} are those of another net ({_choice(self.net.model, config.model)})")
        bottlenecks = model.family == "imagenet" and model.depth >= 50
        if self.source.startswith(TORCHVISION) and bottlenecks and model.stride_on != "3x3":
            raise PipelineError(f"{title} have a bottleneck's stride on its 3x3 (override: model.stride_on=3x3)")
        used, wanted = config.recipe.normalize, self.normalize or config.recipe.normalize
        if frozen and used != wanted:
            raise PipelineError(
                f"{title} were trained on pixels normalised in another way than recipe.normalize={used} "
                f"(override: recipe.normalize={wanted})"
            )
        published = self.source.startswith(TORCHVISION) and config.data.source == "imagenet"
        if (published or content_hash in self.seen) and config.data.split == "holdout":
            raise PipelineError(
                f"{title} were trained on the validation images, which can therefore choose nothing (override: data.split=full)"
            )
        if self.net and self.net.data != content_hash and self.classes and self.classes == classes:
            self._check_other_split(config.data, title)

    def _check_other_split(self, data: DataConfig, title: str) -> None:
        """Warns of weights from another store with the same classes, which may have seen images that this one holds back. Where
        stores differ in the size of images alone, they have not, but no record tells.

        Raises:
            PipelineError: for `digits`, whose stores, and those of scenes, divide the same 1,797 images in different ways.
        """
        if data.source == "digits":
            raise PipelineError(
                f"{title} were trained on another split of the digits, so that {data.name} would test or validate with some of their "
                "training images; start from a run on the same store, or from random weights (override: start.weights='')"
            )
        drawn = data.source in ("folder", "boxes")  # of other sources, test images are published
        held = [*(["validation"] if data.split == "holdout" else []), *(["test"] if drawn else [])]
        if held and data.source not in DIGITS:
            print(
                f"{title} were trained on other images of the same classes; this store's {' and '.join(held)} images may be "
                "among them",
                file=sys.stderr,
            )

    @property
    def fingerprint(self) -> str:
        """12 hex digits of names, shapes and values; the same for any file that holds them."""
        return fingerprint(self.state)[:12]

    @property
    def identity(self) -> str:
        """12 hex digits, equal for nets that start alike: from these weights, or each from its own of several runs.

        Runs that newer code has repeated are the same ones here.
        """
        trainings = sorted(repr(net.training) for net in self.among)
        return hashlib.sha256("".join(trainings).encode()).hexdigest()[:12] if trainings else self.fingerprint

    def load_into(self, model: nn.Module, head: bool) -> None:
        """Copies the weights into `model`; into its last layer only if `head`.

        Raises:
            PipelineError: names of the weights that do not fit, or that they are of another number of classes.
        """
        try:
            model.load_state_dict(mapped(self.state, model, head))
        except PipelineError as error:
            why, rows = str(error), [len(tensor) for tensor in self.state.values() if tensor.ndim == 2]
            classes = len(model.get_parameter(f"{head_name(model)}.weight"))
            if head and rows and rows[-1] != classes:
                with suppress(PipelineError):
                    mapped(self.state, model, head=False)  # the rest fits
                    why = (
                        f"they name {rows[-1]:,} classes, and the data set has {classes:,}; train with start.head=new, or adopt "
                        "them on a data set of their classes"
                    )
            raise PipelineError(f"start.weights={self.source} do not fit the net: {why}") from None


def starting_point(
    source: str, runs: Path, location: Location | None, model: ModelConfig | None = None, seed: int | None = None
) -> Start | None:
    """The weights that start.weights names; None for "".

    Args:
        runs: folder of all runs, paths.runs.
        location: of MLflow, which gives a run that is not in `runs`.
        model, seed: of the net that starts, by which one of several runs is taken; None: whatever their nets or seeds are.
    Raises:
        MissingError: no such file or run.
        PipelineError: the file holds no weights, or none that can be read without running its code; a run has not
            finished; none of several runs is of this net.
    """
    if not source:
        return None
    if source.startswith(TORCHVISION):
        # torchvision's GoogLeNet turns ImageNet's normalisation into [-1, 1] before its first layer.
        normalize = "half" if "googlenet" in source.lower() else "imagenet"
        return Start(source, published_weights(source.removeprefix(TORCHVISION), model), normalize)
    if not source.startswith(RUN):
        path = Path(source)
        if not path.exists():
            raise MissingError(f"start.weights={source}: no such file; {_allowed()}")
        return _start(source, path)
    if "," in source:
        among = {run: _record(run, runs, location) for run in source.removeprefix(RUN).split(",")}
        start = starting_point(RUN + _one_of(among, model, seed), runs, location)
        return start and replace(start, among=tuple(among.values()))
    run = source.removeprefix(RUN)
    local = runs / run / BEST
    if run and local.is_file():
        require_ended("start.weights", source, status_in(local.parent), local)
        try:
            return _of_run(source, local)
        except DamagedError as error:
            if location is None:
                raise
            print(f"{error}; now MLflow's copy is used", file=sys.stderr)
    with TemporaryDirectory() as folder:
        return _of_run(source, _tracked(run, location, Path(folder), runs))


def _of_run(source: str, path: Path) -> Start:
    """The weights that a run kept. Raises DamagedError where the file is no longer as it was written."""
    try:
        return _of_stored(source, load_stored(path))
    except DamagedError:
        raise
    except PipelineError:  # every run writes a record, and a changed byte of it can be the damage
        raise DamagedError(f"{path} is damaged (its header holds no record of a net); {AGAIN}") from None


def _start(source: str, path: Path) -> Start:
    """A file's weights, with the record in its header if this project wrote it."""
    tensors, header = read_weights(path), header_of(path, HEADER)
    if header is None:
        return Start(source, tensors)
    return _of_stored(source, recorded(header, tensors, path))


def _of_stored(source: str, stored: Stored) -> Start:
    return Start(source, stored.state, stored.net.normalize, stored.net, stored.input.classes)


def _one_of(nets: dict[str, Net], model: ModelConfig | None, seed: int | None) -> str:
    """Of several runs, that of this net and this seed; without one, the first of the best on validation images."""
    alike = [run for run, net in nets.items() if model is None or _wiring(net.model) == _wiring(model.net)]
    if model is not None and not alike:
        names = ", ".join(dict.fromkeys(net.name for net in nets.values()))
        nearest = min((_choice(net.model, model) for net in nets.values()), key=len)
        raise PipelineError(
            f"none of the {len(nets)} runs that start.weights names is of {model.net.name}; they are of {names} "
            f"({nearest})"
        )

    def order(run: str) -> tuple[bool, float]:
        error = nets[run].val_err1
        return nets[run].seed != seed, math.inf if error is None else error

    return min(alike, key=order)


def _record(run: str, runs: Path, location: Location | None) -> Net:
    """Of the run's best weights, or in MLflow."""
    local = runs / run / BEST
    if run and local.is_file():
        require_ended("start.weights", RUN + run, status_in(local.parent), local)
        try:
            return from_json(json.loads(header_of(local, HEADER) or ""))
        except ValueError as error:
            damaged = DamagedError(f"{local} holds no record of a net ({printable(error)}); {AGAIN}")
            if location is None:
                raise damaged from None
            print(f"{damaged}; now MLflow's copy is used", file=sys.stderr)
    if location is None:
        raise MissingError(f"{local} is missing; {_allowed()}")
    there = ended_in_mlflow("start.weights", RUN + run, run, runs, location)
    try:
        return net_of(there)
    except PipelineError as error:
        raise PipelineError(
            f"run {printable(run)} in MLflow at {location.uri} is not the training of a net: {error}"
        ) from None


def _choice(theirs: ModelConfig, model: ModelConfig) -> str:
    """What to say of the net that weights are of, where `model` is another: the keys that choose it."""
    keys: tuple[str, ...] = WIRING
    words: list[str] = []
    if model.detects:
        if not (name := backbone_name(theirs)):
            return f"they are of {theirs.name}, which no detector is built over"
        keys, words = WIRING[len(DECIDED) + 1 :], [f"model.backbone={name}"] if name != model.backbone else []
    used = {"stride_on": theirs.bottleneck, "shortcut_zeros": theirs.residual and theirs.shortcut == "A"}
    values = [(key, getattr(theirs, key)) for key in keys if used.get(key, True)]
    words += [f"model.{key}={_word(value)}" for key, value in values if value != getattr(model.net, key)]
    return f"override: {' '.join(words)}"


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wiring(model: ModelConfig) -> tuple[str, str]:
    """The part of model.* that decides what a net computes with given weights."""
    padded = model.residual and model.shortcut == "A"
    return model.name, model.shortcut_zeros if padded else ""


def _tracked(run: str, location: Location | None, folder: Path, runs: Path) -> Path:
    if location is None:
        raise MissingError(f"{runs / run / BEST} is missing; {_allowed()}")
    try:
        there = ended_in_mlflow("start.weights", RUN + run, run, runs, location)
        return download(location, there.info.run_id, f"checkpoints/{BEST}", folder)
    except FileNotFoundError as error:
        raise MissingError(f"start.weights={RUN}{run}: {runs / run / BEST} is missing, and {error}") from None


def _allowed() -> str:
    return (
        f"give a file, {RUN}<key or MLflow's id of a run>, {SWEEP}<data set>, {PUBLISHED}<name>, or {TORCHVISION}<name>"
    )
