"""Use of this machine's processors, memory, disk, network and GPUs, sampled into a run's journal.

MLflow's own monitor sends its samples itself, and ends at the first call that fails. The journal keeps them all. Names are
those that MLflow's page of system metrics shows.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from pipeline.tracking.journal import Journal

log = logging.getLogger(__name__)

PREFIX = "system/"


class SystemMetrics:
    """Takes a sample every `every_s` seconds from `start` to `close`; a step is the number of a sample.

    A resumed run goes on with the next number. Each sample is a mean since the one before it, or the state at its time.
    """

    def __init__(self, journal: Journal, every_s: float) -> None:
        self._journal, self._every_s = journal, every_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Imports MLflow, for its means to collect; does nothing from the second call on."""
        if self._thread is None:
            monitors = _monitors()
            self._thread = threading.Thread(target=self._sample, args=(monitors,), name="system-metrics", daemon=True)
            self._thread.start()

    def close(self, patience_s: float = 5.0) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(patience_s)

    def _sample(self, monitors: list[Any]) -> None:
        _collect(monitors)  # means of the first sample begin here
        step = self._journal.last_step(PREFIX)
        try:
            while not self._stop.wait(self._every_s):
                step += 1
                self._journal.metrics(step, _collect(monitors))
        except Exception as error:  # a training does without its samples, and meets a full disk itself
            log.warning("%s gets no more system metrics (%s)", self._journal.path.parent.name, error)


def _monitors() -> list[Any]:
    """MLflow's monitors of what this machine has. Those of GPUs need pynvml (NVIDIA) or pyrsmi (AMD)."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    monitors = []
    for kind in (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor, ROCMMonitor):
        try:
            monitors.append(kind())
        except Exception as error:  # of many kinds, for want of a package, a driver or a network
            log.debug("no %s (%s)", kind.__name__, error)
    return monitors


def _collect(monitors: list[Any]) -> dict[str, float]:
    sample: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        sample |= {f"{PREFIX}{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
        monitor.clear_metrics()
    return sample
