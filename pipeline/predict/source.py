"""What predicts: the registered ensemble, the net of a run, or that of a file of weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.config import Config
from pipeline.data.boxes import Detections
from pipeline.ensemble.pixels import pixels_of
from pipeline.ensemble.register import model_name
from pipeline.errors import DamagedError, MissingError, printable
from pipeline.learn.training.precision import uses_cuda
from pipeline.predict.detector import ImageDetector
from pipeline.predict.net import ImageClassifier, load_net
from pipeline.run import RUN
from pipeline.run.inputs import Resize
from pipeline.run.sources import PUBLISHED, ended_in_mlflow, published, require_ended, status_in
from pipeline.run.sources import RUN as PREFIX
from pipeline.run.weights import BEST
from pipeline.tracking import models, registry
from pipeline.tracking.location import locate, require_answer
from pipeline.workspace import Workspace


class Predictor(NamedTuple):
    """Names the K classes of images."""

    title: str
    classes: Sequence[str]
    resize: Resize
    probabilities: Callable[[np.ndarray], np.ndarray]  # (N, H, W, C) uint8 -> (N, K) float32


class Finder(NamedTuple):
    """Finds objects of K classes in images."""

    title: str
    classes: Sequence[str]
    resize: Resize
    detect: Callable[[Tensor], Detections]  # in a (C, H, W) uint8 image, boxes in its pixels


def predictor(config: Config, workspace: Workspace) -> Predictor | Finder:
    """What predict.weights names.

    Raises:
        MissingError: no such file or run, or no registered ensemble.
        PipelineError: a run that has not finished, or weights that cannot be used.
    """
    device = "cuda" if uses_cuda(config.trainer.accelerator) else "cpu"
    if not config.predict.weights:
        return _registered(config, device)
    net = named_net("predict.weights", config.predict.weights, config, workspace).to(device)
    title = f"{net.record.name}, run {net.record.key}"
    if isinstance(net, ImageDetector):
        return Finder(title, net.classes, net.resize, lambda image: net([image.to(device)])[0])

    def probabilities(images: np.ndarray) -> np.ndarray:
        return net(torch.from_numpy(images).permute(0, 3, 1, 2).to(device)).cpu().numpy()

    return Predictor(title, net.classes, net.resize, probabilities)


def named_net(key: str, weights: str, config: Config, workspace: Workspace) -> ImageClassifier | ImageDetector:
    """The net of a file, of published:<name>, or of run:<key or MLflow's id>.

    Args:
        key: of the configuration, whose value `weights` is.
    Raises:
        MissingError: no such file or run.
        PipelineError: a run that has not finished, or weights that cannot be used.
    """
    if weights.startswith(PUBLISHED):
        return load_net(published(weights.removeprefix(PUBLISHED), workspace.root))
    if not weights.startswith(PREFIX):
        return load_net(Path(weights).expanduser())
    run = weights.removeprefix(PREFIX)
    folder = Path(config.paths.runs) / run
    if run and ((folder / RUN).is_file() or (folder / BEST).is_file()):
        require_ended(key, weights, status_in(folder), folder / BEST)
        try:
            return load_net(folder / BEST)
        except (DamagedError, MissingError) as error:
            print(f"{error}; now MLflow's copy is used", file=sys.stderr)
    with TemporaryDirectory() as scratch:
        return load_net(_downloaded(key, weights, run, config, Path(scratch)))


def _registered(config: Config, device: str) -> Predictor | Finder:
    location, name = locate(config.tracking.uri, config.paths.mlruns), model_name(config.data.name)
    require_answer(location, "the registered ensemble is in MLflow")
    model, version = models.load(location, name, device)
    make = _finder if hasattr(model, "detect") else _predictor
    return make(model, f"{name} version {version}", Resize.read(model.resize))


def _finder(model: Any, title: str, resize: Resize) -> Finder:
    """Of a `detection.model.DetectorModel`."""
    return Finder(title, model.classes, resize, lambda image: Detections(*model.detect(image)))


def _predictor(model: Any, title: str, resize: Resize) -> Predictor:
    """Of an `ensemble.model.EnsembleModel`."""

    def probabilities(images: np.ndarray) -> np.ndarray:
        return model.probabilities(pixels_of(images, model.shape)).to_numpy()

    return Predictor(title, model.classes, resize, probabilities)


def _downloaded(key: str, weights: str, run: str, config: Config, scratch: Path) -> Path:
    """The run's best weights, from MLflow."""
    location = locate(config.tracking.uri, config.paths.mlruns)
    try:
        there = ended_in_mlflow(key, weights, run, Path(config.paths.runs), location)
        return registry.download(location, there.info.run_id, f"checkpoints/{BEST}", scratch)
    except MissingError as error:
        raise MissingError(
            f"{key}={printable(weights)}: {config.paths.runs} has no such run, and {error}; give the key of a run, "
            "its id in MLflow, or a file of weights"
        ) from None
