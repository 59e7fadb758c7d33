"""Ranks under DDP that outlive a lost one for as long as they need to say so."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from pipeline.run.meeting import Meeting
from pipeline.run.silent import SignsOfLife

PARTING_S = 60.0  # that a rank which notices a lost one has to end


class Observer(_ChildProcessObserver):
    """Lightning's observer of the ranks that this process started; by default it kills all of them, within 5 s of one's error.

    The others notice a lost rank by themselves, and need time to say so, to MLflow too. What is left after that is killed.
    """

    def __init__(self, children: list[subprocess.Popen], patience_s: float) -> None:
        super().__init__(os.getpid(), children)
        self._patience_s = patience_s

    def _terminate_all(self) -> None:
        time.sleep(self._patience_s)
        super()._terminate_all()


class PatientLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher of a machine's ranks, with an `Observer`."""

    def __init__(self, *launched: Any, patience_s: float) -> None:
        super().__init__(*launched)
        self._patience_s = patience_s

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            Observer(self.procs, self._patience_s).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


class PrivateDDP(DDPStrategy):
    """Ranks that listen on no more interfaces than they need, on one machine the loopback alone, and outlive a lost rank.

    By default NCCL ends the process if a rank is lost. Here it only gives up what the lost rank left undone: the host goes on
    with wrong sums, and the next collective raises RuntimeError. So one follows each sum, and comes before each checkpoint.

    Args:
        meeting: of the ranks; None for a process alone.
    """

    signs: SignsOfLife | None = None  # once the ranks have met

    def __init__(self, meeting: Meeting | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._meeting = meeting

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None and self._timeout is not None
        ranks = self.cluster_environment, self.num_processes, self.num_nodes
        self._launcher = PatientLauncher(*ranks, patience_s=self._timeout.total_seconds() + PARTING_S)

    def setup_distributed(self) -> None:
        if self.num_nodes == 1 and "lo" in [name for _, name in socket.if_nameindex()]:
            for library in ("GLOO", "NCCL"):  # their own connections; by default those of the host's name
                os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
        if self.root_device.type == "cuda":
            # CleanUpOnly, in ProcessGroupNCCL.hpp; torchrun has set another value.
            os.environ["TORCH_NCCL_ASYNC_ERROR_HANDLING"] = "2"
        assert self._meeting is not None and self._timeout is not None
        self.signs = SignsOfLife(self._meeting, self._timeout.total_seconds())
        super().setup_distributed()

    def reduce(self, *tensor: Any, **how: Any) -> Any:
        reduced = super().reduce(*tensor, **how)
        self._require_all()
        return reduced

    def save_checkpoint(self, *checkpoint: Any, **how: Any) -> None:
        self._require_all()
        super().save_checkpoint(*checkpoint, **how)

    def _require_all(self) -> None:
        if self.root_device.type == "cuda":
            self.barrier()
