"""torch.compile for a net in training; trainer.compile=auto chooses compiled or plain steps by timing both."""

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

from pipeline.atomic import read_if_whole, user_cache, write_json
from pipeline.errors import PipelineError, printable

COMPILING_S = 2.0  # a convolution; the 20 layers of ResNet-20 took 37 to 75 s on two cores
WORTH = 10  # a training must take this many times as long as compiling, for the speedup to pay
PAIRS = 8


@dataclass(frozen=True)
class Steps:
    """Seconds a step of one net on one machine."""

    plain_s: float
    compiled_s: float


def compile_net(net: nn.Module) -> None:
    """Makes `net`, from its next call on, run as code generated for this machine; names of weights stay.

    The first call takes a minute; the code is cached on the machine (TORCHINDUCTOR_CACHE_DIR). `net.forward` stays
    uncompiled, for shapes too rare to be worth compiling.

    Raises:
        PipelineError: no C++ compiler, which the generated code needs.
    """
    if not compiler_exists():
        raise PipelineError(
            f"trainer.compile=true needs a C++ compiler and {_compiler()} was not found; install g++, name another in "
            "CXX, or use trainer.compile=false"
        )
    # On a machine without a GPU, it logs that there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # Batches have one shape; without this, a second shape would cause everything to be compiled again for any shape.
    net.compile(dynamic=False)


def compiler_exists() -> bool:
    return shutil.which(_compiler()) is not None


def _compiler() -> str:
    return os.environ.get("CXX", "g++")


def compiles(
    setting: bool | str,
    net: nn.Module,
    shape: tuple[int, ...],
    precision: str,
    device: torch.device,
    steps: int,
    earlier: bool | None = None,
) -> bool:
    """Whether to compile `net` for `steps` more steps on batches of `shape` (B, C, H, W).

    The first long training of a net on a machine times both kinds of steps, which takes as long as compiling, and keeps
    the result in the user's cache folder. Weights, statistics and random numbers stay as they are.

    Args:
        setting: trainer.compile: true, false or auto.
        precision: fp32, tf32 or bf16.
        earlier: whether the training's first steps were compiled, if it goes on. auto then is the same, so that the last
            bits of its weights do not depend on where it was interrupted.
    """
    if setting != "auto":
        return bool(setting)
    if earlier is False:
        return False
    if not compiler_exists():
        print("trainer.compile=auto: no C++ compiler, so steps stay plain", file=sys.stderr)
        return False
    key = _key(net, shape, precision, device)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in net.modules())
    worth_s = WORTH * COMPILING_S * convolutions
    if not earlier and key in (timings := _timings()):
        timed = Steps(**timings[key])
        return steps * timed.plain_s > worth_s and timed.compiled_s < timed.plain_s
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        plain = _step(deepcopy(net), shape, precision, device)
        plain()  # chooses kernels
        if not earlier and steps * _timed(plain, 3, device) <= worth_s:
            return False
        copy = deepcopy(net)
        compile_net(copy)
        compiled = _step(copy, shape, precision, device)
        try:
            if earlier:
                compiled()
                return True
            print(
                "trainer.compile=auto: timing plain and compiled steps, once for this net and machine", file=sys.stderr
            )
            timed = _measured(plain, compiled, device)
        except Exception as error:  # of many kinds: no header files, no folder for the code, no name of the user
            print(
                f"trainer.compile=auto: steps stay plain, for torch.compile fails here ({_reason(error)})",
                file=sys.stderr,
            )
            return False
    _keep(key, timed)
    return timed.compiled_s < timed.plain_s


def _keep(key: str, timed: Steps) -> None:
    """Notes the times for the next training; stderr is told them, and where they could not be noted."""
    milliseconds = f"plain {timed.plain_s * 1e3:.1f} ms, compiled {timed.compiled_s * 1e3:.1f} ms a step"
    try:
        write_json(cache_file(), {**_timings(), key: asdict(timed)})
        print(f"{milliseconds} ({cache_file()})", file=sys.stderr)
    except OSError as error:
        print(
            f"{milliseconds}; the next training measures again, for {cache_file()} cannot be written ({error})",
            file=sys.stderr,
        )


def _reason(error: Exception) -> str:
    """What the compiler or torch says, without the code that it was given."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return printable((errors or lines or [type(error).__name__])[0][:200])


def cache_file() -> Path:
    """Where the times are kept."""
    return user_cache() / "steps.json"


def _timings() -> dict[str, dict[str, float]]:
    return read_if_whole(cache_file())


def _measured(plain: Callable[[], None], compiled: Callable[[], None], device: torch.device) -> Steps:
    """Medians of alternating steps, so that both are timed under the same load."""
    _timed(compiled, 2, device)  # the first generates the code
    pairs = [(_timed(plain, 1, device), _timed(compiled, 1, device)) for _ in range(PAIRS)]
    return Steps(*(median(times) for times in zip(*pairs, strict=True)))


def _step(net: nn.Module, shape: tuple[int, ...], precision: str, device: torch.device) -> Callable[[], None]:
    """Forward and backward pass on noise; the optimiser takes equally long in both."""
    net = net.to(device).train()
    # In channels_last memory, as augmentation makes them.
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
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
    """Hash of everything that the time of a step depends on: net, batch, arithmetic, machine, version of torch."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()
    layout = [(name, tuple(p.shape), p.stride()) for name, p in net.named_parameters()]
    facts = [str(net), layout, shape, precision, machine, torch.get_num_threads(), torch.__version__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _cpu() -> str:
    """Name and instruction sets on Linux, the architecture elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags"))})) or platform.machine()
