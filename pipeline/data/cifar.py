"""CIFAR-10 and CIFAR-100 in their official Python format: pickles, read without NumPy's or anyone's code in them."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pipeline.data.archives import Container, Entry
from pipeline.data.records import Published, Record
from pipeline.errors import PipelineError, printable

SHAPE = (3, 32, 32)  # rows of a batch: red, green and blue planes
PIXELS = 3 * 32 * 32
_BATCH = re.compile(r"data_batch_(\d)|train|test_batch|test|batches\.meta|meta")


def cifar(archive: Container) -> Published:
    """The records of all batches.

    Raises:
        PipelineError: a batch is missing, or is none.
    """
    entries: dict[str, Entry] = {}
    for entry in archive.entries():
        name = entry.name.rsplit("/", 1)[-1]
        if _BATCH.fullmatch(name) and entries.setdefault(name, entry) is not entry:
            raise PipelineError(f"{name} occurs twice in {archive.path}; get it anew")
    train = sorted(name for name in entries if name.startswith("data_batch_")) or [
        n for n in ("train",) if n in entries
    ]
    test: list[str] = [name for name in ("test_batch", "test") if name in entries]
    meta = [name for name in ("batches.meta", "meta") if name in entries]
    if not train or len(test) != 1 or len(meta) != 1:
        raise PipelineError(f"{archive.path} holds no CIFAR batches in the official Python format; get it anew")
    if train != ["train"] and train != [f"data_batch_{n}" for n in range(1, len(train) + 1)]:
        raise PipelineError(f"{archive.path} holds {', '.join(train)}, so batches are missing; get it anew")
    classes, count = _classes(entries[meta[0]])

    def records(batches: list[str]) -> list[Record]:
        return [record for name in batches for record in _batch(entries[name], classes, count)]

    return Published(classes, records(train), records(test))


def _classes(entry: Entry) -> tuple[list[str], int]:
    """Names of the classes, and how many images each batch has; 0 where the archive does not say."""
    meta = _unpickled(entry)
    classes: Any = meta.get("label_names", meta.get("fine_label_names"))
    _require(entry, _texts(classes) and len(classes) > 1, "label_names is no list of names")
    _require(entry, len(set(classes)) == len(classes), "label_names has a name twice")
    count = meta.get("num_cases_per_batch", 0)
    _require(entry, type(count) is int and count >= 0, "num_cases_per_batch is no number")
    return classes, count


def _batch(entry: Entry, classes: list[str], count: int) -> Iterator[Record]:
    batch = _unpickled(entry)
    images: Any = batch.get("data")
    files: Any = batch.get("filenames")
    labels: Any = batch.get("labels", batch.get("fine_labels"))
    _require(entry, isinstance(images, np.ndarray), "data is no array")
    _require(entry, images.shape == (len(images), PIXELS), f"data has shape {images.shape} instead of (N, {PIXELS})")
    _require(entry, isinstance(labels, list) and all(type(label) is int for label in labels), "labels are no integers")
    _require(entry, _texts(files), "filenames is no list of names")
    lengths = f"{len(images)} images, {len(labels)} labels and {len(files)} filenames"
    _require(entry, len(images) == len(labels) == len(files) > 0, lengths)
    _require(entry, count in (0, len(images)), f"{len(images)} images, where num_cases_per_batch says {count}")
    low, high = min(labels), max(labels)
    _require(entry, low >= 0 and high < len(classes), f"labels from {low} to {high} for {len(classes)} classes")
    for image, label, file in zip(images.reshape(-1, *SHAPE).transpose(0, 2, 3, 1), labels, files, strict=True):
        yield Record(f"{classes[label]}/{file}", label, image)


def _texts(value: Any) -> bool:
    """Whether it is a list of names that can be parts of a path."""
    return isinstance(value, list) and all(isinstance(name, str) and name and "/" not in name for name in value)


class _Array:
    """Stands for a NumPy array while its pickle is read: of bytes alone, whose number must fit the shape."""

    pixels: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, type_, fortran, content = state
        if not isinstance(type_, _Type) or type_.name != "u1" or fortran:
            raise pickle.UnpicklingError("its array holds other numbers than bytes (uint8), or other than row by row")
        raw = content.encode("latin1") if isinstance(content, str) else content
        self.pixels = np.frombuffer(raw, np.uint8).reshape(tuple(map(int, shape)))


class _Type:
    """Stands for a NumPy dtype."""

    def __init__(self, name: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields, which bytes do not have."""


def _keyed_by_text(load: Callable[[Any], None], keys: slice) -> Callable[[Any], None]:
    """`load`, an opcode that fills a dict from the stack, for keys of text alone: a deeply nested tuple's hash ends Python."""

    def checked(unpickler: Any) -> None:
        if not all(isinstance(key, str) for key in unpickler.stack[keys]):
            raise pickle.UnpicklingError("its keys are no texts")
        load(unpickler)

    return checked


def _opcodes() -> dict[int, Callable[[Any], None]]:
    """Those of Python's own unpickler that CIFAR's archives need."""
    p: Any = pickle
    loads = dict(p._Unpickler.dispatch)
    # They allocate what the pickle claims, make objects of other kinds, or hash what may be nested without end.
    for code in (
        p.BYTEARRAY8,
        p.NEXT_BUFFER,
        p.NEWOBJ,
        p.NEWOBJ_EX,
        p.OBJ,
        p.INST,
        p.EMPTY_SET,
        p.ADDITEMS,
        p.FROZENSET,
    ):
        del loads[code[0]]
    loads[p.SETITEM[0]] = _keyed_by_text(loads[p.SETITEM[0]], slice(-2, None, 2))
    for code in (p.SETITEMS, p.DICT):
        loads[code[0]] = _keyed_by_text(loads[code[0]], slice(0, None, 2))
    return loads


class _CifarUnpickler(pickle._Unpickler):
    """Builds plain containers and arrays of bytes; refuses any other name before the pickle can run code.

    Python's own unpickler, not the one in C, since that one believes sizes and positions in the pickle and allocates them.
    """

    dispatch = _opcodes()

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._left = 2 * len(content)  # bytes that strings may become: a pickle could encode one string a million times

    def find_class(self, module: str, name: str) -> Any:
        # Functions of this call alone: a pickle may set attributes of what it is given.
        if (module, name) in (("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")):
            return lambda *_: _Array()
        if (module, name) == ("numpy", "ndarray"):
            return None
        if (module, name) == ("numpy", "dtype"):
            return lambda name, *_: _Type(name)
        if (module, name) == ("_codecs", "encode"):
            return lambda text, *_: self._encode(text)
        raise PipelineError(f"asks for {printable(module)}.{printable(name)}, which no CIFAR archive needs")

    def _encode(self, text: str) -> bytes:
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("it grows when it is read")
        return text.encode("latin1")


def _unpickled(entry: Entry) -> dict[str, Any]:
    """The pickle's mapping, whose keys are texts."""
    content = entry.read()
    try:
        batch = _CifarUnpickler(content).load()
    except Exception as error:  # a damaged pickle calls anything with anything
        reason = str(error) if isinstance(error, PipelineError | pickle.UnpicklingError | EOFError) else ""
        _require(entry, False, printable(reason) or f"the pickle is damaged: {type(error).__name__}")
    _require(entry, isinstance(batch, dict), f"it holds a {type(batch).__name__} instead of a dict")
    return {key: value.pixels if isinstance(value, _Array) else value for key, value in batch.items()}


def _require(entry: Entry, holds: bool, what: str) -> None:
    if not holds:
        raise PipelineError(
            f"{printable(entry.name)} in {entry.container.path} is no CIFAR batch: {what}; get the archive anew"
        )
