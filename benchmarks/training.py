"""Training through `fit` against bare loops and the public recipe; the cost of the loop around a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch import nn

from benchmarks import rates
from benchmarks.commands import run, workspace
from benchmarks.harness import Bench, Measured, Row
from benchmarks.synthetic import changed, paper_config
from pipeline.config import Config, ModelConfig
from pipeline.data.store import Store
from pipeline.fast.compiled import compiles
from pipeline.learn.training.precision import resolve
from pipeline.run.fit import STEPS_PER_CALL

KEPT = 0.95  # share of the bare loop's speed that the pipeline must keep
KEPT_BY_RANKS = 0.7  # share of one process's speed that two ranks must keep
TIMES_COMMON = 2.4  # how much faster than the common recipe it must be on two cores with AMX
STEPS_A_SECOND = 200  # any machine makes more steps of a net that costs nothing


def step_rates(bench: Bench, batch_size: int = 128) -> list[Measured]:
    """Step rates by net, the common recipe, and the loader's own speed."""
    first, *deeper = (_plain(bench, depth, batch_size) for depth in bench.effort.depths)
    rows = [step_row(first, bench.store, bench.device)]
    fastest = _fastest(first, bench)
    if fastest.trainer.compile:
        rows.append(step_row(fastest, bench.store, bench.device))
    rows += [step_row(config, bench.store, bench.device) for config in deeper]
    rows += [common_row(fastest, bench), batch_row(first, bench)]
    return [bench.measure(row) for row in rows]


def _plain(bench: Bench, depth: int, batch_size: int) -> Config:
    """Without compilation: auto would compile long trainings and not short ones."""
    config = paper_config(bench.store, bench.folder(f"runs-{depth}"), depth)
    config = changed(config, recipe={"batch_size": batch_size}, trainer={"compile": False})
    return rates.lasting(config, bench.store, bench.device, bench.effort.seconds)


def _fastest(config: Config, bench: Bench) -> Config:
    """`config` as trainer.compile=auto would run the paper's 64k steps of it."""
    net, store = rates.new_net(config, bench.store), bench.store
    precision = resolve(config.recipe.precision, config.trainer.accelerator)
    shape = (config.recipe.batch_size, store.manifest.channels, store.manifest.height, store.manifest.width)
    steps = paper_config(store, bench.work).recipe.max_steps
    chosen = bench.effort.compiled and compiles("auto", net, shape, precision, bench.device, steps)
    return changed(config, trainer={"compile": chosen})


def step_row(config: Config, store: Store, device: torch.device) -> Row:
    """Training through `fit` against the bare loop, both as `config` says."""
    side, batch = f"{store.manifest.height}x{store.manifest.width}", config.recipe.batch_size
    return Row(
        name=f"training step rate, {title(config)}, {side}, batch {batch}",
        unit="steps/s",
        bar=KEPT,
        ours=lambda: rates.fit_rate(config, store),
        reference=lambda: rates.bare_rate(config, store, device),
    )


def common_row(config: Config, bench: Bench) -> Row:
    return Row(
        name=f"training step rate, {title(config)}, against torchvision, PIL and fp32",
        unit="steps/s",
        bar=TIMES_COMMON if bench.device.type == "cpu" else None,
        ours=lambda: rates.fit_rate(config, bench.store),
        reference=lambda: rates.common_rate(config, bench.store),
    )


def batch_row(config: Config, bench: Bench) -> Row:
    store, device = bench.store, bench.device
    return Row(
        name="augmentation and batching alone, against the bare step",
        unit="images/s",
        bar=None,
        ours=lambda: rates.batch_rate(config, store, device, bench.effort.batches),
        reference=lambda: rates.bare_rate(config, store, device) * config.recipe.batch_size,
    )


def title(config: Config) -> str:
    """For example ResNet-20, or ResNet-20 compiled."""
    return config.model.name + (" compiled" if config.trainer.compile is True else "")


def loop_cost(bench: Bench, batch_size: int = 8) -> list[Measured]:
    """Microseconds a step, at one step a call by Lightning and at several: the difference is Lightning's own work."""
    most = len(bench.store.split_indices("full")[0]) // batch_size  # times no end of an epoch
    config = changed(
        paper_config(bench.store, bench.folder("loop")),
        recipe={"batch_size": batch_size, "precision": "fp32"},
        trainer={"compile": False},
    )
    config = rates.of_steps(config, min(most, max(10, int(STEPS_A_SECOND * bench.effort.seconds))))
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
        ours=lambda: 1e6 / rates.fit_rate(config, store),
        reference=lambda: 1e6 / rates.bare_rate(config, store, device),
    )


@contextmanager
def net_of_nothing() -> Iterator[None]:
    """Nets built within the block are one linear layer over the channels' means."""

    def build(_: ModelConfig, num_classes: int, in_channels: int, *others: object) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))

    with patch("pipeline.run.fit.build_model", build), patch("benchmarks.rates.build_model", build):
        yield


def ranks(bench: Bench, depth: int = 20, batch_size: int = 128, steps: int | None = None) -> list[Measured]:
    """Two one-thread ranks against one process of two threads, the same global batch, on the CPU."""
    config = paper_config(bench.store, bench.folder("ranks"), depth)
    config = changed(config, recipe={"batch_size": batch_size}, trainer={"accelerator": "cpu", "compile": False})
    if steps is None:
        config = rates.lasting(config, bench.store, torch.device("cpu"), bench.effort.seconds)
    else:
        config = rates.of_steps(config, steps)
    row = Row(
        name=f"two one-thread ranks against two threads, {title(config)}, batch {batch_size}",
        unit="steps/s",
        bar=KEPT_BY_RANKS,
        ours=lambda: command_rate(bench.work / "ranks", config, bench.store, "trainer.devices=2", "trainer.threads=1"),
        reference=lambda: command_rate(bench.work / "ranks", config, bench.store, "trainer.threads=2"),
        pairs=max(1, bench.effort.pairs // 2),
    )
    return [bench.measure(row)]


def command_rate(root: Path, config: Config, store: Store, *overrides: str) -> float:
    """Steps a second of `pipeline train` in a process of its own, which starts its other ranks; start-up is not in it.

    Args:
        root: a folder for workspaces.
        config: of CIFAR's kind; its depth, batch size, steps and way to run are taken.
    """
    recipe, trainer = config.recipe, config.trainer
    with TemporaryDirectory(dir=root) as folder:
        run(
            workspace(Path(folder), "cifar10", store.path),
            *("pipeline", "train", "data=cifar10", "recipe=cifar_paper", "recipe.milestones=[]", "data.split=full"),
            *(f"model.depth={config.model.depth}", f"recipe.batch_size={recipe.batch_size}"),
            *(f"recipe.max_steps={recipe.max_steps}", f"trainer.log_every_steps={trainer.log_every_steps}"),
            *(f"trainer.accelerator={trainer.accelerator}", "trainer.compile=false", *overrides),
            "tracking.system_metrics_every_s=0",
        )
        return rates.journal_rate(Path(folder) / "runs")
