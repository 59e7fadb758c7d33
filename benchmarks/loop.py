"""What `fit` adds to a step: batches, metrics, journal and Lightning around a net that costs next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from benchmarks import rates
from benchmarks.bench import Bench
from benchmarks.configs import changed, paper_config
from benchmarks.harness import Measured, Row
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.run.fit import STEPS_PER_CALL

STEPS_A_SECOND = 200  # fewer than any machine makes of such steps


def section(bench: Bench, batch_size: int = 8) -> list[Measured]:
    """Microseconds a step, at one step a call by Lightning and at several: the difference is Lightning's own work."""
    most = len(bench.store.split_indices("full")[0]) // batch_size  # no end of an epoch is timed
    steps = min(most, max(10, int(STEPS_A_SECOND * bench.effort.seconds)))
    config = changed(
        paper_config(bench.store, bench.folder("loop")),
        recipe={"batch_size": batch_size, "precision": "fp32", "max_steps": steps},
        trainer={"compile": False, "log_every_steps": max(1, min(50, steps // rates.WARM_UP))},
    )
    with net_of_nothing():
        rows = [loop_row(config, bench.store, bench.device, per_call) for per_call in (1, STEPS_PER_CALL)]
        return [bench.measure(row) for row in rows]


def loop_row(config: Config, store: Store, device: torch.device, per_call: int) -> Row:
    config = changed(config, trainer={"steps_per_call": per_call})
    return Row(
        name=f"a step of next to no arithmetic, {per_call} a call, against the bare loop",
        unit="us",
        bar=None,
        judged="excess <=",
        ours=lambda: 1e6 / rates.fit_rate(config, store.path),
        reference=lambda: 1e6 / rates.bare_rate(config, store, device),
    )


@contextmanager
def net_of_nothing() -> Iterator[None]:
    """Nets built within the block are one linear layer over the channels' means."""

    def build(in_channels: int, num_classes: int, **_: Any) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))

    with patch("pipeline.run.fit.build_model", build), patch("benchmarks.rates.build_model", build):
        yield
