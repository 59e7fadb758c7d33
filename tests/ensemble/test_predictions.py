from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
import simplejpeg
import torch
from imports import ROOT, closure
from tiny_world import NUM_TEST, NUM_TRAIN, NUM_VAL, World, write_store
from torchvision.transforms.v2 import functional as TF

from pipeline.config import EvaluationConfig, RecipeConfig
from pipeline.ensemble import predictions
from pipeline.ensemble.predictions import Images, evaluation_images, net_of_store, probabilities, validation_images
from pipeline.errors import PipelineError
from pipeline.learn.input.module import ImageData
from pipeline.run import key as training_key
from pipeline.run.weights import BEST

CPU = torch.device("cpu")


def predict(world: World, key: str, images=None):
    images = images or validation_images(world.store)
    return probabilities(world.runs / key / BEST, images, world.runs / "predictions", CPU)


@pytest.mark.parametrize("normalize", ["channel", "per_pixel_mean"])
def test_probabilities_are_those_of_the_nets_own_validation(world, normalize):
    assert_as_validated(world, world.add_run(0.1, normalize=normalize), normalize)


def test_so_are_those_of_jpegs(shard_world):
    assert_as_validated(shard_world, shard_world.add_run(0.1), "channel")


def assert_as_validated(world: World, key: str, normalize: str) -> None:
    net, record = net_of_store(world.runs / key / BEST, world.store.manifest.content_hash)
    recipe = RecipeConfig(batch_size=10, augment=record.augment, normalize=normalize)
    data = ImageData(world.store.path, "holdout", recipe, 0, 1)
    logits, labels = [], []
    for batch in data.val_dataloader():
        images, truth = data.on_after_batch_transfer(batch, 0)
        logits.append(net(images))
        labels.append(truth)
    values = predict(world, key)
    assert values.shape == (NUM_VAL, 7) and values.dtype == np.float32
    np.testing.assert_allclose(values, torch.cat(logits).softmax(1).detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-6)
    assert np.array_equal(torch.cat(labels), validation_images(world.store).labels)
    assert len(np.unique(values.argmax(1))) > 1


def test_a_second_call_needs_no_forward_pass(world, monkeypatch):
    key = world.add_run(0.1)
    first = np.array(predict(world, key))
    monkeypatch.setattr(predictions, "net_of_store", lambda *_: 1 / 0)
    assert np.array_equal(predict(world, key), first)


@pytest.mark.parametrize("damage", [lambda c: c[:-200] + b"x" + c[-199:], lambda c: c[:-1], lambda c: b""])
def test_damaged_probabilities_are_computed_again(damage, world, capsys):
    key = world.add_run(0.1)
    first = np.array(predict(world, key))
    (path,) = (world.runs / "predictions").iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert np.array_equal(predict(world, key), first) and path.read_bytes() == whole
    assert f"{path} is damaged; the probabilities are computed again" in capsys.readouterr().err


@pytest.mark.parametrize("changed", predictions._CODE)
def test_changed_code_is_not_answered_from_the_cache(changed, world, monkeypatch, tmp_path):
    key = world.add_run(0.1)
    predict(world, key)
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(predictions, "_ROOT", tmp_path / "pipeline")
    predict(world, key)
    assert len(list((world.runs / "predictions").iterdir())) == 1
    with (tmp_path / "pipeline" / changed).open("a") as source:
        source.write("TEMPERATURE = 2\n")
    predict(world, key)
    assert len(list((world.runs / "predictions").iterdir())) == 2


def test_the_caches_names_hash_all_the_code_that_predictions_need():
    needed = {str(path.relative_to(ROOT / "pipeline")) for path in closure(ROOT / "pipeline/ensemble/predictions.py")}
    # Writing and verifying files, naming nets, progress bars and the checks of the configuration decide no probability.
    other = {"atomic.py", "credentials.py", "data/verified.py", "errors.py", "progress.py", "record.py", "run/key.py"}
    needed = {name for name in needed if not name.endswith("__init__.py") and not name.startswith("config/")} - other
    assert not {name for name in needed if not name.startswith((*predictions._CODE, *training_key._CODE))}


def test_other_images_and_other_weights_are_kept_apart(world):
    one, other = world.add_run(0.1, seed=1), world.add_run(0.1, seed=2)
    everything = evaluation_images(world.store)
    assert predict(world, one, everything).shape == (NUM_TEST, 7)
    assert not np.array_equal(predict(world, one), predict(world, other))
    assert len(list((world.runs / "predictions").iterdir())) == 3


def viewed(world: World, views: str, batchnorm: str = "running") -> Images:
    evaluation = EvaluationConfig(views=views, batchnorm=batchnorm, runs="members")  # type: ignore[arg-type]
    return evaluation_images(world.store, evaluation)


def test_ten_crops_are_averaged_after_the_softmax(shard_world):
    key = shard_world.add_run(0.1)
    values = predict(shard_world, key, viewed(shard_world, "ten_crop"))
    net, record = net_of_store(shard_world.runs / key / BEST, shard_world.store.manifest.content_hash)
    records, statistics = shard_world.store.test(), shard_world.store.statistics("holdout")
    mean, std = (torch.from_numpy(part).view(3, 1, 1) for part in (statistics.mean, statistics.std))
    expected = []
    for index in range(NUM_TEST):
        image = torch.from_numpy(simplejpeg.decode_jpeg(records.jpeg(index))).permute(2, 0, 1)
        crops = torch.stack(TF.ten_crop(image, record.augment.crop))  # stored at the side that tests take
        expected.append(net((crops / 255 - mean) / std).softmax(1).mean(0))
    np.testing.assert_allclose(values, torch.stack(expected).detach().numpy(), atol=1e-4)
    assert not np.allclose(values, predict(shard_world, key, viewed(shard_world, "single")), atol=0.01)


def test_scales_are_averaged_over_whole_images(shard_world, monkeypatch):
    monkeypatch.setattr("pipeline.learn.input.views.SCALES", (16, 24))
    key = shard_world.add_run(0.1)
    values = predict(shard_world, key, viewed(shard_world, "multi_scale"))
    net, _ = net_of_store(shard_world.runs / key / BEST, shard_world.store.manifest.content_hash)
    records, statistics = shard_world.store.test(), shard_world.store.statistics("holdout")
    mean, std = (torch.from_numpy(part).view(3, 1, 1) for part in (statistics.mean, statistics.std))
    image = torch.from_numpy(simplejpeg.decode_jpeg(records.jpeg(3))).permute(2, 0, 1)
    expected = []
    for side in (16, 24):
        whole = TF.resize(image, [side], antialias=True)
        expected += [net((view / 255 - mean)[None] / std).softmax(1)[0] for view in (whole, whole.flip(2))]
    np.testing.assert_allclose(
        values[3], torch.stack(expected).mean(0).detach().numpy(), atol=0.02
    )  # two ways to resize
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-6)


def test_a_net_that_takes_no_scales_takes_the_views_that_the_error_names(shard_world, monkeypatch):
    monkeypatch.setattr(predictions, "NO_GLOBAL_POOL", ("cifar",))
    key = shard_world.add_run(0.1)
    with pytest.raises(PipelineError, match="use evaluation=ten_crop or evaluation=single") as refused:
        predict(shard_world, key, viewed(shard_world, "multi_scale"))
    for views in re.findall(r"evaluation=(\w+)", str(refused.value)):
        assert len(predict(shard_world, key, viewed(shard_world, views))) == NUM_TEST


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_batch_norms_averages_are_taken_from_the_nets_training_images(world, mixup):
    """Mixed ones, if training mixed them."""
    key = world.add_run(0.1, mixup=mixup)
    values = predict(world, key, viewed(world, "single", "averaged"))
    net, record = net_of_store(world.runs / key / BEST, world.store.manifest.content_hash)
    recipe = RecipeConfig(batch_size=NUM_TRAIN - NUM_VAL, augment=record.augment, normalize="channel")
    data = ImageData(world.store.path, "holdout", recipe, 0, 1)
    net.train()
    for norm in (module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = 1.0  # one batch has all training images
    (batch,) = data.train_dataloader()
    net(data.on_after_batch_transfer(batch, 0)[0])
    net.eval()
    images = viewed(world, "single")
    inputs, _ = images.batches(record).finish((torch.arange(NUM_TEST), torch.empty(0)))
    np.testing.assert_allclose(values, net(inputs).softmax(1).detach().numpy(), atol=1e-5)
    assert not np.allclose(values, predict(world, key, images), atol=0.01)


def test_small_images_have_one_view(world):
    key = world.add_run(0.1)
    assert np.array_equal(predict(world, key, viewed(world, "ten_crop")), predict(world, key, viewed(world, "single")))


def test_a_net_of_full_is_normalised_by_the_statistics_of_full(world):
    holdout, full = world.add_run(0.1), world.add_run(0.1, split="full")
    assert not np.array_equal(predict(world, holdout), predict(world, full))  # the same net


def test_weights_of_another_data_set_are_refused(world, tmp_path):
    key = world.add_run(0.1)
    world.store = write_store(tmp_path / "other", "shards")
    with pytest.raises(ValueError, match="train it again on the present store"):
        predict(world, key)
