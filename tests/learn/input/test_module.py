"""From a store to normalised batches on the device, the same for every number of ranks."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config import AugmentConfig, DataConfig
from pipeline.data.preprocess import preprocess
from pipeline.data.sources import fetch
from pipeline.data.store import open_store
from pipeline.learn.input.batches import ArrayBatches, batches_of
from pipeline.learn.input.module import ImageData

SHIFT = AugmentConfig(kind="pad_crop", crop=8, padding=1, flip=True, min_side=0, max_side=0, pca_std=0.0, test_side=0)
JITTER = AugmentConfig(
    kind="scale_jitter", crop=24, padding=0, flip=True, min_side=24, max_side=40, pca_std=0.0, test_side=32
)
COLOURED = replace(JITTER, pca_std=0.1)
ADDITIONS: dict[str, Any] = {"trivial_augment": True, "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0}


@pytest.fixture(scope="module")
def store(digits: Path) -> Path:
    return digits / "store" / "digits"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 30 JPEGs in two classes, of differing size."""
    root = tmp_path_factory.mktemp("shards")
    for split, count in (("train", 12), ("test", 3)):
        for label, name in enumerate(("dark", "light")):
            for n in range(count):
                image = Image.new("RGB", (40 + n, 50), (100 * label + 5 * n,) * 3)
                path = root / "images" / split / name / f"{n}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
    data = DataConfig(name="two", path="images", format="shards", image_size=48, num_val=6, workers=1)
    fetch(data, root / "raw", root)
    preprocess(data, root / "raw", root / "store")
    return root / "store"


def module(
    store: Path,
    split: str = "holdout",
    augment: AugmentConfig = SHIFT,
    normalize: str = "per_pixel_mean",
    seed: int = 0,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 2,
) -> ImageData:
    size = 32 if augment.kind == "pad_crop" else 8
    recipe = SimpleNamespace(batch_size=size, accumulate=1, augment=augment, normalize=normalize)
    made = ImageData(store, split, recipe, seed, workers)  # type: ignore[arg-type]
    if ranks > 1:
        made.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)  # type: ignore[assignment]
    return made


def batches(data: ImageData, loader: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def joined(parts: list[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))


def equal(one: list[tuple[torch.Tensor, torch.Tensor]], two: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, b) for pair in zip(one, two, strict=True) for a, b in zip(*pair, strict=True)
    )


@pytest.mark.parametrize("form", ["arrays", "shards"])
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("additions", [{}, ADDITIONS], ids=["plain", "with additions"])
def test_ranks_see_together_the_images_and_crops_that_one_process_sees(
    form: str, ranks: int, additions: dict[str, Any], store: Path, shards: Path
) -> None:
    jpegs = {"store": shards, "augment": replace(COLOURED, **additions), "normalize": "channel"}
    given: dict[str, Any] = {"store": store, "augment": replace(SHIFT, **additions)} if form == "arrays" else jpegs
    whole = module(**given)
    alone = batches(whole, whole.train_dataloader())
    parts = []
    for rank in range(ranks):
        data = module(**given, rank=rank, ranks=ranks)
        parts.append(batches(data, data.train_dataloader()))
    together = [joined(list(shares)) for shares in zip(*parts, strict=True)]
    assert equal(alone, together)  # type: ignore[arg-type]


def test_the_number_of_workers_decides_no_crop(shards: Path) -> None:
    one, three = (module(shards, augment=COLOURED, normalize="channel", workers=count) for count in (1, 3))
    assert equal(batches(one, one.train_dataloader()), batches(three, three.train_dataloader()))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_validation_sees_each_held_out_image_once(ranks: int, store: Path) -> None:
    records, held_out = open_store(store).train(), open_store(store).split_indices("holdout")[1]
    parts: list[tuple[torch.Tensor, torch.Tensor]] = []
    for rank in range(ranks):
        data = module(store, rank=rank, ranks=ranks)
        parts += batches(data, data.val_dataloader())
    images, labels = joined(parts)
    mean = torch.from_numpy(open_store(store).statistics("holdout").pixel_mean)
    # Back to bytes: what was served, image by image.
    served = ((images.permute(0, 2, 3, 1) + mean) * 255).round().to(torch.uint8).numpy()
    expected = sorted((int(records.labels[i]), records.images[i].tobytes()) for i in held_out)
    assert sorted((int(label), image.tobytes()) for label, image in zip(labels, served, strict=True)) == expected


def test_training_sees_no_held_out_image(store: Path) -> None:
    data = module(store)
    rows = np.concatenate([indices.numpy() for indices, _ in data.train_dataloader()])
    train, held_out = open_store(store).split_indices("holdout")
    assert set(rows) <= set(train) and not set(rows) & set(held_out)


def test_the_training_split_has_a_mean_image_of_zero_or_channels_of_zero_mean_and_unit_deviation(store: Path) -> None:
    train, _ = open_store(store).split_indices("holdout")
    images = {}
    for normalize in ("per_pixel_mean", "channel"):
        data = module(store, normalize=normalize)
        images[normalize], _ = data.on_after_batch_transfer(data.batches.fetch(train, None), 0)
    assert images["per_pixel_mean"].mean(0).abs().max() < 1e-5
    assert images["per_pixel_mean"].std() > 0.2  # only the mean is taken off
    assert images["channel"].mean().abs() < 1e-4 and abs(images["channel"].std() - 1) < 1e-2


def test_the_full_split_has_every_training_image_and_no_validation(store: Path) -> None:
    data = module(store, split="full")
    assert not data.has_validation and data.val_dataloader() == []
    assert len(data.train_dataloader()) == 837 // 32
    assert module(store).has_validation


def test_test_images_are_not_read(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    copy.mkdir()
    for path in store.iterdir():
        # Of the right size, as the store's check wants it, and of no use.
        content = bytes(path.stat().st_size) if path.name.startswith("test_") else path.read_bytes()
        (copy / path.name).write_bytes(content)
    data = module(copy)
    assert len(batches(data, data.train_dataloader())) == 17 and len(batches(data, data.val_dataloader())) == 1


def test_shards_give_normalised_crops_of_the_size_asked_for(shards: Path) -> None:
    data = module(shards, augment=JITTER, normalize="channel")
    ((images, labels), *_) = batches(data, data.train_dataloader())
    assert images.shape == (8, 3, 24, 24) and images.is_contiguous(memory_format=torch.channels_last)
    # Images are of one colour each, brighter ones in the second class.
    brightness = images.mean((1, 2, 3))
    assert brightness[labels == 0].max() < brightness[labels == 1].min()
    none, _ = data.on_after_batch_transfer(data.batches.fetch(np.empty(0, np.int64), None), 0)
    assert none.shape == (0, 3, 24, 24)  # what a rank without validation images gets
    centred = module(shards, augment=JITTER, normalize="per_pixel_mean")
    validated, _ = joined(batches(centred, centred.val_dataloader()))
    assert validated.shape == (6, 3, 24, 24) and validated.abs().max() < 1
    assert validated.mean().abs() < 0.1  # half of the images are darker than the mean, half brighter


def test_threads_change_no_pixel(shards: Path) -> None:
    records, statistics = open_store(shards).train(), open_store(shards).statistics("full")
    for draws in (np.random.default_rng(0).random((24, 13), dtype=np.float32), None):
        one, five = (
            batches_of(records, statistics, JITTER, "channel", threads).fetch(np.arange(24), draws)
            for threads in (1, 5)
        )
        assert torch.equal(one[0], five[0]) and torch.equal(one[1], five[1])
        assert one[0].dtype == torch.uint8 and one[0].is_contiguous(memory_format=torch.channels_last)


def test_a_shift_in_colour_moves_an_image_by_one_colour_and_changes_no_crop(shards: Path) -> None:
    store, indices = open_store(shards), np.arange(24)
    draws = np.random.default_rng(0).random((24, 16), dtype=np.float32)
    plain, coloured = (
        batches_of(store.train(), store.statistics("full"), augment, "channel", 1) for augment in (JITTER, COLOURED)
    )
    assert (plain.width, coloured.width) == (13, 16)
    still, shifted = plain.fetch(indices, draws[:, :13]), coloured.fetch(indices, draws)
    assert torch.equal(still[0], shifted[0])
    moved = coloured.finish(shifted)[0] - plain.finish(still)[0]
    assert moved.std((2, 3)).max() < 1e-5 and (moved.mean((2, 3)).abs().amax(1) > 1e-4).all()
    assert len(coloured.fetch(indices, None)) == 2  # test images keep their colours


def test_images_lie_in_memory_once_a_machine(store: Path) -> None:
    records = open_store(store).train()
    made = batches_of(records, open_store(store).statistics("full"), SHIFT, "per_pixel_mean", 1)
    assert isinstance(made, ArrayBatches)
    assert made._images.data_ptr() == records.images.__array_interface__["data"][0]  # the file's map itself


def test_the_augmentation_asked_for_is_the_one_applied(store: Path) -> None:
    still = module(store, augment=AugmentConfig(**{**asdict(SHIFT), "padding": 0, "flip": False}))
    rows, draws = next(iter(still.train_dataloader()))
    moved, _ = still.on_after_batch_transfer((rows, draws), 0)
    plain, _ = still.on_after_batch_transfer((rows, torch.empty(0)), 0)
    assert torch.equal(moved, plain)
    shifting = module(store)
    assert not torch.equal(shifting.on_after_batch_transfer((rows, draws), 0)[0], plain)
