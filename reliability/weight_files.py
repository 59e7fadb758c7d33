"""How each kind of weight file is made: broken, hostile, odd and good ones."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

Make = Callable[[random.Random, Path], object]


class Code:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def small_net() -> Any:
    """ResNet-8 for grey images, always with the same weights."""
    import torch

    from pipeline.config import ModelConfig
    from pipeline.learn.models import build_model

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return build_model(ModelConfig(depth=8, residual=True, shortcut="A"), 10, 1)


def _state() -> dict[str, Any]:
    return dict(small_net().state_dict())


def _saved(value: Any, **options: Any) -> Make:
    """Makes a file of torch.save; a callable `value` gives what to save."""

    def make(rng: random.Random, path: Path) -> None:
        import torch

        torch.save(value(rng) if callable(value) else value, path, **options)

    return make


def _changed(change: Callable[[random.Random, Any], Any]) -> Make:
    """A good state whose first weight is changed."""

    def state(rng: random.Random) -> dict[str, Any]:
        weights = _state()
        name = rng.choice([n for n in weights if n.endswith("weight")])
        return {**weights, name: change(rng, weights[name])}

    return _saved(state)


def _bytes(make: Callable[[random.Random], bytes]) -> Make:
    return lambda rng, path: path.write_bytes(make(rng))


def _cut(make: Make) -> Make:
    def cut(rng: random.Random, path: Path) -> None:
        make(rng, path)
        os.truncate(path, rng.randrange(1, path.stat().st_size))

    return cut


def _flipped(rng: random.Random, path: Path) -> None:
    rng.choice([_saved(lambda _: _state()), _safetensors])(rng, path)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _safetensors(rng: random.Random, path: Path, metadata: dict[str, str] | None = None) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in _state().items()}, path, metadata)


def _header(make: Callable[[random.Random], Any], claimed: int | None = None) -> Make:
    """A safetensors file with a header of one's own before 64 bytes."""

    def write(rng: random.Random) -> bytes:
        text = json.dumps(make(rng)).encode()
        return struct.pack("<Q", len(text) if claimed is None else claimed) + text + bytes(64)

    return _bytes(write)


def _zip(entries: Callable[[random.Random], list[tuple[str, bytes]]], compression: int = zipfile.ZIP_STORED) -> Make:
    def write(rng: random.Random) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as archive:
            for name, data in entries(rng):
                archive.writestr(name, data)
        return stream.getvalue()

    return _bytes(write)


def _entries(
    change: Callable[[random.Random, str, bytes], bytes],
) -> Callable[[random.Random], list[tuple[str, bytes]]]:
    """The entries of a good file, each changed."""

    def entries(rng: random.Random) -> list[tuple[str, bytes]]:
        import torch

        stream = io.BytesIO()
        torch.save(_state(), stream)
        with zipfile.ZipFile(stream) as archive:
            return [(name, change(rng, name, archive.read(name))) for name in archive.namelist()]

    return entries


def _script(rng: random.Random, path: Path) -> None:
    import warnings

    import torch

    warnings.simplefilter("ignore")

    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def _legacy_giant(rng: random.Random, path: Path) -> None:
    import torch

    _saved({"conv1.weight": torch.zeros(1234, 1)}, _use_new_zipfile_serialization=False)(rng, path)
    giant = struct.pack("<i", 2**31 - 1)
    path.write_bytes(path.read_bytes().replace(b"M\xd2\x04", b"J" + giant))  # 1234 as pickle writes it


def _tar(rng: random.Random, path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))


def _deep(rng: random.Random) -> Any:
    value: Any = {}
    for _ in range(rng.randrange(200, 400)):
        value = {"state_dict": value}
    return value


def _endless(rng: random.Random) -> Any:
    value: dict[str, Any] = {"epoch": 1}
    value["state_dict"] = value
    return value


def _aliases(rng: random.Random) -> dict[str, Any]:
    import torch

    weight = torch.zeros(rng.randrange(1 << 16, 1 << 18))
    return {f"layer{at}.weight": weight for at in range(5000)}


def _of(function: str, *arguments: Any, **options: Any) -> Callable[[random.Random, Any], Any]:
    """A method of the weight."""
    return lambda rng, tensor: getattr(tensor, function)(*arguments, **options)


def _one(value: float) -> Callable[[random.Random, Any], Any]:
    """One number of the weight replaced."""

    def change(rng: random.Random, tensor: Any) -> Any:
        tensor = tensor.double().flatten()
        tensor[rng.randrange(len(tensor))] = value
        return tensor

    return change


def _quantised(rng: random.Random, tensor: Any) -> Any:
    import torch

    return torch.quantize_per_tensor(tensor.flatten(), 0.1, 0, torch.qint8)


KINDS: dict[str, Make] = {
    "good": _saved(lambda rng: _state()),
    "good-old": _saved(lambda rng: _state(), _use_new_zipfile_serialization=False),
    "good-checkpoint": _saved(lambda rng: {"state_dict": _state(), "epoch": rng.randrange(100)}),
    "good-wrapped": _saved(lambda rng: {f"module.{name}": weight for name, weight in _state().items()}),
    "good-doubles": _saved(
        lambda rng: {name: w.double() if w.is_floating_point() else w for name, w in _state().items()}
    ),
    "good-safetensors": _safetensors,
    "empty": _bytes(lambda rng: b""),
    "text": _bytes(lambda rng: b"conv1.weight: 0.5\n" * rng.randrange(1, 100)),
    "noise": _bytes(lambda rng: rng.randbytes(rng.randrange(1, 5000))),
    "picture": _bytes(lambda rng: b"\x89PNG\r\n\x1a\n" + rng.randbytes(200)),
    "gzip": _bytes(lambda rng: b"\x1f\x8b\x08" + rng.randbytes(200)),
    "folder": lambda rng, path: path.mkdir(),
    "fifo": lambda rng, path: os.mkfifo(path),
    "endless-device": lambda rng, path: path.symlink_to("/dev/zero"),
    "dangling-link": lambda rng, path: path.symlink_to("nowhere"),
    "link-loop": lambda rng, path: path.symlink_to(path.name),
    "cut": _cut(_saved(lambda rng: _state())),
    "cut-old": _cut(_saved(lambda rng: _state(), _use_new_zipfile_serialization=False)),
    "cut-safetensors": _cut(_safetensors),
    "flipped": _flipped,
    "code": lambda rng, path: _saved({"state_dict": Code(path.with_name("mark"))})(rng, path),
    "code-old": lambda rng, path: _saved(Code(path.with_name("mark")), _use_new_zipfile_serialization=False)(rng, path),
    "code-pickle": lambda rng, path: path.write_bytes(pickle.dumps(Code(path.with_name("mark")))),
    "other-class": _saved({"args": Namespace(lr=0.1), "state_dict": {}}),
    "whole-net": _saved(lambda rng: small_net()),
    "no-pickle": _zip(lambda rng: [("archive/data/0", rng.randbytes(40))]),
    "pickle-alone": _zip(_entries(lambda rng, name, data: data if name.endswith("data.pkl") else b"")),
    "short-storages": _zip(_entries(lambda rng, name, data: data[: len(data) // 2] if "/data/" in name else data)),
    "torn-pickle": _zip(_entries(lambda rng, name, data: data[:-9] if name.endswith("data.pkl") else data)),
    "packed": _zip(_entries(lambda rng, name, data: data), zipfile.ZIP_DEFLATED),
    "packed-giant": _zip(lambda rng: [("archive/data.pkl", bytes(10_000_000))], zipfile.ZIP_DEFLATED),
    "script": _script,
    "old-tar": _tar,
    "old-giant": _legacy_giant,
    "stride-0": _changed(lambda rng, tensor: tensor.flatten()[:1].expand(10_000_000_000)),
    "overlapping": _changed(lambda rng, tensor: tensor.flatten()[:9].as_strided((5, 5), (1, 1))),
    "aliases": _saved(_aliases),
    "complex": _changed(_of("cfloat")),
    "integers": _changed(_of("int")),
    "bools": _changed(_of("bool")),
    "sparse": _changed(lambda rng, tensor: tensor.reshape(len(tensor), -1).to_sparse()),
    "sparse-rows": _changed(lambda rng, tensor: tensor.reshape(len(tensor), -1).to_sparse_csr()),
    "quantised": _changed(_quantised),
    "no-device": _changed(_of("to", "meta")),
    "nan": _changed(_one(float("nan"))),
    "infinite": _changed(_one(float("-inf"))),
    "beyond-float32": _changed(_one(1e300)),
    "other-shape": _changed(lambda rng, tensor: tensor[None]),
    "no-shape": _changed(lambda rng, tensor: tensor.flatten()[0]),
    "number": _saved(lambda rng: rng.random()),
    "list": _saved(lambda rng: list(_state().values())),
    "no-state": _saved({"epoch": 3, "optimizer": {"lr": 0.1}}),
    "two-states": _saved(lambda rng: {"a": _state(), "b": _state()}),
    "numbers-as-names": _saved(lambda rng: dict(enumerate(_state().values()))),
    "deep": _saved(_deep),
    "endless": _saved(_endless),
    "control-names": _saved(lambda rng: {f"\x1b[2J{name}\n": weight for name, weight in _state().items()}),
    "long-names": _saved(lambda rng: {"a." * 100_000 + name: weight for name, weight in _state().items()}),
    "header-claims-giant": _header(lambda rng: {}, 1 << 62),
    "header-nested": _bytes(lambda rng: struct.pack("<Q", 300_000) + b'{"a":' * 60_000),
    "header-outside": _header(
        lambda rng: {"a": {"dtype": "F32", "shape": [9], "data_offsets": [1 << 40, (1 << 40) + 36]}}
    ),
    "header-giant-shape": _header(
        lambda rng: {"a": {"dtype": "F32", "shape": [1 << 33, 1 << 33], "data_offsets": [0, 64]}}
    ),
    "header-other-kind": _header(lambda rng: {"a": {"dtype": "F8_E4M3", "shape": [64], "data_offsets": [0, 64]}}),
    "header-no-record": lambda rng, path: _safetensors(
        rng, path, {"pipeline": rng.choice(["[", "[1]", '{"model": 3}', "[" * 9999])}
    ),
}
