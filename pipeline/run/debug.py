"""trainer.debug: a short training that shows whether and how a configuration trains, and keeps no run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
from torch.profiler import ProfilerActivity, profile

from pipeline.atomic import replacing
from pipeline.config import Config, SweepConfig
from pipeline.data.facts import num_training
from pipeline.data.store import Manifest, open_store
from pipeline.errors import PipelineError
from pipeline.learn.training.counts import Counts, Errors
from pipeline.learn.training.module import TrainingModule
from pipeline.run.fit import fit
from pipeline.run.launch import rank
from pipeline.run.run import run_name
from pipeline.run.sources import RUN

BATCHES = 5  # of an epoch of fast
HEART_STEPS, HEART_CHECK = 400, 10  # steps of overfit at most, and between its looks at the error
WARM_STEPS, PROFILED_STEPS = 10, 20  # of profile
ROWS = 15  # of its table


def debug(config: Config, store: Path, trace: Path) -> None:
    """What trainer.debug names; prints what came of it.

    fast makes two epochs of `BATCHES` batches, each with validation and checkpoint. overfit trains on one batch, without
    augmentation and decay, until the net knows it by heart. profile times operations and writes them as a trace.

    Args:
        store: folder that preprocess made.
        trace: file that profile writes, for chrome://tracing or Perfetto.
    Raises:
        PipelineError: as `fit`; launcher=ray or start.checkpoint; and overfit, if the net still errs at its last step.
    """
    mode = config.trainer.debug
    if config.trainer.launcher == "ray":
        raise PipelineError(
            f"trainer.debug={mode} with trainer.launcher=ray; debug on one machine (override: trainer.launcher=lightning)"
        )
    if config.start.checkpoint:  # whose recipe a debug training does not have
        raise PipelineError(
            f"trainer.debug={mode} with start.checkpoint={config.start.checkpoint}; a debug training begins at step 0 "
            "(override: start.checkpoint='')"
        )
    with TemporaryDirectory(prefix="pipeline-debug-") as runs:
        trainer = replace(config.trainer, debug="", log_every_steps=HEART_CHECK, checkpoint_every_steps=0)
        _link(config, Path(runs))
        # No sweep's rules for numbers of steps hold here, and no other machine is to find the run.
        alone = replace(
            config,
            trainer=trainer,
            paths=replace(config.paths, runs=runs),
            cluster=replace(config.cluster, storage=""),
            sweep=SweepConfig(space={"seed": [0]}),
        )
        _MODES[mode](alone, store, trace)


def _fast(config: Config, store: Path, trace: Path) -> None:
    manifest, batch = open_store(store).manifest, config.recipe.batch_size
    few = _few(manifest, config.data.split, BATCHES * batch)
    images = few or num_training(manifest, config.data.split)
    steps = 2 * max(1, images // batch)
    recipe = replace(config.recipe, **_constant(steps))
    trainer = replace(config.trainer, val_every_epochs=1)
    net = fit(_with(config, recipe, config.data.split, few, trainer=trainer), store, track=False)
    shown = "" if net.val_err1 is None else f", validation {net.model.score(net.val_err1)}"
    _print(f"{run_name(config)}: {net.steps} steps went through{shown}; no run was kept")


def _overfit(config: Config, store: Path, trace: Path) -> None:
    manifest = open_store(store).manifest
    wanted = max(config.recipe.batch_size, len(manifest.classes))
    few = _few(manifest, "full", wanted)
    still: dict[str, Any] = {
        "flip": False,
        "pca_std": 0.0,
        "trivial_augment": False,
        "erasing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
    }
    augment = config.recipe.augment
    if augment.kind == "pad_crop":
        still["padding"] = 0
    else:
        still |= {"kind": "scale_jitter", "min_side": augment.crop, "max_side": augment.crop}
    recipe = replace(
        config.recipe,
        **_constant(HEART_STEPS),
        small_side=0,
        small_fraction=0.0,
        ema=0.0,
        weight_decay=0.0,
        label_smoothing=0.0,
        augment=replace(augment, **still),
    )
    watch = _ByHeart()
    fit(_with(config, recipe, "full", few), store, track=False, watch=[watch])
    name, images = run_name(config), few or num_training(manifest, "full")
    if watch.error:
        raise PipelineError(
            f"{name}: after {watch.step} steps on the same {images} images it still errs on {100 * watch.error:.1f} % of them; a net "
            "that can learn knows a batch by heart by then, so look at labels, normalisation and recipe.lr"
        )
    _print(f"{name}: knows {images} images by heart after {watch.step} steps; no run was kept")


def _profile(config: Config, store: Path, trace: Path) -> None:
    recipe = replace(config.recipe, **_constant(WARM_STEPS + PROFILED_STEPS))
    watch = _Profile(trace)
    fit(_with(config, recipe, "full", config.data.num_train), store, track=False, watch=[watch])
    _print(
        f"{run_name(config)}: {watch.steps} steps; {trace} opens in chrome://tracing and ui.perfetto.dev\n{watch.table}"
    )


_MODES: dict[str, Callable[[Config, Path, Path], None]] = {"fast": _fast, "overfit": _overfit, "profile": _profile}


def _link(config: Config, runs: Path) -> None:
    """Makes `runs` hold the runs that start.weights names, which are searched beside the training's own."""
    given = config.start.weights
    for key in given.removeprefix(RUN).split(",") if given.startswith(RUN) else ():
        run = Path(config.paths.runs).absolute() / key
        if key == run.name and run.is_dir() and not (runs / key).exists():
            (runs / key).symlink_to(run)


def _constant(steps: int) -> dict[str, Any]:
    """Keys of a recipe of `steps` steps at the rate recipe.lr, none of which ends it early."""
    return {
        "max_steps": steps,
        "schedule": "multistep",
        "milestones": [],
        "cycles": 1,
        "warmup_fraction": 0.0,
        "plateau_patience": 0,
        "plateau_margin": 0.0,
        "stop_patience": 0,
    }


def _with(config: Config, recipe: Any, split: str, num_train: int, **sections: Any) -> Config:
    data = replace(config.data, split=split, num_train=num_train)  # type: ignore[arg-type]
    return replace(config, recipe=recipe, data=data, **sections)


def _few(manifest: Manifest, split: str, wanted: int) -> int:
    """data.num_train for `wanted` images, one of each class at least; 0, for all, where there are not so many."""
    classes = len(manifest.classes)
    wanted = max(wanted, classes)
    return wanted if wanted <= num_training(manifest, split) - classes else 0


def _print(text: str) -> None:
    if rank() == 0:
        print(text)


class _ByHeart(pl.Callback):
    """Ends a training when no image of the last `HEART_CHECK` steps was an error."""

    def __init__(self) -> None:
        self.step, self.error = 0, 1.0
        self._before: Counts = Errors()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: TrainingModule, *_: Any) -> None:  # type: ignore[override]
        if trainer.global_step - self.step < HEART_CHECK:
            return
        counts = pl_module.counts()
        self.step, self.error = trainer.global_step, counts.since(self._before)["train/err1"]
        self._before = counts
        if self.error == 0:
            trainer.should_stop = True


class _Profile(pl.Callback):
    """Records the steps after the first `WARM_STEPS`, on rank zero."""

    def __init__(self, trace: Path) -> None:
        self.steps, self.table = 0, ""
        self._trace, self._first = trace, 0
        self._profile: profile | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: TrainingModule, *_: Any) -> None:  # type: ignore[override]
        if self._profile is None and trainer.global_step >= WARM_STEPS and trainer.is_global_zero:
            cuda = [ProfilerActivity.CUDA] if pl_module.device.type == "cuda" else []
            self._profile, self._first = profile(activities=[ProfilerActivity.CPU, *cuda]), trainer.global_step
            self._profile.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._profile is None:
            return
        self._profile.stop()
        self.steps = trainer.global_step - self._first
        by = "self_cuda_time_total" if pl_module.device.type == "cuda" else "self_cpu_time_total"
        self.table = self._profile.key_averages().table(sort_by=by, row_limit=ROWS, max_name_column_width=40)
        with replacing(self._trace) as part:
            self._profile.export_chrome_trace(str(part))
