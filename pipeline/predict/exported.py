"""Nets and ensembles as files that other programs run: ONNX, or a program of torch.export.

Both take "images", (N, C, H, W) uint8 with any N, and give "probabilities", (N, K) float32; the file holds the classes' names.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.atomic import replacing
from pipeline.errors import PipelineError
from pipeline.predict.net import ImageClassifier

CLOSE = 1e-4  # largest difference between a probability and torch's
CLASSES = "classes"  # JSON among ONNX's metadata, and the extra files of a program of torch.export
CHECKED = 7  # images on which the file is compared with torch
SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2"}


class Averaged(nn.Module):
    """Members' probabilities, averaged after the softmax, in operations that can be exported.

    Args:
        members: of the same images and classes.
        weights: (M,) that sum to 1.
        temperatures: (M,) by which members' logits are divided.
    """

    def __init__(
        self,
        members: Sequence[ImageClassifier],
        weights: Sequence[float] = (1.0,),
        temperatures: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._weights, self._temperatures = tuple(weights), tuple(temperatures)
        self.classes, self.shape = members[0].classes, members[0].shape

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) float32 probabilities of (N, C, H, W) uint8 images."""
        total: Any = 0.0
        for member, weight, temperature in zip(self.members, self._weights, self._temperatures, strict=True):
            logits = member.net(member.normalized(images))  # type: ignore[operator]
            total = total + weight * (logits / temperature).softmax(1)
        return total


def export(net: Averaged, path: Path, form: str) -> float:
    """Writes the net; returns the largest difference of a probability between the file and torch on random images.

    Args:
        form: a key of SUFFIXES.
    Raises:
        PipelineError: the file would differ by more than CLOSE, or a library for it is missing.
    """
    net = net.eval()
    images = torch.randint(256, (CHECKED, *net.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(images).numpy()
    with replacing(path) as part:
        with _quiet():
            program = torch.export.export(net, (images,), dynamic_shapes={"images": {0: torch.export.Dim("N")}})
            answered = (_onnx if form == "onnx" else _pt2)(program, net, part, images)
        difference = float(np.abs(answered - expected).max())
        if not difference <= CLOSE:
            raise PipelineError(
                f"{path} would answer with probabilities that differ from torch's by up to {difference:.2g}"
            )
    return difference


def _onnx(program: torch.export.ExportedProgram, net: Averaged, path: Path, images: Tensor) -> np.ndarray:
    """Writes the program as ONNX; what onnxruntime answers to the images."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch needs it)
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"export.format=onnx needs the package {error.name}, which is not installed; install the dependencies again "
            "(make .venv/.installed), or choose another format (override: export.format=pt2)"
        ) from None
    names = {"input_names": ["images"], "output_names": ["probabilities"]}
    converted = torch.onnx.export(program, dynamo=True, verbose=False, **names)  # type: ignore[arg-type]
    assert converted is not None
    converted.model.metadata_props[CLASSES] = json.dumps(net.classes)
    converted.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": images.numpy()})[0]


def _pt2(program: torch.export.ExportedProgram, net: Averaged, path: Path, images: Tensor) -> np.ndarray:
    """Saves the program; what it answers to the images."""
    with path.open("wb") as stream:
        torch.export.save(program, stream, extra_files={CLASSES: json.dumps(net.classes)})
    with path.open("rb") as stream, torch.no_grad():
        return torch.export.load(stream).module()(images).numpy()


@contextmanager
def _quiet() -> Iterator[None]:
    """For the block, torch's exporter says nothing about its operators, its rewriting and its deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
