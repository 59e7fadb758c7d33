"""Odd and hostile CIFAR pickles and ImageNet devkits.

Small archives in the official formats, with one thing odd in each.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from pipeline import border
from pipeline.config import DataConfig
from pipeline.data.readers import open_published
from reliability import Outcome, child
from reliability.datasets import tarred

PROMISE = "read, or refused in one sentence, no code run, below 5 s and 1 GB"
TRIALS = 180
IMAGES = 10  # of a batch
CLASSES = ["cat", "dog", "owl"]
HARM = "harm"  # the file that a hostile pickle would leave

Batch = dict[Any, Any]
Changed = Callable[[random.Random, Batch], object]


def right_batch(rng: random.Random, images: int = IMAGES) -> Batch:
    data = np.frombuffer(rng.randbytes(images * 3072), np.uint8).reshape(images, 3072)
    labels = [n % len(CLASSES) for n in range(images)]
    return {"data": data, "labels": labels, "filenames": [f"{n}.png" for n in range(images)]}


class _Call:
    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def _set(key: str, value: object) -> Changed:
    return lambda _, batch: batch | {key: value}


def _entry(key: str, value: object) -> Changed:
    return lambda rng, batch: batch | {key: [*batch[key][:-1], value]}


_BIG = (10**6, 3072)
LABELS: tuple[Any, ...] = (3, -1, 2**80, 1.5, float("nan"), True, "1", None, [])
_NUMBERS: tuple[Any, ...] = (2, -1, 1.5, float("nan"), float("inf"), "x", 10**9, [1, 2])
_CHILDREN: tuple[Any, ...] = (-1, "0", float("nan"), [])
CHANGES: dict[str, Changed] = {  # of a batch, each to be refused
    "a list": lambda *_: [1, 2],
    "nothing": lambda *_: None,
    "no data": lambda _, batch: {key: batch[key] for key in ("labels", "filenames")},
    "no labels": lambda _, batch: {key: batch[key] for key in ("data", "filenames")},
    "keys that are no texts": lambda _, batch: {1: batch, (2,): 3},
    "data of another shape": lambda _, batch: batch | {"data": batch["data"][:, :3000].copy()},
    "data of three axes": lambda _, batch: batch | {"data": batch["data"].reshape(-1, 3, 1024)},
    "data of numbers": lambda _, batch: batch | {"data": batch["data"].astype(np.float64)},
    "data of signed bytes": lambda _, batch: batch | {"data": batch["data"].astype(np.int8)},
    "data of objects": lambda _, batch: batch | {"data": batch["data"].astype(object)},
    "data by columns": lambda _, batch: batch | {"data": np.asfortranarray(batch["data"])},
    "data as lists": lambda _, batch: batch | {"data": batch["data"].tolist()},
    "data of nothing": _set("data", np.zeros((0, 3072), np.uint8)),
    "data of one number": _set("data", np.uint8(3)),
    "too few labels": lambda _, batch: batch | {"labels": batch["labels"][:-1]},
    "labels as an array": lambda _, batch: batch | {"labels": np.array(batch["labels"])},
    "labels as a text": _set("labels", "0120120120"),
    **{f"the label {value!r}": _entry("labels", value) for value in LABELS},
    "too many filenames": lambda _, batch: batch | {"filenames": [*batch["filenames"], "x"]},
    **{
        f"the filename {value!r}": _entry("filenames", value)
        for value in (1, None, "", "../x", "a\nb", "\x1b[31m", b"\xff", "\udce9")
    },
}
CALLS: dict[str, Callable[[Path], object]] = {  # what a hostile pickle calls
    "os.system": lambda path: _Call(__import__("os").system, f"touch {path}"),
    "eval": lambda path: _Call(eval, f"open({str(path)!r}, 'w')"),
    "open": lambda path: _Call(open, str(path), "w"),
    "numpy.load": lambda path: _Call(np.load, str(path)),
    "numpy.zeros of 3 GB": lambda _: _Call(np.zeros, _BIG),
    "bytearray of 8 GB": lambda _: _Call(bytearray, 1 << 33),
    "getattr": lambda _: _Call(getattr, "text", "format"),
}
RAW: dict[str, Callable[[random.Random], bytes]] = {  # the whole pickle
    "nothing at all": lambda _: b"",
    "no end": lambda _: b"\x80\x02}",
    "a memo of 2 billion": lambda _: b"\x80\x02]r\xff\xff\xff\x7f.",
    "bytes of 1 EB": lambda _: b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f" + b"x.",
    "a bytearray of 8 GB": lambda _: b"\x80\x05\x96" + (1 << 33).to_bytes(8, "little") + b"x.",
    "a frame of 1 EB": lambda _: b"\x80\x04\x95" + b"\xff" * 7 + b"\x0f" + b"}.",
    "lists 100,000 deep": lambda _: b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "a key of tuples 200,000 deep": lambda _: b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.",
    "a set of tuples 200,000 deep": lambda _: b"\x80\x04\x8f()" + b"\x85" * 200_000 + b"\x90.",
    "a number of a million digits": lambda _: b"I" + b"9" * 10**6 + b"\n.",
    "one text encoded a thousand times": lambda _: (
        b"\x80\x02(c_codecs\nencode\nX\0\0\x10\0"
        + b"a" * (1 << 20)
        + b"q\1X\6\0\0\0latin1\x86R0"
        + b"c_codecs\nencode\nh\1X\6\0\0\0latin1\x86R" * 2000
        + b"l."
    ),
    "persistent names": lambda _: b"Pos.system\n.",
    "an extension": lambda _: b"\x80\x02\x82\x01.",
    "functions changed": lambda _: b"\x80\x02c_codecs\nencode\n}(X\x0c\0\0\0__defaults__NuN\x86b.",
    "an array of 1 TB": lambda _: b"".join(
        (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\1btR",
            b"(K\1J\xff\xff\xff\x7fM\0\x0c\x86cnumpy\ndtype\nU\2u1\x85R\x89U\1xtb.",
        )
    ),
}


def _mutated(rng: random.Random) -> bytes:
    """A right batch, with opcodes lost, doubled or exchanged."""
    content = bytearray(
        pickle.dumps(right_batch(rng) | {"data": np.zeros((IMAGES, 3072), np.uint8)}, rng.choice((0, 2, 4)))
    )
    places = [at for _, _, at in pickletools.genops(bytes(content)) if at is not None]
    for _ in range(rng.choice((1, 2, 5))):
        at = rng.choice(places)
        content[at : at + 1] = rng.choice((b"", content[at : at + 1] * 2, bytes([rng.randrange(256)])))
    return bytes(content)


def _cifar(batch: bytes, right: bytes, meta: object = None) -> list[bytes]:
    meta = {"label_names": CLASSES} if meta is None else meta
    files = {"batches.meta": pickle.dumps(meta, 2), "data_batch_1": batch, "test_batch": right}
    return [tarred({f"cifar-10-batches-py/{name}": content for name, content in files.items()})]


METAS: dict[str, object] = {
    "names twice": {"label_names": ["cat", "dog", "dog"]},
    "no names": {"label_names": []},
    "names of numbers": {"label_names": [1, 2, 3]},
    "other batches": {"label_names": CLASSES, "num_cases_per_batch": 10_000},
    "a name with a slash": {"label_names": ["cat", "../dog", "owl"]},
    "names that differ in case": {"label_names": ["cat", "Cat", "owl"]},
    "no dict": CLASSES,
}


def right_meta(packed: bool = True, **changes: object) -> bytes:
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows: list[list[Any]] = [[n, f"n0000000{n}", "words", "gloss", 0] for n in (1, 2, 3)] + [
        [4, "n00000009", "all", "gloss", 3]
    ]
    for field, value in changes.items():
        rows[0][[name for name, _ in kinds].index(field)] = value
    written = io.BytesIO()
    savemat(
        written, {"synsets": np.array([tuple(row) for row in rows], dtype=kinds).reshape(-1, 1)}, do_compression=packed
    )
    return written.getvalue()


def _imagenet(meta: bytes, truth: bytes = b"3\n1\n2\n") -> list[bytes]:
    wnids = [f"n0000000{n}" for n in (1, 2, 3)]
    train = tarred({f"{wnid}.tar": tarred({f"{wnid}_{n}.JPEG": b"x" for n in range(2)}) for wnid in wnids})
    val = tarred({f"ILSVRC2012_val_0000000{n}.JPEG": b"x" for n in (1, 2, 3)})
    kit = {"kit/data/meta.mat": meta, "kit/data/ILSVRC2012_validation_ground_truth.txt": truth}
    return [train, val, tarred(kit)]


DEVKITS: dict[str, Callable[[], list[bytes]]] = {
    **{
        f"{field} of {value!r}": partial(lambda field, value: _imagenet(right_meta(**{field: value})), field, value)
        for field, value in (
            *(("ILSVRC2012_ID", value) for value in _NUMBERS),
            *(("WNID", value) for value in ("n00000002", "", "../x", "n1\n", 5, "n" + "1" * 500)),
            *(("num_children", value) for value in _CHILDREN),
        )
    },
    **{
        f"the truth {text[:12]!r}": partial(lambda text: _imagenet(right_meta(), text), text)
        for text in (
            b"",
            b"3\n1\n",
            b"3\n1\n9\n",
            b"3\n1\n4\n",
            b"3 1 -2",
            b"3\n1\nx\n",
            b"9" * 10**6,
            b"\xff\xfe3",
            b"1_0\n1\n1\n",
        )
    },
    "an empty meta.mat": lambda: _imagenet(b""),
    "a bomb in meta.mat": lambda: _imagenet(
        right_meta()[:128]
        + b"\x0f\0\0\0"
        + len(packed := zlib.compress(bytes(10**9), 1)).to_bytes(4, "little")
        + packed
    ),
    "no meta.mat": lambda: [*_imagenet(right_meta())[:2], tarred({"x": b""})],
}


def _damaged_devkit(rng: random.Random, packed: bool) -> list[bytes]:
    """Bits flipped in meta.mat, or in what its compression holds."""
    content = right_meta()
    inner = bytearray(content[128:] if packed else zlib.decompress(content[136:]))
    for _ in range(rng.choice((1, 2, 10))):
        inner[rng.randrange(len(inner))] ^= 1 << rng.randrange(8)
    return _imagenet(content[:128] + bytes(inner[: rng.choice((len(inner), len(inner), rng.randrange(len(inner))))]))


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    """Every kind once, then mutations to the end."""
    rng = random.Random(seed)
    right = pickle.dumps(right_batch(rng), 2)
    for number, (name, layout, archives, ends) in enumerate(islice(_all(rng, right, scratch / HARM), TRIALS)):
        yield _outcome(f"{name} ({number})", layout, archives, scratch / str(number), ends, scratch / HARM)


def _all(rng: random.Random, right: bytes, harm: Path) -> Iterator[tuple[str, str, list[bytes], bool | None]]:
    """Name, layout, archives, and whether they are good; None where either is right."""
    yield "a right CIFAR", "cifar-pickles", _cifar(right, right), True
    yield "a right devkit", "ilsvrc-tars", _imagenet(right_meta()), True
    for name, change in CHANGES.items():
        batch = pickle.dumps(change(rng, right_batch(rng)), rng.choice((2, 4)))
        yield name, "cifar-pickles", _cifar(batch, right), False
    for name, call in CALLS.items():
        yield f"calls {name}", "cifar-pickles", _cifar(pickle.dumps({"data": call(harm)}, 2), right), False
    for name, raw in RAW.items():
        yield name, "cifar-pickles", _cifar(raw(rng), right), False
    for name, meta in METAS.items():
        yield f"meta: {name}", "cifar-pickles", _cifar(right, right, meta), False
    for name, devkit in DEVKITS.items():
        yield f"devkit: {name}", "ilsvrc-tars", devkit(), False
    while True:
        yield "a mutated pickle", "cifar-pickles", _cifar(_mutated(rng), right), None
        yield "a damaged devkit", "ilsvrc-tars", _damaged_devkit(rng, packed=True), None
        yield "a devkit damaged inside", "ilsvrc-tars", _damaged_devkit(rng, packed=False), None


def _outcome(name: str, layout: str, archives: list[bytes], folder: Path, good: bool | None, harm: Path) -> Outcome:
    folder.mkdir()
    paths = [folder / f"{number}.tar" for number in range(len(archives))]
    for path, content in zip(paths, archives, strict=True):
        path.write_bytes(content)
    ended = child.call(partial(_read, layout, paths), cwd=folder, timeout_s=5.0, memory=1 << 30)
    left = len(list(folder.iterdir())) - len(paths) + harm.exists()
    ok = (ended.code == 0 and good is not False) or (ended.refused() and ended.last_line.isprintable() and not good)
    return Outcome(name, ok and not left, ended.summary())


def _read(layout: str, paths: list[Path]) -> int:
    try:
        with open_published(layout, paths, paths[0].parent, DataConfig(name="set", path="set")) as published:
            print(len(published.train), len(published.test))
    except BaseException as error:
        return border.report(error, "preprocess")
    return 0
