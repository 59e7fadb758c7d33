"""torch.compile for a net in training; trainer.compile=auto takes compiled or plain steps, whichever are faster here."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.atomic import read_json, write_json

COMPILING_S = 2.0  # a convolution: 20 layers took from 37 to 75 s on two cores
WORTH = 10  # compiling has to be this small a part of the training, or even a fifth more speed would not pay for it
PAIRS = 8


@dataclass(frozen=True)
class Steps:
    """What was measured of one net on one machine, in seconds."""

    plain_s: float  # a step
    compiled_s: float


def compile_net(net: nn.Module) -> None:
    """From its next call on, `net` runs as code generated for this machine; names of weights stay as they are.

    The first call takes a minute; what it makes is cached on the machine (TORCHINDUCTOR_CACHE_DIR). `net.forward` stays
    uncompiled, for shapes that are too rarely seen to be worth it.

    Raises:
        ValueError: no C++ compiler, which the generated code needs.
    """
    if not compiler_found():
        raise ValueError(
            f"trainer.compile=true needs a C++ compiler and {_compiler()} was not found; install g++, name another in "
            "CXX, or use trainer.compile=false"
        )
    # It remarks on every machine without a GPU that there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # Batches have one shape; without this, a second shape would have everything compiled anew for any shape.
    net.compile(dynamic=False)


def compiler_found() -> bool:
    return shutil.which(_compiler()) is not None


def _compiler() -> str:
    return os.environ.get("CXX", "g++")


def compiles(
    setting: bool | str, net: nn.Module, shape: tuple[int, ...], precision: str, device: torch.device, steps: int
) -> bool:
    """Whether to compile `net` for `steps` more steps on batches of `shape` (B, C, H, W).

    The first long training of a net on a machine times both, which takes as long as compiling does; the outcome is kept
    in the user's cache folder. Weights, statistics and random numbers stay as they are.

    Args:
        setting: trainer.compile: true, false or auto.
        precision: fp32, tf32 or bf16.
    """
    if setting != "auto":
        return bool(setting)
    if not compiler_found():
        print("trainer.compile=auto: no C++ compiler, so steps stay plain", file=sys.stderr)
        return False
    path, key = cache_file(), _key(net, shape, precision, device)
    timings = read_json(path) if path.exists() else {}
    convolutions = sum(isinstance(module, nn.Conv2d) for module in net.modules())
    worth_s = WORTH * COMPILING_S * convolutions
    if key in timings:
        measured = Steps(**timings[key])
        return steps * measured.plain_s > worth_s and measured.compiled_s < measured.plain_s
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        plain = _step(deepcopy(net), shape, precision, device)
        plain()  # the first one chooses kernels
        if steps * _timed(plain, 3, device) <= worth_s:
            return False
        print("trainer.compile=auto: timing plain and compiled steps, once for this net and machine", file=sys.stderr)
        copy = deepcopy(net)
        compile_net(copy)
        measured = _measured(plain, _step(copy, shape, precision, device), device)
    write_json(path, {**(read_json(path) if path.exists() else {}), key: asdict(measured)})
    print(
        f"plain {measured.plain_s * 1e3:.1f} ms, compiled {measured.compiled_s * 1e3:.1f} ms a step ({path})",
        file=sys.stderr,
    )
    return measured.compiled_s < measured.plain_s


def cache_file() -> Path:
    """steps.json in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnet-pipeline" / "steps.json"


def _measured(plain: Callable[[], None], compiled: Callable[[], None], device: torch.device) -> Steps:
    """Medians of steps made in turn, so that both see the same load."""
    _timed(compiled, 2, device)  # the code is made in the first
    pairs = [(_timed(plain, 1, device), _timed(compiled, 1, device)) for _ in range(PAIRS)]
    return Steps(*(median(times) for times in zip(*pairs, strict=True)))


def _step(net: nn.Module, shape: tuple[int, ...], precision: str, device: torch.device) -> Callable[[], None]:
    """Forward and backward pass on noise; the optimiser's share is the same in both."""
    net = net.to(device).train()
    images = torch.randn(shape, device=device).contiguous(
        memory_format=torch.channels_last
    )  # as augmentation makes them
    labels = torch.zeros(shape[0], dtype=torch.long, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = net(images)
        net.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()

    return step


def _timed(step: Callable[[], None], count: int, device: torch.device) -> float:
    """Seconds a step."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / count


def _key(net: nn.Module, shape: tuple[int, ...], precision: str, device: torch.device) -> str:
    """Of all that a step's time depends on: net, batch, arithmetic, machine, version of torch."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()
    layout = [(name, tuple(p.shape), p.stride()) for name, p in net.named_parameters()]
    facts = [str(net), layout, shape, precision, machine, torch.get_num_threads(), torch.__version__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _cpu() -> str:
    """Name and instruction sets; only Linux tells more than the architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags"))})) or platform.machine()
