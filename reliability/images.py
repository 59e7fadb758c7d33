"""Odd, damaged and hostile images in a data set.

Each stands among good images in a folder, stored as arrays and as shards.
"""

from __future__ import annotations

import io
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from reliability import Outcome
from reliability.datasets import CLASSES, TRAIN, class_folders, config, outcome

PROMISE = "read, or refused by name in one sentence, below 5 s and 1 GB"
TRIALS = 120
NAME = "odd"

Bytes = Callable[[random.Random], bytes]


def _photo(rng: random.Random, mode: str = "RGB", side: int = 24) -> Image.Image:
    pixels = np.frombuffer(rng.randbytes(side * side * 3), np.uint8).reshape(side, side, 3)
    return Image.fromarray(pixels).convert(mode)


def _saved(format_: str, mode: str = "RGB", **options: object) -> Bytes:
    def saved(rng: random.Random) -> bytes:
        written = io.BytesIO()
        _photo(rng, mode).save(written, format_, **options)
        return written.getvalue()

    return saved


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, *chunks: bytes, depth: int = 8, data: bytes = b"") -> Bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    body = _chunk(b"IDAT", data or zlib.compress(bytes(100)))
    return lambda _: b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body + _chunk(b"IEND", b"")


def _jpeg(width: int, height: int) -> Bytes:
    """A small JPEG whose header claims other sides."""

    def made(rng: random.Random) -> bytes:
        content = bytearray(_saved("JPEG")(rng))
        at = content.index(b"\xff\xc0") + 5
        struct.pack_into(">HH", content, at, height, width)
        return bytes(content)

    return made


def _patched(format_: str, at: int, form: str, value: int) -> Bytes:
    def made(rng: random.Random) -> bytes:
        content = bytearray(_saved(format_)(rng))
        struct.pack_into(form, content, at, value)
        return bytes(content)

    return made


def _flipped(format_: str) -> Bytes:
    def made(rng: random.Random) -> bytes:
        content = bytearray(_saved(format_)(rng))
        for _ in range(rng.choice((1, 3, 30))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return bytes(content[: rng.choice((len(content), len(content), rng.randrange(len(content))))])

    return made


def _animation(frames: int) -> Bytes:
    def made(rng: random.Random) -> bytes:
        written, first = io.BytesIO(), _photo(rng)
        first.save(written, "GIF", save_all=True, append_images=[_photo(rng) for _ in range(frames)])
        return written.getvalue()

    return made


_ZEROS = zlib.compress(bytes(100_000_000), 9)
GOOD: dict[str, tuple[str, Bytes]] = {
    "a PNG called JPEG": (".jpeg", _saved("PNG")),
    "a JFIF": (".jfif", _saved("JPEG")),
    "a progressive JPEG": (".jpg", _saved("JPEG", progressive=True)),
    "a CMYK JPEG": (".jpg", _saved("JPEG", "CMYK")),
    "a grey PNG with alpha": (".png", _saved("PNG", "LA")),
    "a palette with transparency": (".png", _saved("PNG", "P", transparency=3)),
    "a bitmap of one bit": (".png", _saved("PNG", "1")),
    "a GIF of 50 frames": (".gif", _animation(50)),
    "a TIFF": (".tif", _saved("TIFF", compression="tiff_deflate")),
    "a WebP": (".webp", _saved("WEBP")),
    "an AVIF": (".avif", _saved("AVIF")),
    "a PPM": (".ppm", _saved("PPM")),
    "bytes after the end": (".jpg", lambda rng: _saved("JPEG")(rng) + rng.randbytes(5000)),
    "an upper-case extension": (".PNG", _saved("PNG")),
}
ODD: dict[str, tuple[str, Bytes]] = {
    "a PNG of 60,000 x 60,000": (".png", _png(60_000, 60_000, data=_ZEROS)),
    "a PNG of 2^31 x 1": (".png", _png(2**31 - 1, 1)),
    "a PNG without a side": (".png", _png(0, 8)),
    "a PNG of 16 bits": (".png", _png(8, 8, depth=16)),
    "a PNG with a text bomb": (".png", _png(8, 8, *[_chunk(b"zTXt", b"k\0\0" + _ZEROS)] * 20)),
    "a PNG with a profile bomb": (".png", _png(8, 8, _chunk(b"iCCP", b"k\0\0" + _ZEROS))),
    "a PNG without data": (".png", _png(8, 8, data=b"x")),
    "a JPEG of 65,500 x 65,500": (".jpg", _jpeg(65_500, 65_500)),
    "a JPEG without a side": (".jpg", _jpeg(0, 0)),
    "a JPEG of 16,000 x 15,000": (".jpg", _jpeg(16_000, 15_000)),
    "a BMP of 2^30 columns": (".bmp", _patched("BMP", 18, "<I", 2**30)),
    "a BMP of negative height": (".bmp", _patched("BMP", 22, "<i", -(2**31))),
    "a GIF of 65,535 x 65,535": (".gif", _patched("GIF", 6, "<I", 2**32 - 1)),
    "a TIFF whose directory is itself": (".tif", _patched("TIFF", 4, "<I", 0)),
    "a TIFF of 4 billion entries": (".tif", lambda _: b"II*\0\x08\0\0\0\xff\xff" + bytes(400)),
    "a PPM of 99,999 x 99,999": (".ppm", lambda _: b"P6 99999 99999 255\n" + bytes(1000)),
    "a PPM of endless digits": (".ppm", lambda _: b"P3 8 8 255\n" + b"1" * 100_000),
    "a WebP cut": (".webp", lambda rng: _saved("WEBP")(rng)[:40]),
    "a HEIC": (".heic", lambda rng: b"\0\0\0\x18ftypheic" + rng.randbytes(99)),
    "an SVG": (".svg", lambda _: b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "an EPS called JPEG": (".jpg", lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n"),
    "a web page": (".png", lambda _: b"<html>not found</html>"),
    "nothing": (".png", lambda _: b""),
    "noise": (".jpg", lambda rng: rng.randbytes(rng.choice((1, 100, 100_000)))),
    "a pickle called BMP": (".bmp", lambda _: b"\x80\x04cos\nsystem\n(S'touch harm'\ntR."),
    **{
        f"a damaged {kind}": (f".{kind.lower()}", _flipped(kind))
        for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF")
    },
    **{f"a damaged {kind}, again": (f".{kind.lower()}", _flipped(kind)) for kind in ("JPEG", "GIF", "TIFF", "WEBP")},
}
SPECIAL = (
    "a pipe",
    "a socket",
    "a link to /dev/zero",
    "a link to nowhere",
    "a link to itself",
    "a link to the folder above",
)


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    """Every kind in turn, with new details each time."""
    rng = random.Random(seed)
    files = class_folders(rng)
    kinds = [*GOOD, *ODD, *SPECIAL]
    for number in range(TRIALS):
        name, format_ = kinds[number % len(kinds)], ("arrays", "shards")[number // len(kinds) % 2]
        root = scratch / str(number)
        for file, content in files.items():
            (root / "set" / file).parent.mkdir(parents=True, exist_ok=True)
            (root / "set" / file).write_bytes(content)
        place = root / "set" / "train" / "cat"
        if name in SPECIAL:
            _put(place / f"{NAME}.png", name)
        else:
            suffix, make = (GOOD | ODD)[name]
            (place / f"{NAME}{suffix}").write_bytes(make(rng))
        yield tried(f"{name} ({number}, {format_})", format_, root, good=name in GOOD)


def tried(name: str, format_: str, root: Path, good: bool) -> Outcome:
    """The data set root/set, which has an odd file."""

    def right(manifest: dict[str, object]) -> bool:
        return manifest["counts"]["train"] == len(CLASSES) * TRAIN + 1  # type: ignore[index]

    return outcome(name, config(root / "set", format=format_), root, right, must=good, named=f"{NAME}.")


def _put(path: Path, kind: str) -> None:
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server:
            descriptor = os.open(path.parent, os.O_RDONLY)
            server.bind(f"/proc/self/fd/{descriptor}/{path.name}")  # the path of a socket is short
            os.close(descriptor)
    else:
        path.symlink_to({"/dev/zero": "/dev/zero", "nowhere": "nowhere", "itself": path.name}.get(kind[10:], ".."))
