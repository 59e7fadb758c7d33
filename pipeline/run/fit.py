"""The one way to train: `fit` makes or resumes the run that a configuration names."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, Strategy

from pipeline.config import Config
from pipeline.fast.allocator import keep_freed_memory
from pipeline.fast.batchnorm import CpuLayerSync
from pipeline.fast.choice import compiles
from pipeline.fast.compiled import compile_net
from pipeline.learn.input.module import ImageData
from pipeline.learn.models import build_model
from pipeline.learn.training.classifier import Classifier
from pipeline.learn.training.precision import float32_products, resolve, uses_cuda
from pipeline.progress import progress
from pipeline.run.attempt import Attempt, FitResult, attempt_on, finished, location_of, run_name, with_run_id
from pipeline.run.checkpoint import BEST, described, resumable, save_weights
from pipeline.run.checkpoint_io import AtomicCheckpointIO
from pipeline.run.identity import identify
from pipeline.run.ranks import rank
from pipeline.run.recorder import Recorder, Report, Validated
from pipeline.run.start import Start, freeze_backbone
from pipeline.run.stop import GracefulStop, Interrupted, ignore_sigterm
from pipeline.tracking import store as tracking

STEPS_PER_CALL = 25  # on a GPU; half of the default log_every_steps


class Stopped(Exception):  # noqa: N818 (a request, not an error)
    """Raised by a report callback: the scheduler wants no more of this training."""


def fit(
    config: Config,
    store: Path,
    *,
    tags: dict[str, str] | None = None,
    report: Report | None = None,
    strategy: Strategy | None = None,
    plugins: tuple[Any, ...] = (),
    track: bool = True,
) -> FitResult:
    """Trains to recipe.max_steps, from the run's last checkpoint where there is one; a finished run is returned as is.

    Every rank calls it. The run's folder is paths.runs/<key>; `pipeline.run.key` says what the key depends on.

    Args:
        store: folder that preprocess made.
        tags: for MLflow: lineage, the sweep it belongs to.
        report: called after each validation, on every rank, once the checkpoint is on disk; may raise `Stopped`.
        strategy, plugins: Lightning's, for ranks that another launcher (Ray) has made.
        track: whether the journal is shipped to MLflow.

    Raises:
        ValueError: bad configuration, a folder in use by another process, a diverged loss (`classifier.DivergedError`).
        stop.Interrupted: after a signal; call again to go on.
    """
    precision = resolve(config.recipe.precision, config.trainer.accelerator)
    location = location_of(config) if track else None
    run = identify(config, store, precision, location)
    key, folder, content_hash, start = run.key, run.folder, run.content_hash, run.start
    if (done := finished(folder, location)) is not None:
        return done
    keep_freed_memory()
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    data, seen = _data(config, store), start.seen if start is not None else ()
    metadata = {**described(config, content_hash, data.num_classes, data.in_channels, seen), "key": key}
    model = _net(config, metadata["model"], start)
    known = (folder, config, key, content_hash, precision, tags or {}, track)
    with float32_products(precision), attempt_on(*known) as attempt:
        recorder = Recorder(folder, key, metadata, attempt.journal, *_due(config)[:2], _told(attempt, report))
        trainer = _trainer(config, precision, folder, [recorder, GracefulStop(recorder.save_last)], strategy, plugins)
        checkpoint = resumable(folder, key)
        first_step = _step_of(checkpoint)
        compiled = _compiles(config, model, data, precision, config.recipe.max_steps - first_step)
        if compiled:
            compile_net(model)
            attempt.tag({tracking.COMPILED_TAG: "true"})
        steps_per_call, due = _steps_per_call(config), _due(config)
        share = config.start.backbone_lr
        classifier = Classifier(model, config.recipe, steps_per_call, due, compiled, config.seed, share)
        status = _run(trainer, classifier, data, recorder, checkpoint, first_step, run_name(config))
        if not data.has_validation:  # nothing to choose by: the last weights are the result
            recorder.best = {"step": trainer.global_step}
            if trainer.is_global_zero:
                save_weights(model, folder / BEST, {**metadata, **recorder.best})
        result = attempt.close(status, trainer.global_step, first_step, recorder.best, config.recipe.batch_size)
    return with_run_id(result, location)


def _told(attempt: Attempt, report: Report | None) -> Report:
    """`report`, after run.json has heard how far the training is: a kill loses no more than an epoch's seconds."""

    def told(validated: Validated) -> None:
        attempt.write("running", validated.step)
        if report is not None:
            report(validated)

    return told


def _data(config: Config, store: Path) -> ImageData:
    recipe, data = config.recipe, config.data
    images = (recipe.batch_size, recipe.augment, recipe.normalize)
    return ImageData(store, data.split, *images, config.seed, data.workers, data.num_train)


def _net(config: Config, architecture: dict[str, Any], start: Start | None) -> torch.nn.Module:
    torch.manual_seed(config.seed)
    model = build_model(**architecture)
    if start is not None:
        start.load_into(model, head=config.start.head == "kept")
        if config.start.backbone_lr == 0:
            freeze_backbone(model)
    return model.to(memory_format=torch.channels_last) if config.trainer.channels_last else model


def _run(
    trainer: pl.Trainer,
    classifier: Classifier,
    data: ImageData,
    recorder: Recorder,
    checkpoint: Path | None,
    first_step: int,
    name: str,
) -> str:
    """Status of the run: finished or stopped."""
    shown = progress(name, classifier.recipe.max_steps, "steps", first_step) if rank() == 0 else nullcontext()
    with shown as recorder.progress:
        try:
            trainer.fit(classifier, data, ckpt_path=checkpoint, weights_only=True)
        except Stopped:  # which may come with the last step
            return "finished" if trainer.global_step >= classifier.recipe.max_steps else "stopped"
        except Interrupted:
            ignore_sigterm()
            raise
        finally:
            classifier.release()
    if classifier.warming and rank() == 0:
        recipe = classifier.recipe
        print(
            f"{name}: the training error never fell below recipe.warmup_until_err={recipe.warmup_until_err}, so that the "
            f"learning rate stayed at recipe.warmup_lr={recipe.warmup_lr} to the end",
            file=sys.stderr,
        )
    return "finished"


def _compiles(config: Config, model: torch.nn.Module, data: ImageData, precision: str, steps: int) -> bool:
    """trainer.compile, or what auto comes to; ranks do not measure beside each other, so auto is false for several."""
    setting, ranks = config.trainer.compile, config.trainer.world_size
    if setting == "auto" and ranks > 1:
        return False
    device = torch.device("cuda" if uses_cuda(config.trainer.accelerator) else "cpu")
    side = config.recipe.augment.crop
    shape = (config.recipe.batch_size // ranks, data.in_channels, side, side)
    return compiles(setting, model, shape, precision, device, steps)


def _steps_per_call(config: Config) -> int:
    """trainer.steps_per_call, or what 0 comes to: a CPU's steps take much longer than Lightning's own work."""
    return config.trainer.steps_per_call or (STEPS_PER_CALL if uses_cuda(config.trainer.accelerator) else 1)


def _due(config: Config) -> tuple[int, int, int]:
    """Intervals, in steps, at which something beside training is done."""
    cycle = config.recipe.max_steps // config.recipe.cycles if config.recipe.cycles > 1 else 0
    return config.trainer.log_every_steps, config.trainer.checkpoint_every_steps, cycle


def _step_of(checkpoint: Path | None) -> int:
    return torch.load(checkpoint, "cpu", weights_only=True, mmap=True)["global_step"] if checkpoint else 0


def _trainer(
    config: Config,
    precision: str,
    folder: Path,
    callbacks: list[pl.Callback],
    strategy: Strategy | None,
    plugins: tuple[Any, ...],
) -> pl.Trainer:
    cuda, ranks = uses_cuda(config.trainer.accelerator), config.trainer.world_size
    sync = config.trainer.sync_batchnorm and ranks > 1
    layer_sync = (CpuLayerSync(),) if sync and not cuda else ()
    # Synchronised statistics are the same on all ranks; to send them round at each step would cost as much as a layer.
    ddp = DDPStrategy(gradient_as_bucket_view=True, broadcast_buffers=not sync)
    return pl.Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices="auto" if strategy is not None else config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        strategy=strategy or (ddp if ranks > 1 else "auto"),
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        max_steps=config.recipe.max_steps,
        max_epochs=-1,
        check_val_every_n_epoch=config.trainer.val_every_epochs,
        sync_batchnorm=sync and cuda,
        benchmark=cuda,  # cuDNN times its algorithms: shapes stay the same
        plugins=[AtomicCheckpointIO(), *layer_sync, *plugins],
        callbacks=callbacks,
        default_root_dir=folder,
        use_distributed_sampler=False,  # loaders take their rank's share themselves
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
