"""A file of weights is enough to predict."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imports import ROOT
from runs import run_folder

from pipeline.data.store import Store, open_store
from pipeline.ensemble.predictions import BATCH, evaluation_images, probabilities
from pipeline.errors import DamagedError
from pipeline.learn.models import build_model
from pipeline.predict import load_net
from pipeline.run.inputs import TENSORS, input_of
from pipeline.run.start import starting_point
from pipeline.run.weights import BEST, fingerprint, load_stored, load_weights, save_weights

CPU = torch.device("cpu")


def evaluated(weights: Path, store: Store, cache: Path) -> np.ndarray:
    """(N, K) probabilities of the store's test images, as `pipeline evaluate` computes them."""
    return probabilities(weights, evaluation_images(store), cache, CPU, workers=1)


def test_a_net_of_arrays_gives_the_probabilities_of_evaluation(reference: Path, tmp_path: Path) -> None:
    weights, store = run_folder(reference) / BEST, open_store(reference / "data/store/digits")
    net = load_net(weights)
    images = torch.from_numpy(np.array(store.test().images)).permute(0, 3, 1, 2)
    values = torch.cat([net(batch) for batch in images.split(BATCH)])
    assert values.dtype == torch.float32 and net.classes == tuple("0123456789") and net.shape == (1, 8, 8)
    np.testing.assert_array_equal(values.numpy(), evaluated(weights, store, tmp_path))
    assert (values.argmax(1).numpy() != store.test().labels).mean() < 0.4
    assert load_stored(weights).input.mean.shape == (8, 8, 1)


@pytest.mark.parametrize("normalize", ["per_pixel_mean", "channel", "imagenet"])
def test_a_net_of_jpegs_gives_the_probabilities_of_evaluation(normalize: str, photos: Any, tmp_path: Path) -> None:
    net = replace(photos.net, normalize=normalize)
    built = build_model(net.model, net.num_classes, net.in_channels)
    built.load_state_dict(load_weights(photos.weights)[0])
    save_weights(built, tmp_path / BEST, net, input=input_of(photos.store, net))
    images = evaluation_images(photos.store)
    crops, _ = images.batches(net).fetch(images.indices, None)
    expected = evaluated(tmp_path / BEST, photos.store, tmp_path)
    np.testing.assert_array_equal(load_net(tmp_path / BEST)(crops).numpy(), expected)
    assert np.ptp(expected[:, 0]) > 1e-4  # the images differ


def test_what_images_need_is_no_part_of_the_weights(photos: Any) -> None:
    state, net = load_weights(photos.weights)
    built = build_model(net.model, net.num_classes, net.in_channels)
    assert state.keys() == built.state_dict().keys() and not set(TENSORS) & state.keys()
    start = starting_point(str(photos.weights), photos.weights.parent, None)
    assert start is not None and start.state.keys() == state.keys()
    assert start.fingerprint == fingerprint(state)[:12]  # a part of the keys of trainings that start there


@pytest.mark.parametrize("name", TENSORS)
def test_a_changed_constant_is_noticed(name: str, photos: Any, tmp_path: Path) -> None:
    content = bytearray(photos.weights.read_bytes())
    data = 8 + int.from_bytes(content[:8], "little")  # behind the header and its length
    content[data + json.loads(content[8:data])[name]["data_offsets"][0]] ^= 1
    (tmp_path / BEST).write_bytes(content)
    with pytest.raises(DamagedError, match="its digest disagrees"):
        load_net(tmp_path / BEST)


def test_weights_of_another_net_than_the_record_names_are_refused(photos: Any, tmp_path: Path) -> None:
    input = load_stored(photos.weights).input
    save_weights(torch.nn.Linear(2, 2), tmp_path / BEST, photos.net, input=input)
    with pytest.raises(ValueError, match="its weights do not fit ResNet-18"):
        load_net(tmp_path / BEST)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(2, 3, 32, 32), "images of torch.float32; send uint8 pixels from 0 to 255"),
        (torch.zeros(2, 32, 32, 3, dtype=torch.uint8), r"channels come first: images.permute\(0, 3, 1, 2\)"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), r"takes \(N, 3, 32, 32\)"),
        (torch.zeros(2, 3, 40, 40, dtype=torch.uint8), r"shape \(2, 3, 40, 40\); .*`pipeline predict` resizes files"),
        (np.zeros((2, 3, 32, 32), np.uint8), "images are a ndarray; send a uint8 tensor"),
    ],
)
def test_other_images_are_refused_in_a_sentence(images: Any, sentence: str, photos: Any) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_net(photos.weights)(images)


def test_the_pages_python_predicts(photos: Any) -> None:
    (code,) = re.findall(
        r"^    from pipeline\.predict .*\n(?:    .*\n)+", (ROOT / "docs/ensembles.md").read_text(), re.M
    )
    values = {"images": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)}
    exec(re.sub('load_net\\(".*"\\)', f"load_net({str(photos.weights)!r})", textwrap.dedent(code)), values)
    assert values["probabilities"].shape == (2, len(values["net"].classes))  # type: ignore[attr-defined]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no such file"):
        load_net(tmp_path / "none.safetensors")
