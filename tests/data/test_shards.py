from __future__ import annotations

import errno
import io
import multiprocessing
import pickle
import resource
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
from photos import encoded, shard_names
from PIL import Image

from pipeline.data.readers import decode
from pipeline.data.shards import ShardRecords, ShardWriter, as_jpeg

JPEGS = [bytes([n]) * (100 + n) for n in range(21)]
NAMES = [f"class{n % 3}/{n}.JPEG" for n in range(21)]


@pytest.fixture
def folder(tmp_path):
    with ShardWriter(tmp_path, "train", shard_rows=8, batch_rows=4) as writer:
        for n, jpeg in enumerate(JPEGS):
            writer.append(jpeg, n % 3, NAMES[n])
    np.save(tmp_path / "train_labels.npy", np.arange(21) % 3)
    return tmp_path


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height)).convert(mode)


def stored(published: bytes, limit: int = 256) -> tuple[bytes, Image.Image]:
    jpeg = as_jpeg(published, decode(published), limit)
    return jpeg, decode(jpeg)


def test_images_lie_across_shards_and_batches_that_any_arrow_reader_understands(folder):
    assert sorted(p.name for p in folder.glob("*.arrow")) == [f"train-0000{n}.arrow" for n in range(3)]
    records = ShardRecords(folder, "train")
    assert len(records) == 21
    assert [bytes(records.jpeg(n)) for n in range(21)] == JPEGS
    assert shard_names(folder, "train") == NAMES
    assert records.labels.tolist() == [n % 3 for n in range(21)]
    table = pa.ipc.open_file(folder / "train-00002.arrow").read_all()
    assert table.column_names == ["image", "label", "name"]
    assert [str(field.type) for field in table.schema] == ["large_binary", "int32", "string"]
    assert table["label"].to_pylist() == [n % 3 for n in range(16, 21)]


def test_reading_copies_nothing_and_an_index_beyond_the_set_is_an_error(folder):
    view = ShardRecords(folder, "train").jpeg(np.int64(13))
    assert isinstance(view, memoryview) and view.readonly and view.nbytes == 113
    again = ShardRecords(folder, "train")
    assert np.shares_memory(np.frombuffer(again.jpeg(13), np.uint8), np.frombuffer(again.jpeg(13), np.uint8))
    for index in (-1, 21):
        with pytest.raises(IndexError, match="of 21"):
            again.jpeg(index)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside threads is what is tested
def test_open_records_are_pickled_by_path_and_work_in_other_processes(folder, method):
    records = ShardRecords(folder, "train")
    assert bytes(records.jpeg(0)) == JPEGS[0]
    assert len(pickle.dumps(records)) < 500
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_read, [(records, n) for n in range(21)]) == JPEGS


def _read(job: tuple[ShardRecords, int]) -> bytes:
    records, index = job
    return bytes(records.jpeg(index))


def test_a_baseline_rgb_jpeg_is_kept_verbatim():
    published = encoded(photo(300, 200), "JPEG", quality=80)
    assert stored(published)[0] is published


@pytest.mark.parametrize(
    ("size", "expected"), [((600, 512), (300, 256)), ((257, 700), (256, 697)), ((512, 512), (256, 256))]
)
def test_a_larger_image_is_resized_by_its_shorter_side(size, expected):
    assert stored(encoded(photo(*size), "JPEG"))[1].size == expected


@pytest.mark.parametrize(
    "published",
    [
        encoded(photo(40, 30, "L"), "JPEG"),
        encoded(photo(40, 30, "CMYK"), "JPEG"),
        encoded(photo(40, 30), "JPEG", progressive=True),
        encoded(photo(40, 30)),
        encoded(photo(40, 30, "RGBA")),
        encoded(photo(40, 30, "P"), "GIF"),
        encoded(photo(40, 30, "1")),
    ],
    ids=["grey", "cmyk", "progressive", "png", "png-alpha", "gif", "bits"],
)
def test_anything_else_becomes_a_baseline_rgb_jpeg(published):
    _, image = stored(published)
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (40, 30))
    assert "progressive" not in image.info
    assert [component[1:3] for component in image.layer] == [(1, 1)] * 3  # chroma at full resolution
    difference = np.abs(np.asarray(image, np.int16) - np.asarray(decode(published).convert("RGB"), np.int16))
    assert difference.mean() < 5  # of 255; the noise is the worst case


def _odd_sampling(jpeg: bytes) -> bytes:
    """Its header now says that it holds three times as many columns of luma as of chroma."""
    at = jpeg.index(b"\xff\xc0") + 11
    return jpeg[:at] + b"\x31" + jpeg[at + 1 :]


@pytest.mark.parametrize(
    "published",
    [
        encoded(photo(40, 30), "JPEG", subsampling=0).replace(b"\xff\xda", b"\0\0\xff\xda"),
        _odd_sampling(encoded(photo(40, 30), "JPEG", subsampling=0)),
    ],
    ids=["litter", "sampling"],
)
def test_a_jpeg_that_pillow_reads_and_training_does_not_is_encoded_anew(published):
    with pytest.raises(ValueError):
        simplejpeg.decode_jpeg(published, strict=False)
    jpeg, image = stored(published)
    assert np.abs(simplejpeg.decode_jpeg(jpeg).astype(int) - np.asarray(image)).max() <= 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_of_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.shards.TemporaryFile", lambda **_: io.FileIO("/dev/full", "r+"))
    assert_full()


def test_a_jpeg_that_is_cut_short_is_not_stored() -> None:
    """Of the last write, a disk that fills up takes a part; a limit on the size of files does the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert_full()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_full() -> None:
    with pytest.raises(OSError) as caught:
        as_jpeg(b"", photo(100, 100), 256)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, tempfile.gettempdir())
