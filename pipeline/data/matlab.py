"""MATLAB's MAT-files of version 5, as far as ImageNet's meta.mat needs them: structs of texts and numbers.

SciPy's reader follows what the file claims and can end the process; this one takes every length for a claim to check.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

LARGEST = 1 << 24  # bytes of one variable, unpacked; ImageNet's takes 2 MB
DEPTH = 4  # variable, struct, cell, content

# Format's numbers for element types.
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_TEXTS = {1: "latin1", 2: "latin1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)  # classes of matrices


class MatlabError(Exception):
    """The file is damaged, or holds what is not read here."""


def read_variables(content: bytes) -> dict[str, Any]:
    """Variables by name: a text, a list of numbers or of cells, or a list of structs as dicts.

    Raises:
        MatlabError: damaged, of another version, or with objects of other kinds.
    """
    if len(content) > LARGEST:
        raise MatlabError(f"more than {LARGEST:,} bytes")
    if len(content) < 128 or content[124:128] != b"\x00\x01IM":
        raise MatlabError("no MAT-file of version 5")
    variables, rest = {}, memoryview(content)[128:]
    while rest:
        kind, body, rest = _element(rest)
        if kind == _COMPRESSED:
            kind, body, _ = _element(memoryview(_unpacked(body)))
        if kind != _MATRIX:
            raise MatlabError(f"an element of type {kind}, where a variable should be")
        name, value = _matrix(body, DEPTH)
        variables[name] = value
    return variables


def _unpacked(packed: memoryview) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(packed, LARGEST)
    except zlib.error as error:
        raise MatlabError(str(error)) from None
    if not stream.eof:
        raise MatlabError(f"a variable that is cut short, or longer than {LARGEST:,} bytes")
    return content


def _element(stream: memoryview) -> tuple[int, memoryview, memoryview]:
    """Type and content of the first element, and what follows it."""
    if len(stream) < 8:
        raise MatlabError("cut short")
    kind, size = struct.unpack_from("<II", stream)
    start = 8
    if kind >> 16:  # a short element has its content beside its type
        kind, size, start = kind & 0xFFFF, kind >> 16, 4
    if size > (4 if start == 4 else len(stream) - start):
        raise MatlabError(f"an element of {size:,} bytes in {len(stream) - start:,}")
    padded = 8 if start == 4 else start + size + (0 if kind == _COMPRESSED else -size % 8)
    return kind, stream[start : start + size], stream[padded:]


def _numbers(stream: memoryview) -> tuple[np.ndarray, memoryview]:
    kind, content, rest = _element(stream)
    if kind not in _NUMBERS or len(content) % int(_NUMBERS[kind][2]):
        raise MatlabError(f"an element of type {kind}, where numbers should be")
    return np.frombuffer(content, _NUMBERS[kind]), rest


def _matrix(stream: memoryview, depth: int) -> tuple[str, Any]:
    """Name and value of a matrix element's content."""
    if not depth:
        raise MatlabError(f"values nested more than {DEPTH} deep")
    if not stream:
        return "", []  # MATLAB's form of an empty cell
    flags, stream = _numbers(stream)
    sizes, stream = _numbers(stream)
    _, name, stream = _element(stream)
    if not len(flags) or any(size < 0 for size in sizes):
        raise MatlabError("a matrix without a class or with a negative size")
    count = 1
    for size in sizes:
        count *= int(size)
    if count > len(stream):  # every value takes a byte at least
        raise MatlabError(f"a matrix of {count:,} values in {len(stream):,} bytes")
    kind = int(flags[0]) & 0xFF
    return bytes(name).decode("latin1"), _content(kind, count, stream, depth)


def _content(kind: int, count: int, stream: memoryview, depth: int) -> Any:
    if kind == _STRUCT:
        return _structs(count, stream, depth)
    if kind == _CELL:
        cells = []
        for _ in range(count):
            cell, stream = _nested(stream, depth)
            cells.append(cell)
        return cells
    if kind == _CHAR:
        encoding, content, _ = _element(stream)
        if encoding not in _TEXTS:
            raise MatlabError(f"text of type {encoding}")
        return bytes(content).decode(_TEXTS[encoding], "replace")
    if kind in _NUMERIC:
        values, _ = _numbers(stream)
        if len(values) != count:
            raise MatlabError(f"{len(values):,} numbers instead of {count:,}")
        return values.tolist()
    raise MatlabError(f"a matrix of class {kind}, which is not read here")


def _structs(count: int, stream: memoryview, depth: int) -> list[dict[str, Any]]:
    width, stream = _numbers(stream)
    _, joined, stream = _element(stream)
    if len(width) != 1 or width[0] < 1 or len(joined) % int(width[0]):
        raise MatlabError("a struct with broken field names")
    step, text = int(width[0]), bytes(joined)
    names = [text[at : at + step].split(b"\0")[0].decode("latin1") for at in range(0, len(text), step)]
    structs = []
    for _ in range(count if names else 0):
        fields = {}
        for name in names:
            fields[name], stream = _nested(stream, depth)
        structs.append(fields)
    return structs


def _nested(stream: memoryview, depth: int) -> tuple[Any, memoryview]:
    kind, body, rest = _element(stream)
    if kind != _MATRIX:
        raise MatlabError(f"an element of type {kind}, where a value should be")
    return _matrix(body, depth - 1)[1], rest
