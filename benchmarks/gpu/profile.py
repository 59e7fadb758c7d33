"""Where a GPU's time goes while `fit` trains: its longest kernels, and the share in which it does nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity

from benchmarks import rates
from benchmarks.configs import changed
from benchmarks.gpu.resnet20 import resnet20_config
from benchmarks.gpu.resnet50 import resnet50_config
from benchmarks.gpu.variants import BOTH, by_variant
from benchmarks.harness import quiet
from benchmarks.training import title
from pipeline.config import Config
from pipeline.run.recorder import Recorder

TOP = 15


def profile(
    device: torch.device,
    work: Path,
    depths: tuple[int, int] = (20, 50),
    sides: tuple[int, int] = (32, 224),
    images: tuple[int, int] = (25_600, 2_560),
    batch_sizes: tuple[int, int] = (128, 256),
    steps: int = 50,
    compiled: Sequence[bool] = BOTH,
) -> tuple[dict[str, Any], bool]:
    """The kernels of `steps` steps of ResNet-20 on CIFAR-10's size and of ResNet-50 on ImageNet's, plain and compiled.

    ok: kernels were seen in each. `depths` and what follows are of the one and the other.
    """
    # What traces kernels must be there before a graph is made, or it sees the graph as one piece.
    with torch.profiler.profile(activities=_activities(device)):
        torch.zeros(1, device=device)
    makers = (resnet20_config, resnet50_config)
    values, ok = {}, True
    for make, *facts in zip(makers, depths, sides, images, batch_sizes, strict=True):
        config, store = make(device, work / f"{facts[0]}", *facts)

        def measured(one: bool, config: Config = config, path: Path = store.path) -> dict[str, Any]:
            return profiled(changed(config, trainer={"compile": one}), path, device, steps)

        values[title(config)], ran = by_variant(compiled, measured)
        ok = ok and ran
    return values, ok and all(one["kernels"] for found in values.values() for one in found.values())


def profiled(config: Config, store: Path, device: torch.device, steps: int) -> dict[str, Any]:
    """span_us: of the traced `steps`; idle: share of it in which no kernel ran; kernels: name, share of their time, calls.

    Calls that are no multiple of `steps` tell that the profiler lost some, which it is known to do (pytorch#192021).
    """
    every = max(1, steps // 2)
    config = changed(config, recipe={"max_steps": 4 * every}, trainer={"log_every_steps": every})
    kind = torch.autograd.DeviceType.CUDA if device.type == "cuda" else torch.autograd.DeviceType.CPU
    tracer = torch.profiler.profile(activities=_activities(device))
    with quiet(), _traced(tracer, 2 * every, 4 * every):
        rates.fit_rate(config, store)
    events = [
        event
        for event in tracer.events() or ()
        if event.device_type == kind and not getattr(event, "is_user_annotation", False)
    ]
    return {**_summary([(e.name, e.time_range.start, e.time_range.end) for e in events]), "steps": 2 * every}


@contextmanager
def _traced(tracer: Any, first: int, last: int) -> Iterator[None]:
    """Traces trainings within the block from one step to another, each of which must end a call."""
    whole = Recorder.on_train_batch_end

    def ended(self: Recorder, trainer: Any, *given: Any) -> None:
        whole(self, trainer, *given)  # at a log line it reads metrics, and so waits for the device
        if trainer.global_step == first:
            tracer.start()
        elif trainer.global_step == last:
            tracer.stop()

    with patch.object(Recorder, "on_train_batch_end", ended):
        yield


def _summary(events: Sequence[tuple[str, float, float]]) -> dict[str, Any]:
    """Of (name, start, end) in microseconds; what overlaps is busy once."""
    times, calls = Counter[str](), Counter[str]()
    for name, start, end in events:
        times[name] += end - start  # type: ignore[assignment]
        calls[name] += 1
    total = sum(times.values())
    top = [(name[:120], round(time / total, 4), calls[name]) for name, time in times.most_common(TOP)] if total else []
    span = max((end for *_, end in events), default=0) - min((start for _, start, _ in events), default=0)
    return {
        "span_us": span,
        "idle": 1 - _busy(events) / span if span else None,
        "launches": len(events),
        "kernels": top,
    }


def _busy(events: Iterable[tuple[str, float, float]]) -> float:
    """Length of the union of intervals."""
    busy, until = 0.0, float("-inf")
    for _, start, end in sorted(events, key=lambda event: event[1]):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy


def _activities(device: torch.device) -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
