"""Steps on a CUDA device that never wait for the host: recorded once as a CUDA graph, then replayed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

# Plain steps first do what a recording must not: cuDNN's choice of kernels, compilation, allocating momentum.
WARM_UP = 3


class CudaRecorder:
    """Runs work on its own stream, where it can also be recorded (see torch's notes on CUDA semantics)."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)

    def run(self, work: Callable[[], None]) -> None:
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            work()
        here.wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A function that repeats `work` on the tensors at the same addresses. Recording computes nothing."""
        gc.collect()  # freeing an earlier training's graph would break the recording
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on fetching batches meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            work()
        return graph.replay


class GraphedStep:
    """Calls `step` directly at first, then replays a recording of it.

    Args:
        step: takes a variant and tensors on `device`. All else that it reads or writes must stay at its address. It may
            not read a tensor's values on the host, and its Python numbers stay as they were when recorded.
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
            variant: a change causes a new recording.
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
    """`part` in memory from which an asynchronous copy to `device` is possible."""
    return part.pin_memory() if device.type == "cuda" else part
