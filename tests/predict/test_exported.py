"""Exported nets answer as they do in torch, to other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from runs import run_folder

from pipeline.ensemble.forward import average, tempered
from pipeline.errors import PipelineError
from pipeline.predict import exported, load_net
from pipeline.predict.exported import CLASSES, CLOSE, Averaged, export
from pipeline.run.weights import BEST

COUNTS = (1, 3, exported.CHECKED)  # images at a time


def images_for(net: Any, count: int) -> torch.Tensor:
    return torch.randint(256, (count, *net.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


def answered(path: Path, images: torch.Tensor) -> np.ndarray:
    if path.suffix == ".onnx":
        return onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})[0]
    return torch.export.load(path).module()(images).detach().numpy()


@pytest.mark.parametrize("form", exported.SUFFIXES)
def test_a_net_answers_as_in_torch_whatever_the_number_of_images(
    form: str, reference: Path, tmp_path: Path, caplog: Any
) -> None:
    caplog.set_level("INFO")
    net, path = load_net(run_folder(reference) / BEST), tmp_path / f"net{exported.SUFFIXES[form]}"
    assert export(Averaged([net]), path, form) <= CLOSE
    for count in COUNTS:
        images = images_for(net, count)
        np.testing.assert_allclose(answered(path, images), net(images), atol=CLOSE)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert not caplog.records  # the exporter's own steps are no news to the user


@pytest.mark.slow
def test_a_net_of_photos_answers_as_in_torch(photos: Any, tmp_path: Path) -> None:
    net = load_net(photos.weights)
    export(Averaged([net]), tmp_path / "net.onnx", "onnx")
    images = images_for(net, 3)
    np.testing.assert_allclose(answered(tmp_path / "net.onnx", images), net(images), atol=CLOSE)


def test_an_ensemble_answers_with_weights_and_temperatures(reference: Path, tmp_path: Path) -> None:
    weights, temperatures = (0.75, 0.25), (1.0, 2.0)
    nets = [load_net(run_folder(reference) / BEST) for _ in weights]
    with torch.no_grad():
        nets[1].net.fc.bias.add_(torch.arange(10.0))
    images = images_for(nets[0], 5)
    values = [tempered(net(images).numpy(), t) for net, t in zip(nets, temperatures, strict=True)]
    export(Averaged(nets, weights, temperatures), tmp_path / "two.onnx", "onnx")
    np.testing.assert_allclose(answered(tmp_path / "two.onnx", images), average(values, weights), atol=CLOSE)
    metadata = onnxruntime.InferenceSession(tmp_path / "two.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(metadata[CLASSES]) == list("0123456789")


def test_a_file_that_answers_otherwise_is_not_written(reference: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(exported, "CLOSE", -1.0)
    with pytest.raises(PipelineError, match=r"differ from torch's by up to"):
        export(Averaged([load_net(run_folder(reference) / BEST)]), tmp_path / "net.pt2", "pt2")
    assert not list(tmp_path.iterdir())
