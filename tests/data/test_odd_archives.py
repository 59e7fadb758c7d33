"""Archives and folders that are no honest data set; each ends in one sentence, before memory or disk is spent."""

from __future__ import annotations

import gzip
import os
import random
import socket
import struct
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from photos import tar

from pipeline.config import LimitsConfig
from pipeline.data.archives import Container, open_container
from pipeline.errors import PipelineError

FILES = {"train/cat/a.png": b"a" * 700, "train/dog/b.png": b"b" * 700, "test/cat/c.png": b"c" * 700}
WHOLE = tar(FILES)


def contents(path: Path, **limits) -> dict[str, bytes]:
    with open_container(path, path.parent, LimitsConfig(**limits)) as container:
        return {entry.name: entry.read() for entry in container.entries()}


def refused(path: Path, sentence: str, **limits) -> None:
    with pytest.raises(PipelineError, match=sentence) as caught:
        contents(path, **limits)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def patched(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def header(name: str = "x", size: int = 0, type_: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, type_
    return info.tobuf(tarfile.USTAR_FORMAT)


def pax(record: bytes, type_: bytes = tarfile.XHDTYPE) -> bytes:
    return header("pax", len(record), type_) + record + bytes(-len(record) % 512)


def renamed(name: str) -> bytes:
    """A pax header that gives the next file a name."""
    return next(record for n in range(4, 9999) if len(record := f"{n} path={name}\n".encode()) == n)


TARS = {
    "a zeroed header": (patched(WHOLE, 1536, bytes(512)), "goes on after its end mark at byte 1,536"),
    "two tars joined": (WHOLE + tar({"x": b"y"}), "goes on after its end mark"),
    "rubbish after the end": (WHOLE + b"\0" * 3_000_000 + b"x", "goes on after its end mark"),
    "no end": (WHOLE[: 3 * 1536], "no end mark"),
    "nothing": (b"", "no end mark"),
    "5000 extended headers": (pax(b"") * 5000 + WHOLE, "impossible header"),
    "a long extended header": (pax(b"9" * 200_000) + WHOLE, "extended headers of more than"),
    "a broken extended header": (pax(b"999999 path=x\n") + WHOLE, "broken extended header"),
    "an extended header that claims a negative size": (pax(b"11 size=-5\n") + WHOLE, "impossible size"),
    "a global name": (pax(renamed("all"), tarfile.XGLTYPE) + WHOLE, "renames all that follows"),
    "a negative size": (header(size=0)[:124] + b"\xff" * 12 + header()[136:] + WHOLE, "damaged"),
    "a size beyond the end": (header(size=10**6) + WHOLE[:1024], "does not end before"),
    "an old sparse file": (header(type_=tarfile.GNUTYPE_SPARSE) + WHOLE, "is a link or a device, or sparse"),
    "a sparse file": (pax(b"22 GNU.sparse.major=1\n") + WHOLE, "is a link or a device, or sparse"),
    "an absolute name": (pax(renamed("/etc/passwd")) + WHOLE, "points outside"),
    "a long name": (pax(renamed("n" * 5000)) + WHOLE, "name of more than 4096 bytes"),
    "a NUL in a name": (pax(b"10 path=\0\n") + WHOLE, "with a NUL, which no file has"),
    "no name": (header(name="") + WHOLE, "file without a name"),
    "a name of nothing but dots": (header(name="./.") + WHOLE, "file without a name"),
    "bzip2": (b"BZh91AY" + bytes(600), "compressed by bzip2; pack it as"),
    "a zip, renamed": (b"PK\3\4" + bytes(600), "a zip, despite its name"),
    "gzip of rubbish": (b"\x1f\x8b" + b"rubbish" * 100, "damaged"),
    "gzip cut short": (gzip.compress(random.Random(1).randbytes(5000) + WHOLE)[:-2000], "damaged"),
    "rubbish after gzip": (gzip.compress(WHOLE) + b"rubbish", "damaged"),
}


@pytest.mark.parametrize("case", TARS)
def test_an_odd_tar_is_refused(case, tmp_path):
    content, sentence = TARS[case]
    (tmp_path / "set.tar").write_bytes(content)
    refused(tmp_path / "set.tar", sentence)


def test_names_sizes_and_padding_that_common_tools_write_are_read(tmp_path):
    long = "train/" + "n" * 300 + ".png"
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo(long)
        info.size = 5
        archive.addfile(info, BytesIO(b"12345"))
    gnu = packed.getvalue()
    packed = b"".join(
        (pax(b"19 comment=abcdefg\n", tarfile.XGLTYPE), pax(renamed("train/Ü.png")), header("u", 3), b"abc")
    )
    for content, held in (
        (gnu + bytes(10_000_000), {long: b"12345"}),  # padded far
        (packed + bytes(509 + 512), {"train/Ü.png": b"abc"}),  # one block of zeros alone
    ):
        (tmp_path / "set.tar").write_bytes(content)
        assert contents(tmp_path / "set.tar") == held


def zipped(**changes: int) -> bytes:
    """A zip of FILES; the directory's first record has `changes`."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
        for field, value in changes.items():
            setattr(archive.infolist()[0], field, value)
    return packed.getvalue()


ZIP = zipped()
END = ZIP.rindex(b"PK\5\6")
ZIPS = {
    "an unknown method": (zipped(compress_type=99), "compressed by method 99"),
    "a size that lies, smaller": (zipped(file_size=10), "damaged"),
    "a size that lies, larger": (zipped(file_size=100_000), "another size|damaged"),
    "encrypted": (zipped(flag_bits=1), "encrypted"),
    "two zips joined": (ZIP + ZIP, r"starts with [\d,]+ bytes that its directory does not list"),
    "overlapping files": (zipped(header_offset=0, compress_size=60_000), "overlaps"),
    "fewer files than its end says": (patched(ZIP, END + 8, struct.pack("<HH", 9, 9)), "lists 3 files instead of 9"),
    "no directory": (ZIP[:END], "no directory"),
    "a directory cut in front": (ZIP[: END - 40] + ZIP[END:], "damaged"),
    "nothing": (b"", "no directory"),
    "no name": (zipped(filename=""), "file without a name|damaged"),
}


@pytest.mark.parametrize("case", ZIPS)
def test_an_odd_zip_is_refused(case, tmp_path):
    content, sentence = ZIPS[case]
    (tmp_path / "set.zip").write_bytes(content)
    refused(tmp_path / "set.zip", sentence)


def special(path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(path.parent)  # the path of a socket is short
            server.bind(path.name)
    else:
        path.symlink_to(kind)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        *[(kind, "pipe, a socket or a device") for kind in ("pipe", "socket", "/dev/zero")],
        ("nowhere", "link to nowhere"),
        ("x.png", "link in a circle"),
        ("..", "link to a folder around it"),
    ],
)
def test_what_is_no_plain_file_in_a_folder_is_refused_unopened(kind, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set" / "train" / "cat").mkdir(parents=True)
    special(tmp_path / "set" / "train" / "cat" / "x.png", kind)
    refused(tmp_path / "set", rf"train/cat/x\.png(/train)? in .*{sentence}")


def test_a_file_that_becomes_a_pipe_or_grows_after_the_listing_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "x.png"
    path.write_bytes(b"123")
    with open_container(tmp_path / "set", tmp_path, LimitsConfig()) as folder:
        (entry,) = folder.entries()
        path.write_bytes(b"1234")
        with pytest.raises(PipelineError, match="changed while it was read"):
            entry.read()
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(PipelineError, match="is a pipe"):
            entry.read()


@pytest.mark.parametrize(
    ("name", "limits", "key"),
    [
        ("set.tar", {"entries": 2}, "entries=6"),
        ("set.tar", {"total_gb": 2e-6}, "total_gb=1"),
        ("set.tar", {"entry_mb": 0.0005}, "entry_mb=1"),
        ("bomb.tgz", {}, "ratio="),
        ("bomb.tgz", {"ratio": 2000, "total_gb": 0.004}, "total_gb=1"),
        ("set.zip", {"entries": 2}, "entries=6"),
        ("bomb.zip", {}, "ratio="),
        ("bomb.zip", {"ratio": 2000, "total_gb": 0.004}, "total_gb=1"),
        ("bomb.zip", {"ratio": 2000, "entry_mb": 1}, "entry_mb=5"),
        ("set", {"entries": 2}, "entries=6"),
        ("set", {"total_gb": 2e-6}, "total_gb=1"),
    ],
)
def test_what_goes_beyond_a_limit_names_the_key_and_a_value_that_lets_it_pass(name, limits, key, tmp_path):
    path = tmp_path / name
    if name == "set":
        for n in range(4):
            (path / "train").mkdir(exist_ok=True, parents=True)
            (path / "train" / f"{n}.png").write_bytes(b"x" * 700)
    else:
        files = {"zeros.bmp": bytes(5_000_000)} if "bomb" in name else FILES
        if name.endswith(".zip"):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for entry, content in files.items():
                    archive.writestr(entry, content)
        else:
            path.write_bytes(gzip.compress(tar(files)) if name.endswith("gz") else tar(files))
    refused(path, rf"more than data\.limits\.\w+=[\d.e+-]+ allows; .*\(override: data\.limits\.{key}", **limits)
    if limits:
        contents(path, **(limits | {next(iter(limits)): 10_000}) | ({"total_gb": 1, "entry_mb": 9, "entries": 99}))


def test_folders_are_kept_as_promises_of_classes(tmp_path):
    path = tmp_path / "set.tar"
    folders = [tarfile.TarInfo(name) for name in ("top", "top/train", "top/train/cat", "top/train/cat/deep")]
    for folder in folders:
        folder.type = tarfile.DIRTYPE
    path.write_bytes(tar({}, tuple(folders)))
    with open_container(path, tmp_path, LimitsConfig()) as container:
        assert isinstance(container, Container) and not list(container.entries())
        assert container.folders == {"top", "top/train", "top/train/cat"}
