"""Members that weigh unequally and have temperatures: one average is measured, served and exported."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imports import ROOT
from runs import composed
from tiny_world import CLASSES, World, choose, val_pixels

from pipeline.config import EvaluationConfig
from pipeline.ensemble import build
from pipeline.ensemble.build import Ensemble, build_ensemble, read_ensemble
from pipeline.ensemble.judge import judge
from pipeline.ensemble.predictions import Images, evaluation_images, validation_images
from pipeline.ensemble.server import classifier
from pipeline.record import Net
from pipeline.stages import export
from pipeline.tracking import models
from pipeline.workspace import Workspace

WEIGHTS, TEMPERATURES = (0.75, 0.25), (1.0, 2.0)
CLOSE = 1e-4


@pytest.fixture
def ensemble(world: World, monkeypatch: pytest.MonkeyPatch) -> Ensemble:
    """In the workspace of digits, which has the world's store."""

    def chosen(source: object, config: object, candidates: list[Net], *_: object) -> list[Net]:
        return [replace(net, weight=weight) for net, weight in zip(candidates, WEIGHTS, strict=True)]

    def calibrated(config: object, members: list[Net], *_: object) -> list[Net]:
        return [replace(net, temperature=value) for net, value in zip(members, TEMPERATURES, strict=True)]

    monkeypatch.setattr(build, "choose", chosen)
    monkeypatch.setattr(build, "calibrated", calibrated)
    world.add_run(0.2, depth=14, seed=3, normalize="per_pixel_mean")
    world.add_run(0.3, seed=5)
    workspace = Workspace(world.root, "digits")
    shutil.copytree(world.root / "store", workspace.store("digits"))
    build_ensemble(world.source, choose("top_k", size=2), workspace.ensemble, {})
    made = read_ensemble(workspace.ensemble, world.store.manifest.content_hash)
    assert [(net.weight, net.temperature) for net in made.members] == list(zip(WEIGHTS, TEMPERATURES, strict=True))
    return made


def found(world: World, ensemble: Ensemble, images: Images) -> list[np.ndarray]:
    """(N, K) of each member."""
    folder = world.root / "fetched"
    return [np.array(world.source.probabilities(world.source.fetch(net, folder), images)) for net in ensemble.members]


def averaged(members: Sequence[np.ndarray]) -> np.ndarray:
    """(N, K) float64: a temperature takes a root of the probabilities."""
    total: Any = 0.0
    for values, weight, temperature in zip(members, WEIGHTS, TEMPERATURES, strict=True):
        roots = values.astype(np.float64) ** (1 / temperature)
        total += weight * roots / roots.sum(1, keepdims=True)
    return total


def exported(world: World, path: Path, images: torch.Tensor) -> np.ndarray:
    config = composed(ROOT, "data=digits", "export.format=pt2", f"export.path={path}", "trainer.accelerator=cpu")
    export.run(config, Workspace(world.root, "digits"))
    with torch.no_grad():
        return torch.export.load(path).module()(images).numpy()


def test_what_is_measured_served_and_exported_is_the_same_average(
    world: World, ensemble: Ensemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    val, test = validation_images(world.store), evaluation_images(world.store, EvaluationConfig())
    expected, alone = averaged(found(world, ensemble, val)), found(world, ensemble, test)
    assert ensemble.val_err1 == pytest.approx((expected.argmax(1) != val.labels).mean())

    result, average = judge(ensemble, test, alone)
    np.testing.assert_allclose(average, averaged(alone), atol=CLOSE)
    errors = [(values.argmax(1) != test.labels).mean() for values in (alone[0], averaged(alone))]
    assert result["ensemble"]["test_err1"] == pytest.approx(errors[1])
    assert [row["test_err1"] for row in result["ensemble"]["by_size"]] == pytest.approx(errors)

    pixels, (model, _) = val_pixels(world), models.load(world.location, "resnet-ensemble-tiny")
    for batch in (128, 8):  # of 21 images
        monkeypatch.setattr(sys.modules[type(model).__module__], "BATCH", batch)
        table = classifier(model).answer(pixels.tolist(), "uint8")
        assert tuple(table.columns) == CLASSES
        np.testing.assert_allclose(table.to_numpy(), expected, atol=CLOSE)

    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    np.testing.assert_allclose(exported(world, tmp_path / "two.pt2", images), expected, atol=CLOSE)
