"""The one way to train: `fit` makes or resumes the run that a configuration names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from pipeline.config import Config
from pipeline.config.training import NEVER
from pipeline.data.store import open_store
from pipeline.errors import PipelineError
from pipeline.fast.allocator import keep_freed_memory
from pipeline.fast.batchnorm import CpuLayerSync
from pipeline.fast.compiled import compile_net, compiles
from pipeline.learn.input.module import ImageData
from pipeline.learn.models import build_model
from pipeline.learn.tasks import task_of
from pipeline.learn.training.module import Calls, TrainingModule
from pipeline.learn.training.optimisers import freeze_backbone
from pipeline.learn.training.precision import float32_products, uses_cuda
from pipeline.progress import progress
from pipeline.record import Net
from pipeline.run import Interrupted
from pipeline.run.attempt import Attempt
from pipeline.run.begin import Beginning, begun
from pipeline.run.checkpoint_io import AtomicCheckpointIO
from pipeline.run.growth import Growth
from pipeline.run.inputs import input_of
from pipeline.run.launch import Launched, launch, present, rank
from pipeline.run.meeting import SilentRanks
from pipeline.run.recorder import Recorder, Report
from pipeline.run.run import Run
from pipeline.run.signals import ignore_termination
from pipeline.run.silent import of_a_collective
from pipeline.run.stop import GracefulStop
from pipeline.run.strategy import PrivateDDP
from pipeline.run.targets import blamed, callbacks_of, loggers_of
from pipeline.tracking.location import COMPILED_TAG

STEPS_PER_CALL = 25  # on a GPU; a CPU's steps take much longer than Lightning's own work between two calls


class Stopped(Exception):  # noqa: N818 (a request, not an error)
    """Raised by a report callback when the sweep's scheduler ends this training."""


def fit(
    config: Config,
    store: Path,
    *,
    tags: dict[str, str] | None = None,
    report: Report | None = None,
    asked: Callable[[], bool] = lambda: False,
    launched: Launched | None = None,
    owner: str = "",
    track: bool = True,
    watch: Sequence[pl.Callback] = (),
) -> Net:
    """Trains to recipe.max_steps, or as long as recipe.stop_patience lets it, from the run's last checkpoint if there is one; returns a finished run as it is.

    Every rank calls it. The run's folder is paths.runs/<key>, see `pipeline.run.key`; other ranks than zero need not see it,
    and get their first weights and their checkpoint from rank zero.

    Args:
        store: folder that preprocess made.
        tags: for MLflow: lineage, the sweep that the run belongs to.
        report: called after each validation, on every rank, once the checkpoint is on disk; may raise `Stopped`.
        asked: whether the training is to stop as after a signal; called at each step.
        launched: the ranks, if another launcher (Ray) has made them.
        owner: whoever starts attempts at runs, a sweep for example; see `claim.claimed`. With one, an attempt of another
            owner is waited for; without, it is refused while it lives.
        track: whether the journal is shipped to MLflow.
        watch: callbacks beside those of trainer.callbacks, which leave the weights alone.
    Returns:
        The net's record; `complete` is false if `report` stopped the training.
    Raises:
        PipelineError: bad configuration, a folder in use by another process, a diverged loss (`divergence.DivergedError`).
        stop.Interrupted: after a signal, or because `asked`; the next call goes on from there.
    """
    config = replace(config, trainer=present(config.trainer))
    ranks = launched or launch(config.trainer)
    with begun(config, store, ranks, tags=tags or {}, asked=asked, owner=owner, track=track) as beginning:
        if beginning.finished is not None:
            return beginning.finished
        keep_freed_memory()
        if config.trainer.threads:
            torch.set_num_threads(config.trainer.threads)
            if config.trainer.world_size > 1:  # or Lightning divides the machine's cores among its ranks
                os.environ["OMP_NUM_THREADS"] = str(config.trainer.threads)
        run = beginning.run
        with float32_products(run.precision), blamed(config):
            net = _trained(store, beginning, report, asked, ranks, watch)
    return run.tracked(net)  # the shipper has ended, so MLflow's id is there


def decoders(config: Config) -> int:
    """Threads of a rank that decode images. Slurm gives each rank cores of its own; other ranks share their machine's."""
    sharing = 1 if config.trainer.launcher == "slurm" else config.trainer.devices
    return config.data.workers or max(1, config.data.decoders // sharing)


def _trained(
    store: Path,
    beginning: Beginning,
    report: Report | None,
    asked: Callable[[], bool],
    ranks: Launched,
    watch: Sequence[pl.Callback],
) -> Net:
    run, attempt, config = beginning.run, beginning.attempt, beginning.run.config
    task, facts = task_of(config.model), config.data
    data = ImageData(store, facts.split, config.recipe, config.seed, decoders(config), facts.num_train, task)
    model = _initial(run)
    input = input_of(open_store(store), run.net)
    recorder = Recorder(attempt, run.net, Growth(model), input, report)
    # The recorder saves after the configuration's own callbacks have done their work.
    callbacks = [*callbacks_of(config), *watch, recorder, GracefulStop(recorder.save_last, asked)]
    trainer = _trainer(attempt, callbacks, ranks)
    attempt.step = attempt.first_step = beginning.step
    module = _training(beginning, model)
    complete = _train(trainer, module, data, recorder, beginning)
    ended = module.ended
    if complete and not ended and trainer.global_step < config.recipe.max_steps:
        ended = "a callback of trainer.callbacks stopped it"
    return attempt.close(recorder.result(complete, ended), input)


def _initial(run: Run) -> torch.nn.Module:
    """The net with its first weights: drawn from the seed, or those of start.weights."""
    config, manifest = run.config, run.manifest
    torch.manual_seed(config.seed)

    def start(net: torch.nn.Module) -> None:
        if run.start is not None:  # on rank zero; DDP gives the others its weights
            run.start.load_into(net, head=config.start.head == "kept")

    model = build_model(config.model, len(manifest.classes), manifest.channels, config.recipe.rois, start)
    if config.start.weights and config.start.backbone_lr == 0:
        freeze_backbone(model)
    return model.to(memory_format=torch.channels_last) if config.trainer.channels_last else model


def _training(beginning: Beginning, model: torch.nn.Module) -> TrainingModule:
    """The module to train, its net compiled if trainer.compile says so."""
    config = beginning.run.config
    compiled = _compiles(beginning, model)
    if compiled:
        compile_net(model)
        beginning.attempt.tag({COMPILED_TAG: "true"})
    training = task_of(config.model).training()
    return training(model, config.recipe, _calls(config, compiled), config.seed, config.start.backbone_lr)


def _compiles(beginning: Beginning, model: torch.nn.Module) -> bool:
    """What trainer.compile comes to. auto is false for detectors, whose shapes vary, and for several ranks, which would disturb
    each other's timings."""
    run = beginning.run
    trainer, recipe = run.config.trainer, run.config.recipe
    if run.config.model.detects or (trainer.compile == "auto" and trainer.world_size > 1):
        return False
    shape = (recipe.part_size // trainer.world_size, run.manifest.channels, recipe.augment.crop, recipe.augment.crop)
    device = torch.device("cuda" if uses_cuda(trainer.accelerator) else "cpu")
    steps = recipe.max_steps - beginning.step
    return compiles(trainer.compile, model, shape, run.precision, device, steps, beginning.compiled)


def _calls(config: Config, compiled: bool) -> Calls:
    trainer, recipe = config.trainer, config.recipe
    several = uses_cuda(trainer.accelerator) and not trainer.callbacks  # which may act between any two steps
    return Calls(
        steps=trainer.steps_per_call or (STEPS_PER_CALL if several else 1),
        due=(trainer.log_every_steps, trainer.checkpoint_every_steps, recipe.cycle_steps),
        compiled=compiled,
        graphs=trainer.cuda_graphs and not trainer.callbacks,
    )


def _train(
    trainer: pl.Trainer, module: TrainingModule, data: ImageData, recorder: Recorder, beginning: Beginning
) -> bool:
    """Whether the training came to its end; false if a report stopped it."""
    recipe, name = module.recipe, recorder.run_name
    bar = progress(name, recipe.max_steps, "steps", beginning.step) if rank() == 0 else nullcontext()
    with bar as recorder.progress:
        try:
            trainer.fit(module, data, ckpt_path=beginning.checkpoint, weights_only=True)
        except Stopped:  # which may come with the last step
            return trainer.global_step >= recipe.max_steps or bool(module.ended)
        except Interrupted:
            ignore_termination()
            raise
        except RuntimeError as error:
            _raise_if_silent(trainer.strategy, error)
            raise
        finally:
            module.release()
            if (signs := getattr(trainer.strategy, "signs", None)) is not None:
                signs.end()
    if not data.has_validation:  # no errors to choose by: the last weights are the result
        recorder.save_best(module, trainer.global_step, {})
    if not recorder.best:
        remedy = "validate each epoch (override: trainer.val_every_epochs=1), or stop it later"
        if beginning.run.config.trainer.val_every_epochs == NEVER:  # in a population, whatever is given
            remedy = "leave it out (override: trainer.callbacks=[])"
        raise PipelineError(
            f"{name}: a callback of trainer.callbacks stopped it after step {trainer.global_step}, before its first validation, "
            f"so that no weights can be chosen; {remedy}"
        )
    if module.ended and rank() == 0:
        print(f"{name}: ended at step {trainer.global_step} of {recipe.max_steps}, {module.ended}", file=sys.stderr)
    if module.warming and rank() == 0:
        print(
            f"{name}: the training error never fell below recipe.warmup_until_err={recipe.warmup_until_err}, so the "
            f"learning rate stayed at recipe.warmup_lr={recipe.warmup_lr} to the end",
            file=sys.stderr,
        )
    return True


def _raise_if_silent(strategy: Any, error: RuntimeError) -> None:
    """Raises SilentRanks where a collective failed since other ranks ended, stopped or cannot be reached."""
    signs = getattr(strategy, "signs", None)  # Ray sees to its own ranks
    if signs is not None and of_a_collective(error) and (silent := signs.silent()):
        ignore_termination()
        raise SilentRanks(f"{silent} fell silent (trainer.timeout_s={strategy._timeout.total_seconds():g})") from error


def _trainer(attempt: Attempt, callbacks: list[pl.Callback], launched: Launched) -> pl.Trainer:
    run = attempt.run
    trainer = run.config.trainer
    cuda, ranks = uses_cuda(trainer.accelerator), trainer.world_size
    frozen = run.config.model.detects  # batch norm then has nothing to share
    sync = trainer.sync_batchnorm and ranks > 1 and not frozen
    layer_sync = (CpuLayerSync(),) if sync and not cuda else ()
    # Synchronised statistics are the same on all ranks; broadcasting them at each step would cost as much as a layer.
    timeout = timedelta(seconds=trainer.timeout_s)
    ddp = PrivateDDP(
        launched.meeting, gradient_as_bucket_view=True, broadcast_buffers=not (sync or frozen), timeout=timeout
    )
    return pl.Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices="auto" if launched.strategy else trainer.devices,
        num_nodes=trainer.num_nodes,
        strategy=launched.strategy or (ddp if ranks > 1 else "auto"),
        precision="bf16-mixed" if run.precision == "bf16" else "32-true",
        max_steps=run.config.recipe.max_steps,
        max_epochs=-1,
        check_val_every_n_epoch=trainer.val_every_epochs,
        sync_batchnorm=sync and cuda,
        benchmark=cuda and not frozen,  # cuDNN times its algorithms for each new shape, of which detectors have many
        plugins=[AtomicCheckpointIO(attempt.require), *layer_sync, *launched.plugins],
        callbacks=callbacks,
        default_root_dir=run.folder,
        use_distributed_sampler=False,  # loaders take their rank's share themselves
        num_sanity_val_steps=0,
        logger=loggers_of(run.config, str(run.folder)) or False,
        log_every_n_steps=trainer.log_every_steps,  # of callbacks that log
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
