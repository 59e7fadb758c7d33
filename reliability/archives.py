"""Odd and damaged archives as data sets.

Made from a small data set in every kind of archive: rearranged, renamed, joined, cut, flipped, lying about sizes.
"""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from pipeline.atomic import read_json
from reliability import Outcome
from reliability.datasets import (
    CLASSES,
    TEST,
    TRAIN,
    Files,
    class_folders,
    config,
    outcome,
    png,
    prepared,
    tarred,
    zipped,
)

PROMISE = "the right images, or one sentence; nothing unpacked elsewhere, below 5 s and 1 GB"
TRIALS = 300
GOOD, BAD, EITHER = "good", "bad", "either"

Made = tuple[str, bytes, str]  # ending of the name, content, whether it is a good data set
Maker = Callable[[random.Random, Files], Made]


def _packed(rng: random.Random, files: Files) -> tuple[str, Callable[[], bytes]]:
    """In a kind of archive of the seed's choice."""
    format_ = rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    return rng.choice(
        (
            (".tar", lambda: tarred(files, format_=format_)),
            (".tgz", lambda: tarred(files, "w:gz", format_)),
            (".tar.gz", lambda: tarred(files, "w:gz", format_)),
            (".zip", lambda: zipped(files)),
            (".zip", lambda: zipped(files, zipfile.ZIP_STORED)),
        )
    )


def _kind(rng: random.Random, files: Files, ends: str) -> Made:
    suffix, pack = _packed(rng, files)
    return suffix, pack(), ends


def _named(change: Callable[[str], str], ends: str) -> Maker:
    """Every name changed."""
    return lambda rng, files: _kind(rng, {change(name): content for name, content in files.items()}, ends)


def _with(more: Callable[[random.Random, Files], Files], ends: str) -> Maker:
    """With more files."""
    return lambda rng, files: _kind(rng, files | more(rng, files), ends)


def _shuffled(rng: random.Random, files: Files) -> Made:
    names = list(files)
    rng.shuffle(names)
    return _kind(rng, {name: files[name] for name in names}, GOOD)


def _flipped(rng: random.Random, files: Files) -> Made:
    suffix, content, _ = _kind(rng, files, GOOD)
    broken = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 20))):
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
    return suffix, bytes(broken), EITHER


def _cut(rng: random.Random, files: Files) -> Made:
    suffix, content, _ = _kind(rng, files, GOOD)
    return suffix, content[: rng.randrange(len(content))], EITHER


def _holed(rng: random.Random, files: Files) -> Made:
    """Blocks lost, doubled, zeroed or exchanged, as failing disks and downloads do."""
    suffix, content, _ = _kind(rng, files, GOOD)
    at = rng.randrange(len(content)) // 512 * 512
    block = content[at : at + 512]
    between = rng.choice((b"", block * 2, bytes(len(block)), rng.randbytes(len(block))))
    return suffix, content[:at] + between + content[at + 512 :], EITHER


def _zeroed_header(rng: random.Random, files: Files) -> Made:
    content = tarred(files, format_=tarfile.USTAR_FORMAT)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        at = rng.choice(archive.getmembers()).offset
    return ".tar", content[:at] + bytes(512) + content[at + 512 :], BAD


def _joined(rng: random.Random, files: Files) -> Made:
    parts = dict(list(files.items())[:9]), dict(list(files.items())[9:])
    pack = rng.choice((tarred, zipped, lambda part: gzip.compress(tarred(part))))
    suffix = ".zip" if pack is zipped else ".tar"
    return suffix, b"".join(map(pack, parts)), BAD


def _special(rng: random.Random, files: Files) -> Made:
    info = tarfile.TarInfo("train/cat/link.png")
    info.type = rng.choice(
        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"S", b"Z")
    )
    info.linkname = rng.choice(("/etc/passwd", "0.png", "../../../x", "link.png", "/dev/zero"))
    return ".tar", info.tobuf(tarfile.GNU_FORMAT) + tarred(files), BAD


def _chained(rng: random.Random, files: Files) -> Made:
    extended = tarfile.TarInfo("x")
    extended.type = rng.choice((tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK))
    return ".tar", extended.tobuf(tarfile.USTAR_FORMAT) * rng.choice((300, 5000, 20_000)) + tarred(files), BAD


def _extended(rng: random.Random, files: Files) -> Made:
    """A pax header of odd content before a good archive."""
    name = b"n" * rng.choice((5000, 90_000))
    records = [
        b"99 path=x\n",
        b"-1 path=x\n",
        b"9" * 5000,
        b"20 size=99999999999\n",
        b"14 size=-100\n",
        b"10 path=\0\n",
    ]
    records += [b"\n", b"13 path=../x\n", b"20 path=/etc/shadow\n", b"%d path=%s\n" % (len(name) + 9, name)]
    record = rng.choice((*records, b"25 GNU.sparse.map=0,1,2,3\n"))
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    return ".tar", info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512) + tarred(files), EITHER


def _lying_tar(rng: random.Random, files: Files) -> Made:
    """The first file's size is another, with a right checksum."""
    content = tarred(files, format_=tarfile.USTAR_FORMAT)
    info = tarfile.TarInfo.frombuf(content[:512], "utf-8", "strict")
    info.size = rng.choice((0, 1, info.size + 512, 10**6, 8**11 - 1))
    return ".tar", info.tobuf(tarfile.USTAR_FORMAT) + content[512:], EITHER


def _lying_zip(rng: random.Random, files: Files) -> Made:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        info = rng.choice(archive.infolist())
        field, values = rng.choice(
            (
                ("compress_type", (1, 6, 12, 14, 95, 99)),
                ("file_size", (0, 1, 10, 10**6, 2**31, 2**40)),
                ("compress_size", (0, 1, 10, 10**6, 2**40)),
                ("header_offset", (1, 50, 10**6, 2**40)),
                ("flag_bits", (1, 0x20, 0x40, 0x2000, 0x800)),
                ("CRC", (0, 1)),
                ("external_attr", (0o120777 << 16, 0o010777 << 16, 0o060777 << 16)),
            )
        )
        setattr(info, field, rng.choice(values))
    return ".zip", packed.getvalue(), EITHER


def _lying_end(rng: random.Random, files: Files) -> Made:
    content = bytearray(zipped(files))
    at = content.rindex(b"PK\5\6")
    offset, form = rng.choice(((4, "<H"), (6, "<H"), (8, "<H"), (10, "<H"), (12, "<I"), (16, "<I"), (20, "<H")))
    struct.pack_into(form, content, at + offset, rng.randrange(256 ** struct.calcsize(form)))
    return ".zip", bytes(content), EITHER


def _bomb(rng: random.Random, files: Files) -> Made:
    zeros = {"train/cat/zeros.png": bytes(20_000_000)}
    return rng.choice(((".tgz", tarred(zeros, "w:gz"), BAD), (".zip", zipped(zeros | files), BAD)))


def _nested(rng: random.Random, files: Files) -> Made:
    return _kind(rng, files | {"train/cat/inner.tar": tarred(files)}, GOOD)  # left out, and told


def _renamed(rng: random.Random, files: Files) -> Made:
    """An archive under another kind's ending."""
    suffix, content, _ = _kind(rng, files, GOOD)
    other = rng.choice([kind for kind in (".zip", ".tar", ".tgz") if (kind == ".zip") != (suffix == ".zip")])
    return other, content, BAD


def _controls(rng: random.Random, files: Files) -> Made:
    odd = rng.choice(("\x1b[31m", "\n", "\r", "\x07", "\u202e", "\x85", "\u2028", "\udce9"))
    return ".tar", tarred({name.replace("dog", f"d{odd}"): content for name, content in files.items()}), BAD


KINDS: dict[str, Maker] = {
    "as it should be": lambda rng, files: _kind(rng, files, GOOD),
    "in another order": _shuffled,
    "below a top folder": _named(lambda name: f"top/{name}", GOOD),
    "with ./ before names": _named(lambda name: f"./{name}", GOOD),
    "with val for test": _named(lambda name: name.replace("test/", "val/"), GOOD),
    "of other letters": _named(lambda name: name.replace("cat", "猫 🐈 $x_1$"), GOOD),
    "with files of other kinds": _with(
        lambda *_: {"train/cat/notes.txt": b"x", "README": b"x", "test/a.png": b"x"}, GOOD
    ),
    "with hidden files": _with(lambda *_: {"train/.DS_Store": b"x", "__MACOSX/train/cat/._0.png": b"x"}, GOOD),
    "with a class of HEIC": _with(lambda *_: {f"train/elk/{n}.heic": b"ftypheic" for n in range(3)}, BAD),
    "with a class of texts": _with(lambda *_: {"train/elk/1.txt": b"x"}, BAD),
    "with a class of one image": _with(lambda rng, _: {"train/elk/1.png": png(rng)}, BAD),
    "with a class in test alone": _with(lambda rng, _: {"test/elk/1.png": png(rng)}, BAD),
    "with a broken image": _with(lambda rng, _: {"train/cat/x.png": rng.randbytes(99)}, BAD),
    "with the same name twice": lambda rng, files: (".tar", tarred(files)[:1024] + tarred(files), EITHER),
    "with case alone between classes": _with(lambda rng, _: {f"train/Cat/{n}.png": png(rng) for n in range(3)}, BAD),
    "with controls in a class": _controls,
    "with a name outside": _with(lambda rng, _: {rng.choice(("../x", "/x", "a/../../x", "..\\x", "C:\\x")): b"x"}, BAD),
    "with a long name": _with(lambda rng, _: {f"train/cat/{'n' * 5000}.png": png(rng)}, BAD),
    "with nothing in it": lambda rng, _: _kind(rng, {}, BAD),
    "without train": lambda rng, files: _kind(rng, {n: c for n, c in files.items() if "train" not in n}, BAD),
    "bits flipped": _flipped,
    "bits flipped, again": _flipped,
    "bits flipped, once more": _flipped,
    "cut short": _cut,
    "cut short, again": _cut,
    "blocks lost or doubled": _holed,
    "blocks lost or doubled, again": _holed,
    "a header zeroed": _zeroed_header,
    "two joined": _joined,
    "links and devices": _special,
    "chains of headers": _chained,
    "an odd extended header": _extended,
    "an odd extended header, again": _extended,
    "a tar that lies about a size": _lying_tar,
    "a zip whose directory lies": _lying_zip,
    "a zip whose directory lies, again": _lying_zip,
    "a zip whose end lies": _lying_end,
    "a bomb": _bomb,
    "a tar in it": _nested,
    "another ending": _renamed,
    "no archive": lambda rng, _: (rng.choice((".zip", ".tar", ".tgz")), rng.randbytes(rng.choice((0, 1, 600))), BAD),
}


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    """Every kind in turn, with new details each time."""
    rng, numbers = random.Random(seed), count()
    files = class_folders(rng)
    (scratch / "whole.tar").write_bytes(tarred(files))
    (scratch / "whole").mkdir()
    prepared(config(scratch / "whole.tar"), scratch / "whole")
    whole = read_json(scratch / "whole" / "store" / "manifest.json")
    for number in numbers:
        if number >= TRIALS:
            return
        name = list(KINDS)[number % len(KINDS)]
        yield tried(f"{name} ({number})", *KINDS[name](rng, files), scratch / str(number), whole)


def tried(name: str, suffix: str, content: bytes, ends: str, folder: Path, whole: dict[str, object]) -> Outcome:
    """One archive as a data set, in an empty folder; `whole` is the manifest of the undamaged one."""
    folder.mkdir()
    path = folder / f"set{suffix}"
    path.write_bytes(content)

    def right(manifest: dict[str, object]) -> bool:
        if ends == GOOD:
            return manifest["counts"] == {"train": len(CLASSES) * TRAIN, "test": len(CLASSES) * TEST}
        return ends == EITHER and manifest["content_hash"] == whole["content_hash"]

    return outcome(name, config(path), folder, right, must=ends == GOOD)
