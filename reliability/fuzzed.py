"""`python -m reliability.fuzzed READER FOLDER SECONDS SEED`: coverage-guided fuzzing of one reader, by atheris, in this process.

FOLDER/corpus holds inputs to start from and those that reach new code. The process ends by itself after SECONDS with status 0, or
at the first input that ends otherwise than in success or a PipelineError, takes over 5 s, or over 1 GB; FOLDER then holds it.
"""

from __future__ import annotations

import io
import random
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["pipeline.data", "pipeline.run", "tarfile", "zipfile", "torch._weights_only_unpickler"]
):
    import tarfile

    from pipeline.data.archives import open_container
    from pipeline.data.layouts import read_layout
    from pipeline.data.tars import Tar  # noqa: F401
    from pipeline.data.zips import Zip  # noqa: F401

from pipeline.config import LimitsConfig
from pipeline.errors import PipelineError
from reliability.datasets import class_folders as image_files
from reliability.datasets import tarred, zipped

LIMITS = LimitsConfig(total_gb=0.1, entry_mb=10, entries=10_000)
LONGEST = 1 << 16  # bytes of an input
MEMORY_MB, TIMEOUT_S = 1024, 5


def archives(content: bytes, folder: Path) -> None:
    """The first byte chooses between tar and zip."""
    path = folder / ("input.zip" if content[:1] == b"z" else "input.tar")
    path.write_bytes(content[1:] if content[:1] == b"z" else _with_checksums(content[1:]))
    with open_container(path, folder, LIMITS) as container:
        for entry in container.entries():
            entry.read()
        read_layout(container, io.BytesIO).arrange(path)


def _with_checksums(content: bytes) -> bytes:
    """A tar with right checksums, without which no mutation of a header would get beyond them."""
    blocks = bytearray(content)
    for at in range(0, len(blocks) - 511, 512):
        if blocks[at + 257 : at + 262] == b"ustar":
            blocks[at + 148 : at + 156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + 512])
    return bytes(blocks)


def weights(content: bytes, folder: Path) -> None:
    """The first byte chooses between a checkpoint of torch and safetensors."""
    from pipeline.run.start import starting_point

    path = folder / ("input.safetensors" if content[:1] == b"s" else "input.pt")
    path.write_bytes(content[1:])
    starting_point(str(path), folder, None)


def _archive_seeds(rng: random.Random) -> list[bytes]:
    files = image_files(rng)
    few = {name: content for name, content in files.items() if name.endswith("/0.png")}
    tars = [
        tarred(few, mode, format_) for mode in ("w", "w:gz") for format_ in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    ]
    zips = [zipped(few, method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    long = {"train/" + "n" * 200 + "/ü.png": b"x"}
    return [b"t" + content for content in (*tars, tarred(long), tarred({}))] + [b"z" + content for content in zips]


def _weight_seeds(_: random.Random) -> list[bytes]:
    import torch
    from safetensors.torch import save

    state = {"a.weight": torch.ones(2, 2), "b": torch.arange(3), "c": torch.ones(4, dtype=torch.bfloat16)}
    seeds = [b"s" + save(state, {"note": "x"}), b"s" + save({})]
    for content in (state, {"model": state, "epoch": 3}, [1, 2], torch.nn.Parameter(torch.ones(2))):
        for zip_ in (True, False):
            written = io.BytesIO()
            torch.save(content, written, _use_new_zipfile_serialization=zip_)
            seeds.append(b"p" + written.getvalue())
    return seeds


Reader = Callable[[bytes, Path], None]
READERS: dict[str, tuple[Reader, Callable[[random.Random], list[bytes]]]] = {
    "archives": (archives, _archive_seeds),
    "weights": (weights, _weight_seeds),
}


def main(name: str, folder: Path, seconds: int, seed: int) -> None:
    read, seeds = READERS[name]
    corpus, scratch = folder / "corpus", folder / "scratch"
    corpus.mkdir(parents=True)
    scratch.mkdir()
    for number, content in enumerate(seeds(random.Random(seed))):
        (corpus / str(number)).write_bytes(content)

    def one(content: bytes) -> None:
        with suppress(PipelineError):
            read(content, scratch)

    options = {"max_total_time": seconds, "seed": seed % 2**32 or 1, "timeout": TIMEOUT_S, "max_len": LONGEST}
    options |= {"rss_limit_mb": 2 * MEMORY_MB, "malloc_limit_mb": MEMORY_MB, "print_final_stats": 1}
    flags = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={folder}/", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
