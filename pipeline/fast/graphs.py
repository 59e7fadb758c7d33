"""Steps on a CUDA device that wait for no host: recorded once as a CUDA graph, replayed from then on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

# Steps before the recording make what it must not: cuDNN's choices, compiled code, the optimiser's momentum.
WARM_UP = 3


class CudaRecorder:
    """Runs work on a stream of its own, on which it can be recorded too (torch's notes on CUDA semantics)."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def run(self, work: Callable[[], None]) -> None:
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            work()
        here.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does `work`'s arithmetic again, on the tensors at the same addresses; `work` itself computes nothing."""
        gc.collect()  # a graph of an earlier training may not be freed during the recording
        graph = torch.cuda.CUDAGraph()
        # Other threads, which fetch batches, may go on meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


class GraphedStep:
    """Calls `step`, at first as it is, then as a recording of it.

    Args:
        step: takes a variant and tensors on `device`. Whatever else it reads or writes must stay at its address, and it
            may not look at a tensor's values: no Python number of it changes between recordings.
    """

    def __init__(self, step: Callable[..., None], device: torch.device, recorder: CudaRecorder | None = None) -> None:
        self._step, self._device, self._recorder = step, device, recorder or CudaRecorder(device)
        self._variant: Hashable = None
        self._held: list[Tensor] = []
        self._made = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, variant: Hashable, batch: Sequence[Tensor]) -> None:
        """Makes a step.

        Args:
            variant: another one than last time has the step recorded anew.
            batch: on the host, of the same shapes each time.
        """
        if variant != self._variant:
            self._held = [torch.empty_like(part, device=self._device) for part in batch]
            self._variant, self._made, self._replay = variant, 0, None
        for held, part in zip(self._held, batch, strict=True):
            held.copy_(pinned(part, self._device), non_blocking=True)
        if self._made < WARM_UP:
            self._recorder.run(self._work)
            self._made += 1
            return
        if self._replay is None:
            self._replay = self._recorder.record(self._work)
        self._replay()

    def _work(self) -> None:
        self._step(self._variant, self._held)


def pinned(part: Tensor, device: torch.device) -> Tensor:
    """`part`, from where a copy to `device` keeps neither host nor device waiting."""
    return part.pin_memory() if device.type == "cuda" else part
