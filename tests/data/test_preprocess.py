from __future__ import annotations

import errno
import hashlib
import io
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from photos import encoded, held, noise, shard_names, tar
from PIL import Image
from published import SHARED, needs

from pipeline.config import DataConfig
from pipeline.data import convert
from pipeline.data.places import OFFICIAL, Official
from pipeline.data.preprocess import preprocess
from pipeline.data.sources import fetch
from pipeline.data.store import open_store
from pipeline.errors import PipelineError

CLASSES = ("bird", "cat", "dog")


def config(**changes) -> DataConfig:
    values = {"name": "set", "source": "folder", "path": "set.tgz", "image_size": 8, "num_val": 6, "workers": 2}
    return DataConfig(**(values | changes))


CIFAR = config(name="cifar10", source="cifar10", path="", mirror=".", image_size=32)


def build(data: DataConfig, root: Path, out: str = "store", **options):
    fetch(data, root / "raw", root)
    return preprocess(data, root / "raw", root / out, **options)


def images(shape=(8, 8), format_: str = "PNG", per_class: int = 7) -> dict[str, bytes]:
    """Three classes of `per_class` training and two test images."""
    numbers = [("train", n) for n in range(per_class)] + [("test", n) for n in range(per_class, per_class + 2)]
    return {
        f"{split}/{name}/{n}.png": encoded(noise(100 * label + n, *shape), format_)
        for label, name in enumerate(CLASSES)
        for split, n in numbers
    }


def archive(path: Path, files: dict[str, bytes]) -> None:
    path.write_bytes(tar(files, mode="w:gz"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("format_", ["arrays", "shards"])
def test_the_store_is_the_same_bytes_for_any_order_and_any_number_of_workers(format_, tmp_path):
    files = images(shape=(8, 8) if format_ == "arrays" else (90, 70), per_class=60)
    archive(tmp_path / "set.tgz", files)
    first = build(config(format=format_, workers=1), tmp_path, "first")
    archive(tmp_path / "set.tgz", dict(reversed(files.items())))
    second = build(config(format=format_, workers=7), tmp_path, "second")
    assert first == second
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*"))


def test_arrays_hold_every_image_under_its_label(tmp_path):
    archive(tmp_path / "set.tgz", images())
    manifest = build(config(), tmp_path)
    assert (manifest.classes, manifest.counts, manifest.channels) == (CLASSES, {"train": 21, "test": 6}, 3)
    assert (manifest.height, manifest.width, manifest.format) == (8, 8, "arrays")
    files = contents(tmp_path / "store")
    del files["manifest.json"]
    facts = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
    assert manifest.files == facts
    store = open_store(tmp_path / "store")
    for records, numbers in ((store.train(), range(7)), (store.test(), range(7, 9))):
        expected = [noise(100 * label + n) for label in range(3) for n in numbers]
        assert np.array_equal(records.images, expected)
        assert records.labels.tolist() == [label for label in range(3) for _ in numbers]


def test_statistics_see_only_the_splits_training_images(tmp_path):
    archive(tmp_path / "set.tgz", images())
    build(config(), tmp_path)
    store = open_store(tmp_path / "store")
    for split, count in (("holdout", 15), ("full", 21)):
        train, val = store.split_indices(split)
        assert len(train) == count and len(val) == 21 - count
        chosen, statistics = store.train().images[train] / 255, store.statistics(split)
        np.testing.assert_allclose(statistics.pixel_mean, chosen.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(statistics.mean, chosen.mean(axis=(0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(statistics.std, chosen.std(axis=(0, 1, 2)), rtol=1e-6)


def test_the_hash_follows_split_and_images_but_not_workers_or_name(tmp_path):
    archive(tmp_path / "set.tgz", images())
    first = build(config(), tmp_path).content_hash
    assert build(config(workers=1, name="other", split="full"), tmp_path).content_hash == first
    assert build(config(split_seed=1), tmp_path).content_hash != first
    assert build(config(num_val=7), tmp_path).content_hash != first
    archive(tmp_path / "set.tgz", images(per_class=8))
    assert build(config(), tmp_path).content_hash != first


def with_val(per_class: int = 2) -> dict[str, bytes]:
    """`images`, and validation images under the names of training images."""
    numbers = [(label, name, n) for label, name in enumerate(CLASSES) for n in range(per_class)]
    return images() | {f"valid/{name}/{n}.png": encoded(noise(1000 + 100 * label + n)) for label, name, n in numbers}


@pytest.mark.parametrize("format_", ["arrays", "shards"])
def test_published_validation_images_are_the_validation_split_and_full_trains_on_them_too(format_, tmp_path, caplog):
    caplog.set_level("INFO")
    archive(tmp_path / "set.tgz", with_val())
    manifest = build(config(format=format_), tmp_path)
    assert (
        "set: the 6 images of val are the validation split; data.num_val and data.split_seed do not apply"
        in caplog.text
    )
    assert manifest.split == {"num_val": 6, "seed": 0, "published": True} and manifest.counts["train"] == 27
    store = open_store(tmp_path / "store")
    train, val = store.split_indices("holdout")
    assert sorted([*train, *val]) == list(range(27)) == store.split_indices("full")[0].tolist()
    assert np.bincount(store.train().labels[val]).tolist() == [2, 2, 2]
    if format_ == "arrays":
        assert np.array_equal(
            store.train().images[val], [noise(1000 + 100 * label + n) for label in range(3) for n in (0, 1)]
        )
    assert build(config(format=format_, num_val=9, split_seed=3), tmp_path).content_hash == manifest.content_hash


def test_a_corrupt_validation_image_is_named_by_its_split_and_they_must_not_all_be_corrupt(tmp_path):
    files = with_val(per_class=1)
    archive(tmp_path / "set.tgz", files | {"valid/cat/0.png": b"page"})
    assert build(config(skip_corrupt=True), tmp_path).skipped == ("val/cat/0.png",)
    archive(tmp_path / "set.tgz", files | {f"valid/{name}/0.png": b"page" for name in CLASSES})
    with pytest.raises(PipelineError, match="no image of the validation split of set can be used"):
        build(config(skip_corrupt=True), tmp_path)


@pytest.mark.parametrize(("per_class", "num_val"), [(7, 4), (2, 3)])
def test_a_fifth_of_the_training_images_validates_but_one_of_each_class_at_least(per_class, num_val, tmp_path):
    archive(tmp_path / "set.tgz", images(per_class=per_class))
    assert build(config(num_val=0), tmp_path).split == {"num_val": num_val, "seed": 0}
    store = open_store(tmp_path / "store")
    _, val = store.split_indices("holdout")
    assert len(val) == num_val and set(store.train().labels[val]) == {0, 1, 2}


def test_where_no_test_set_is_published_the_same_images_are_tested_whatever_the_seed_of_validation(tmp_path, caplog):
    caplog.set_level("INFO")
    archive(
        tmp_path / "set.tgz",
        {name[len("train/") :]: png for name, png in images(per_class=10).items() if "train" in name},
    )
    assert build(config(), tmp_path).counts == {"train": 24, "test": 6}
    assert "so 6 of 30 images, drawn by class with a fixed seed, are the test set (data.num_test)" in caplog.text
    before = contents(tmp_path / "store")
    build(config(split_seed=1), tmp_path)
    after = contents(tmp_path / "store")
    assert before["test_images.npy"] == after["test_images.npy"] and before["splits.npz"] != after["splits.npz"]
    assert build(config(num_test=9), tmp_path).counts == {"train": 21, "test": 9}


def test_stores_of_class_folders_keep_their_hash(tmp_path):
    archive(tmp_path / "set.tgz", images())
    assert build(config(), tmp_path).content_hash == "0328158e4f73255b1b05f76e2863d146c656d02a827b78cd94a537e1f7ff4953"


def test_images_of_another_form_become_rgb_and_are_resized_then_cropped_to_the_centre(tmp_path):
    wide, grey = Image.fromarray(noise(1, 16, 48)), noise(2)[..., 0]
    archive(
        tmp_path / "set.tgz", images() | {"train/bird/grey.png": encoded(grey), "train/bird/wide.png": encoded(wide)}
    )
    assert build(config(), tmp_path).counts["train"] == 23
    pixels = open_store(tmp_path / "store").train().images
    assert np.array_equal(pixels[7], np.stack([grey] * 3, axis=2))
    assert np.array_equal(pixels[8], np.asarray(wide.resize((24, 8), Image.Resampling.BICUBIC))[:, 8:16])


def test_shards_keep_small_jpegs_and_shrink_large_ones(tmp_path):
    files = images((60, 70), "JPEG") | {"train/dog/large.png": encoded(noise(5, 200, 300), "JPEG")}
    archive(tmp_path / "set.tgz", files)
    manifest = build(config(format="shards", image_size=100), tmp_path)
    assert (manifest.height, manifest.width, manifest.image_size) == (0, 0, 100)
    records, names = open_store(tmp_path / "store").train(), shard_names(tmp_path / "store", "train")
    for index, name in enumerate(names):
        if name != "dog/large.png":
            assert bytes(records.jpeg(index)) == files[f"train/{name}"]
    shrunk = Image.open(io.BytesIO(records.jpeg(names.index("dog/large.png"))))
    assert shrunk.size == (150, 100)
    assert records.labels.tolist() == [CLASSES.index(name.split("/")[0]) for name in names]


def test_shard_statistics_are_close_to_those_of_the_pixels(tmp_path):
    archive(tmp_path / "set.tgz", images((60, 60), "JPEG"))
    build(config(format="shards", image_size=100), tmp_path, statistics_images=9)
    statistics = open_store(tmp_path / "store").statistics("full")
    assert statistics.pixel_mean.shape == (256, 256, 3) and statistics.covariance.shape == (3, 3)
    np.testing.assert_allclose(statistics.pixel_mean.mean((0, 1)), [0.5] * 3, atol=0.02)
    np.testing.assert_allclose(statistics.mean, [0.5] * 3, atol=0.02)
    np.testing.assert_allclose(statistics.std, [0.29] * 3, atol=0.1)


def test_shard_statistics_of_a_split_see_its_training_images_alone(tmp_path):
    levels = {"train": range(0, 90, 10), "valid": range(200, 240, 10), "test": [120]}
    grey = {
        f"{split}/{name}/{level + at}.jpg": encoded(Image.new("L", (24, 16), level + at), "JPEG", quality=95)
        for at, name in enumerate(CLASSES)
        for split, of in levels.items()
        for level in of
    }
    archive(tmp_path / "set.tgz", grey)
    build(config(format="shards"), tmp_path)
    store = open_store(tmp_path / "store")
    stored = np.array([int(Path(name).stem) for name in shard_names(tmp_path / "store", "train")])
    for split, mean in (("holdout", 41), ("full", (9 * 41 + 4 * 216) / 13)):
        assert stored[store.split_indices(split)[0]].mean() == pytest.approx(mean)
        np.testing.assert_allclose(store.statistics(split).mean, [mean / 255] * 3, atol=1 / 255)


@pytest.mark.parametrize("format_", ["arrays", "shards"])
def test_own_photographs_are_stored_upright_and_published_ones_as_they_are(format_, tmp_path):
    picture = noise(6, 32, 32)
    sideways = encoded(picture, "JPEG", quality=95, exif=held(6))
    archive(tmp_path / "cifar10.tgz", images((32, 32)) | {"train/dog/x.jpg": sideways})
    stored = {}
    for data in (config(path="cifar10.tgz", image_size=32, format=format_), CIFAR):
        build(data, tmp_path, data.source)
        records = open_store(tmp_path / data.source).train()
        last = len(records) - 1  # dog/x.jpg
        stored[data.source] = (
            records.images[last]
            if data.format == "arrays"
            else np.asarray(Image.open(io.BytesIO(records.jpeg(last))), np.uint8)
        )
    decoded = np.asarray(Image.open(io.BytesIO(sideways)))
    np.testing.assert_array_equal(stored["cifar10"], decoded)
    difference = np.abs(stored["folder"].astype(int) - np.rot90(decoded, -1))
    assert difference.mean() < (1 if format_ == "arrays" else 6)  # of noise, which JPEG keeps badly


def test_test_images_that_are_training_images_too_are_counted(tmp_path, caplog):
    files = images()
    archive(
        tmp_path / "set.tgz",
        files | {"test/cat/a.png": files["train/dog/3.png"], "test/dog/b.png": files["train/dog/3.png"]},
    )
    assert build(config(), tmp_path).counts["test"] == 8
    assert caplog.messages == [
        "2 test images of set are byte for byte training images, such as cat/a.png of test and dog/3.png of train"
    ]


@pytest.mark.parametrize("format_", ["arrays", "shards"])
def test_corrupt_images_are_all_named_or_left_out_on_demand(format_, tmp_path):
    files = images((60, 60), "JPEG")
    for name in ("train/cat/3.png", "test/dog/8.png"):
        files[name] = files[name][:900]
    archive(tmp_path / "set.tgz", files | {"train/bird/page.jpg": b"<html>not found</html>"})
    corrupt, report = ("train/bird/page.jpg", "train/cat/3.png", "test/dog/8.png"), tmp_path / "store.corrupt.txt"

    with pytest.raises(ValueError, match=r"3 images of set cannot be used: .*data\.skip_corrupt=true") as caught:
        build(config(format=format_, image_size=60), tmp_path)
    lines = report.read_text().splitlines()
    assert tuple(line.split(":")[0] for line in lines) == corrupt
    assert all(text in str(caught.value) for text in (*lines, str(report)))
    assert not (tmp_path / "store").exists() and not list(tmp_path.glob(".*"))

    manifest = build(config(format=format_, image_size=60, skip_corrupt=True), tmp_path)
    assert manifest.skipped == corrupt and manifest.counts == {"train": 20, "test": 5}
    store = open_store(tmp_path / "store")
    assert np.bincount(store.train().labels).tolist() == [7, 6, 7] and len(store.test()) == 5
    assert not report.exists()


@pytest.mark.parametrize(
    ("damaged", "sentence"),
    [
        ("train/cat/", "class cat has one usable training image"),
        ("train/", "class bird has one usable training image"),
        ("test/dog/", "no usable test image of class dog is left"),
        ("test/", r"no usable test image of class bird is left \(3 classes in all\)"),
    ],
)
def test_skipping_corrupt_images_never_empties_a_class(damaged, sentence, tmp_path):
    files = images()
    cut = [name for name in files if name.startswith(damaged) and not name.endswith("/0.png")]
    archive(tmp_path / "set.tgz", files | {name: files[name][:20] for name in cut})
    with pytest.raises(PipelineError, match=sentence):
        build(config(skip_corrupt=True, num_val=3), tmp_path)
    assert not (tmp_path / "store").exists()


def test_a_class_of_one_image_is_named(tmp_path):
    archive(
        tmp_path / "set.tgz", images() | {"train/elk/1.png": encoded(noise(0)), "test/elk/2.png": encoded(noise(1))}
    )
    with pytest.raises(PipelineError, match=r"class elk has one usable training image; each class needs one to train"):
        build(config(), tmp_path)


def test_what_is_left_out_is_said(tmp_path, caplog):
    archive(tmp_path / "set.tgz", images() | {f"train/cat/{n}.txt": b"" for n in range(3)})
    build(config(), tmp_path)
    assert caplog.messages == ["left out of set: files that end in .txt (3, such as train/cat/0.txt)"]


def test_a_format_that_is_not_read_is_rejected_by_name_and_skipped_on_demand(tmp_path):
    archive(tmp_path / "set.tgz", images() | {"train/cat/x.heic": b"ftypheic"})
    with pytest.raises(PipelineError, match=r"train/cat/x\.heic: no image that is read here \(JPEG, PNG"):
        build(config(), tmp_path)
    assert build(config(skip_corrupt=True), tmp_path).skipped == ("train/cat/x.heic",)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()])
def test_a_failing_machine_makes_no_image_corrupt(error, tmp_path, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise error

    archive(tmp_path / "set.tgz", images())
    monkeypatch.setattr(convert, "square", fails)
    with pytest.raises(type(error)):
        build(config(skip_corrupt=True), tmp_path)


def test_a_failed_attempt_leaves_the_former_store(tmp_path):
    archive(tmp_path / "set.tgz", images())
    build(config(), tmp_path)
    before = contents(tmp_path / "store")
    with pytest.raises(ValueError, match=r"data\.num_val=20 .* choose from 3 to 18"):
        build(config(num_val=20), tmp_path)
    assert contents(tmp_path / "store") == before


def official_cifar(path: Path) -> dict[str, bytes]:
    """Writes a small official archive; the same images as class-folder PNGs."""
    rng, folders, batches = np.random.default_rng(0), {}, {}
    for batch, split in (("data_batch_1", "train"), ("data_batch_2", "train"), ("test_batch", "test")):
        labels = rng.permutation(np.repeat(np.arange(3), 4)).tolist()
        data = rng.integers(0, 256, (12, 3072), dtype=np.uint8)
        names = [f"{batch}_{n}.png" for n in rng.permutation(12)]
        batches[batch] = {"data": data, "labels": labels, "filenames": names}
        for row, label, name in zip(data, labels, names, strict=True):
            folders[f"{split}/{CLASSES[label]}/{name}"] = encoded(row.reshape(3, 32, 32).transpose(1, 2, 0))
    batches["batches.meta"] = {"label_names": list(CLASSES)}
    archive(path, {f"cifar-10-batches-py/{name}": pickle.dumps(batch, 4) for name, batch in batches.items()})
    return folders


def test_the_official_cifar_archive_and_class_folders_give_the_same_store(tmp_path, monkeypatch):
    path = tmp_path / "cifar-10-python.tar.gz"
    folders = official_cifar(path)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(OFFICIAL, "cifar10", Official(path.name, md5, "http://127.0.0.1:9/x"))
    official = build(CIFAR, tmp_path, "official")
    path.unlink()
    archive(tmp_path / "cifar10.tgz", folders)
    assert build(CIFAR, tmp_path, "folders") == official
    assert contents(tmp_path / "official") == contents(tmp_path / "folders")


@dataclass(frozen=True, kw_only=True)
class Petals(DataConfig):
    """As after the steps of docs/extending.md."""

    source: Literal["petals"] = "petals"


def test_a_published_archive_of_class_folders_needs_no_more_than_its_name_address_and_checksum(tmp_path):
    archive(tmp_path / "petals-2.tgz", images())
    md5 = hashlib.md5((tmp_path / "petals-2.tgz").read_bytes()).hexdigest()
    official = {"petals": Official("petals-2.tgz", md5, "http://127.0.0.1:9/petals-2.tgz")}
    data = Petals(name="petals", mirror=".", image_size=8, num_val=6, workers=2)
    assert fetch(data, tmp_path / "raw", tmp_path, official)["layout"] == "class-folders"
    manifest = preprocess(data, tmp_path / "raw", tmp_path / "store")
    assert (manifest.classes, manifest.counts) == (CLASSES, {"train": 21, "test": 6})


def test_cifar_of_another_size_is_an_error_that_names_the_image(tmp_path):
    archive(tmp_path / "cifar10.tgz", images((32, 32)) | {"train/cat/3.png": encoded(noise(0, 32, 33))})
    with pytest.raises(ValueError, match=r"train/cat/3\.png: 33x32 pixels instead of 32x32"):
        build(CIFAR, tmp_path)


def test_digits_from_start_to_store(tmp_path):
    data = config(name="digits", source="digits", path="", num_test=960, num_val=287)
    manifest = build(data, tmp_path)
    assert manifest.counts == {"train": 837, "test": 960} and manifest.channels == 1
    assert (
        manifest.content_hash == "6859e064ee238126c2b7f0c669dfd877b5fe7953a95a30bc023a6ae5c8048ad7"
    )  # since the start
    store = open_store(tmp_path / "store")
    assert [len(indices) for indices in store.split_indices("holdout")] == [550, 287]
    assert store.train().images.shape == (837, 8, 8, 1) and store.statistics("full").pixel_mean.shape == (8, 8, 1)
    before = contents(tmp_path / "store")
    build(replace(data, split_seed=5), tmp_path)
    after = contents(tmp_path / "store")
    assert before["test_images.npy"] == after["test_images.npy"] and before["splits.npz"] != after["splits.npz"]


@pytest.mark.slow
@needs("cifar10.tgz")
def test_cifar10_as_published(tmp_path):
    manifest = build(replace(CIFAR, mirror=str(SHARED), num_val=5000), tmp_path)
    assert manifest.counts == {"train": 50_000, "test": 10_000} and len(manifest.classes) == 10
    store = open_store(tmp_path / "store")
    assert [len(indices) for indices in store.split_indices("holdout")] == [45_000, 5000]
    np.testing.assert_allclose(store.statistics("full").mean, [0.49140, 0.48216, 0.44653], atol=5e-6)
    assert np.bincount(store.train().labels).tolist() == [5000] * 10


@pytest.mark.slow
@needs("imagenette.tgz")
def test_imagenette_as_published(tmp_path):
    data = config(mirror=str(SHARED), path="imagenette.tgz", format="shards", image_size=160, num_val=500)
    assert build(data, tmp_path).counts == {"train": 3000, "test": 1500}
    records = open_store(tmp_path / "store").train()
    assert np.bincount(records.labels).tolist() == [300] * 10
    assert {min(Image.open(io.BytesIO(records.jpeg(n))).size) for n in range(0, 3000, 100)} == {160}
