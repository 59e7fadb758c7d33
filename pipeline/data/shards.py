"""Shards for images of ImageNet's size: baseline RGB JPEGs in memory-mapped Arrow IPC files with random access.

Columns: image (large_binary, a JPEG), label (int32), name (string). Shards and record batches hold a fixed number of
rows, written into the schema, so that division locates an image. Rows are sorted by class and name: every order reads
equally fast, and this one depends on the images alone.
"""

from __future__ import annotations

import errno
import os
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SHARD_ROWS = 4096  # about 450 MB of ImageNet
BATCH_ROWS = 128
QUALITY = 95  # of JPEGs written here, chroma not subsampled
END = b"\xff\xd9"  # of a whole JPEG


class _Batch(NamedTuple):
    offsets: np.ndarray  # (rows + 1,) int64
    data: memoryview


class ShardRecords:
    """The N JPEGs of a store's split. Shards are opened when first read, so records pickle as a path and survive a fork."""

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        self.labels: np.ndarray = np.load(folder / f"{split}_labels.npy")  # (N,) int64
        self._shards: dict[int, list[_Batch]] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardRecords, (self._folder, self._split)

    def jpeg(self, index: int) -> memoryview:
        """The encoded image, a read-only view of the mapped file; nothing is copied.

        Raises:
            IndexError: not in [0, N).
        """
        if not 0 <= index < len(self.labels):
            raise IndexError(f"image {index} of {len(self.labels)}")
        shard_rows, batch_rows = self._rows
        shard, row = divmod(int(index), shard_rows)
        if shard not in self._shards:
            self._shards[shard] = _batches(self._path(shard))
        batch, row = divmod(row, batch_rows)
        offsets, data = self._shards[shard][batch]
        return data[offsets[row] : offsets[row + 1]]

    @cached_property
    def _rows(self) -> tuple[int, int]:
        import pyarrow as pa

        with pa.memory_map(str(self._path(0))) as file:
            stored = pa.ipc.open_file(file).schema.metadata
        return int(stored[b"shard_rows"]), int(stored[b"batch_rows"])

    def _path(self, shard: int) -> Path:
        return self._folder / shard_name(self._split, shard)


def _batches(path: Path) -> list[_Batch]:
    import pyarrow as pa

    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    batches = []
    for number in range(reader.num_record_batches):
        _, offsets, data = reader.get_batch(number).column(0).buffers()
        batches.append(_Batch(np.frombuffer(offsets, np.int64), memoryview(data).cast("B")))
    return batches


class ShardWriter:
    """Appends images to shards; holds one batch in memory. Use as a context manager."""

    def __init__(self, folder: Path, split: str, shard_rows: int = SHARD_ROWS, batch_rows: int = BATCH_ROWS) -> None:
        import pyarrow as pa

        assert shard_rows % batch_rows == 0
        columns = [("image", pa.large_binary()), ("label", pa.int32()), ("name", pa.string())]
        rows = {"shard_rows": str(shard_rows), "batch_rows": str(batch_rows)}
        self._schema = pa.schema([pa.field(*column, nullable=False) for column in columns], metadata=rows)
        self._folder, self._split, self._shard_rows, self._batch_rows = folder, split, shard_rows, batch_rows
        self._waiting: list[tuple[bytes, int, str]] = []
        self._written, self._shard = 0, None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._waiting and error[0] is None:
            self._flush()
        if self._shard is not None:
            self._shard.close()

    def append(self, jpeg: bytes, label: int, name: str) -> None:
        self._waiting.append((jpeg, label, name))
        if len(self._waiting) == self._batch_rows:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._written % self._shard_rows == 0:
            if self._shard is not None:
                self._shard.close()
            path = self._folder / shard_name(self._split, self._written // self._shard_rows)
            self._shard = pa.ipc.new_file(str(path), self._schema)
        columns = zip(*self._waiting, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._shard.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))  # type: ignore[attr-defined]
        self._written += len(self._waiting)
        self._waiting.clear()


def shard_name(split: str, shard: int) -> str:
    return f"{split}-{shard:05d}.arrow"


def as_jpeg(encoded: bytes, image: Image, longest_shorter_side: int) -> bytes:
    """A baseline RGB JPEG that libjpeg-turbo reads, its shorter side at most `longest_shorter_side` pixels.

    A published JPEG of this kind is returned as it is. Any other image (larger, progressive, grey, CMYK, of unusual chroma
    sampling, a PNG whatever its file name) is encoded anew at quality 95, 4:4:4, and resized with antialiasing if it is
    too large.

    Args:
        encoded: as published.
        image: `readers.decode(encoded)`.
    """
    from PIL.Image import Resampling

    shorter = min(image.size)
    plain = (
        image.format == "JPEG" and image.mode == "RGB" and "progressive" not in image.info and _read_by_turbo(encoded)
    )
    if plain and shorter <= longest_shorter_side:
        return encoded
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if shorter > longest_shorter_side:
        width, height = (round(side * longest_shorter_side / shorter) for side in image.size)
        rgb = rgb.resize((width, height), Resampling.BICUBIC)
    return _encoded(rgb)


def _encoded(rgb: Image) -> bytes:
    """A JPEG at `QUALITY`. An OSError names the folder of temporary files, which may be on another disk than the store."""
    try:
        # Pillow releases Python's lock while it encodes into a file, but not while it encodes into memory.
        with TemporaryFile(buffering=0) as file:
            rgb.save(file, "JPEG", quality=QUALITY, subsampling=0)
            file.seek(0)
            jpeg = file.read()
        if not jpeg.endswith(END):  # Pillow does not notice that a disk took only a part of a write
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # such an error names no file
            raise OSError(error.errno, error.strerror, gettempdir()) from None
        raise
    return jpeg


def _read_by_turbo(jpeg: bytes) -> bool:
    """Whether libjpeg-turbo accepts the header; it refuses some chroma samplings and stray bytes that Pillow accepts."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg_header(jpeg)
    except (ValueError, KeyError):
        return False
    return True
