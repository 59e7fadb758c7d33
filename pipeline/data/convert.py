"""From the published bytes of an image to its stored form, in threads, since Pillow decodes outside Python's lock.

Results are taken in the records' order, and memory holds only a window of them, whatever the size of the set.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from pipeline.config import SIDES, DataConfig
from pipeline.data.orientation import SIDEWAYS, orientation, upright
from pipeline.data.readers import decode
from pipeline.data.records import Record
from pipeline.data.shards import as_jpeg
from pipeline.errors import PipelineError, printable

if TYPE_CHECKING:
    from PIL.Image import Image

Item = TypeVar("Item")
Result = TypeVar("Result")
# From an image's published bytes and their `readers.decode` to its stored form.
Finish: TypeAlias = "Callable[[bytes, Image], bytes | np.ndarray]"

CHUNK = 4  # images per task
AHEAD = 8  # tasks per worker that may be queued or done, so that one slow task does not stop the other workers


class Rejected(NamedTuple):
    reason: str


def stored_form(record: Record, data: DataConfig) -> tuple[bytes | np.ndarray | Rejected, bytes]:
    """A JPEG or (H, W, C) uint8, and the hash of the published bytes; no hash for published data sets, whose copies are known."""
    if isinstance(record.image, np.ndarray):
        return record.image, b""
    own, boxes, encoded = data.source in ("folder", "boxes"), record.boxes, record.image.read()

    def finish(encoded: bytes, image: Image) -> bytes | np.ndarray:
        if boxes is not None:
            image = _as_annotated(image, boxes.size, own)
        elif own:
            image = upright(image)
        if data.format == "shards":
            return as_jpeg(encoded, image, data.image_size)
        return square(image, data.image_size, resize=data.source not in SIDES)

    digest = hashlib.blake2b(encoded, digest_size=16).digest() if own else b""
    return converted(encoded, finish, data.limits.megapixels), digest


def _as_annotated(image: Image, size: tuple[int, int], own: bool) -> Image:
    """The image as its boxes refer to it. Published results ignore EXIF; a user's tool may have turned the image or not.

    Raises:
        PipelineError: the image has another size, or nothing tells whether its boxes refer to the turned image.
    """
    held = orientation(image) if own else 1
    if held >= SIDEWAYS and image.size != size == image.size[::-1]:
        return upright(image)
    if image.size != size:
        sizes = (f"{width}x{height}" for width, height in (image.size, size))
        raise PipelineError("{} pixels instead of the {} of its annotations".format(*sizes))
    if held > 1:
        raise PipelineError(
            f"EXIF orientation {held}, and tools disagree on whether boxes refer to the turned image: turn the pixels in the "
            "file, for example with `mogrify -auto-orient`, and annotate or export again"
        )
    return image


def converted(encoded: bytes, finish: Finish, megapixels: float) -> Any:
    """What `finish` makes of the bytes of an image, or why they cannot be used (`Rejected`).

    Args:
        megapixels: see `readers.decode`.
    """
    try:
        return finish(encoded, decode(encoded, megapixels))
    except Exception as error:  # Pillow's decoders raise errors of many kinds
        if isinstance(error, MemoryError) or getattr(error, "errno", None):
            raise  # the machine failed, on a full disk for one; the image may be good
        return Rejected(printable(error) or type(error).__name__)


def square(image: Image, side: int, resize: bool) -> np.ndarray:
    """(side, side, 3) uint8: the largest central square, resized with antialiasing.

    Raises:
        PipelineError: `resize` is false and the image has another size.
    """
    from PIL.Image import Resampling

    rgb = image.convert("RGB")
    if rgb.size != (side, side):
        if not resize:
            raise PipelineError(f"{rgb.width}x{rgb.height} pixels instead of {side}x{side}")
        shorter = min(rgb.size)
        left, top = (rgb.width - shorter) / 2, (rgb.height - shorter) / 2
        rgb = rgb.resize((side, side), Resampling.BICUBIC, box=(left, top, left + shorter, top + shorter))
    return np.asarray(rgb)


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, chunk: int = CHUNK
) -> Iterator[Result]:
    """Maps in threads, in the items' order; at most (AHEAD * workers + 1) * chunk results are held."""
    rest, waiting = iter(items), deque[Future[list[Result]]]()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="preprocess")
    try:
        while batch := list(islice(rest, chunk)):
            waiting.append(pool.submit(lambda batch: [function(item) for item in batch], batch))
            if len(waiting) > AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
