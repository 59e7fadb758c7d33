"""One training on trainer.devices x trainer.num_nodes Ray Train workers, wherever the cluster has room."""

from __future__ import annotations

import math
import os
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Config, TrainerConfig, from_dict
from pipeline.data.store import open_store
from pipeline.errors import PipelineError, first_line
from pipeline.learn.training.divergence import DivergedError
from pipeline.learn.training.precision import resolve
from pipeline.record import Net
from pipeline.run import LAST, Interrupted
from pipeline.run.attempt import is_part, make_whole
from pipeline.run.claim import TakenOver
from pipeline.run.cut_off import end_cut_off
from pipeline.run.run import Run, identify
from pipeline.run.shared import bring, held
from pipeline.storage.stores import put_store, store_at_hand
from pipeline.tracking.location import locate
from pipeline.tuning.cluster import check_precision, check_tracking, join, live_nodes, on_gpus, side_by_side
from pipeline.tuning.draining import Draining, is_lost

if TYPE_CHECKING:
    from pipeline.run.meeting import Meeting
    from pipeline.run.recorder import Validated


def fit_on_ray(
    config: Config,
    store: Path,
    tags: dict[str, str],
    on_finished: Callable[[Net], None] = lambda net: None,
    owner: str = "",
) -> Net:
    """`fit` with one Ray Train worker per rank, on the running Ray or on the cluster of cluster.address (RAY_ADDRESS).

    Each rank takes a CPU, or a GPU where the cluster has any and trainer.accelerator allows it. A worker that dies is
    retried cluster.max_failures times, one whose machine is lost or drained without end; the run resumes from its own last
    checkpoint, with trainer.elastic on as many workers as there are. Inside a trial each validation is reported to Ray Tune.

    Args:
        on_finished: called instead of training if the run was finished before.
        owner: whoever starts attempts at the run, as of `fit`.
    Raises:
        PipelineError: more ranks than the cluster has room for, runs that the nodes do not share, a diverged loss.
        stop.Interrupted: after a signal; call again to resume.
    """
    nested = not join(config)
    check_tracking(locate(config.tracking.uri, config.paths.mlruns))
    nodes = live_nodes()
    check_precision(config, nodes)
    side_by_side(config, nodes)
    gpus = on_gpus(config, nodes)
    # All ranks and the key use one precision, even if machines differ.
    config = replace(config, recipe=replace(config.recipe, precision=_precision(config, gpus)))
    run = identify(config, store, precision=config.recipe.precision)
    storage = config.cluster.storage
    if run.finished() is None:
        bring(run.folder, storage, without=(LAST,))
    if (done := run.finished()) is not None:
        if is_part(run, tags):
            with held(run.folder, storage, owner, math.inf) as claim:
                make_whole(run, claim)
        on_finished(done)
        return done
    work = {"config": config.to_dict(), "store": str(store.resolve()), "tags": tags}
    work["content_hash"] = run.manifest.content_hash
    put_store(storage, store)
    work["owner"] = owner or uuid.uuid4().hex  # Ray starts this training's attempts, one after another
    if diverged := _outcome(lambda: _trainer(run, work, gpus, nested), run):
        raise DivergedError(diverged)
    bring(run.folder, storage, without=(LAST,))
    net = run.finished()
    if net is None:
        raise PipelineError(
            f"run {run.key} finished on the Ray cluster and is not in {run.folder}; paths.runs must be a folder that all "
            "nodes share, or cluster.storage a store that they share"
        )
    return net


def _trainer(run: Run, work: dict[str, Any], gpus: bool, nested: bool) -> Any:
    """Ray Train's trainer; each rank calls `_rank(work)`. Inside a trial (`nested`) validations are passed on to Tune."""
    from ray import train
    from ray.train.torch import TorchConfig, TorchTrainer

    callbacks: list[Any] = []
    if nested:
        from ray.tune.integration.ray_train import TuneReportCallback

        callbacks = [TuneReportCallback()]
    return TorchTrainer(
        _rank,  # type: ignore[arg-type]
        train_loop_config=work,
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=math.ceil(run.config.trainer.timeout_s)),
        scaling_config=train.ScalingConfig(num_workers=_workers(run.config.trainer), use_gpu=gpus),  # type: ignore[arg-type]
        run_config=train.RunConfig(
            name=f"train-{run.key}",
            storage_path=_storage_path(run.config),
            failure_config=train.FailureConfig(max_failures=run.config.cluster.max_failures),
            callbacks=callbacks,
        ),
    )


def _storage_path(config: Config) -> str:
    """Where Ray Train keeps its own files, which all nodes must reach."""
    storage = config.cluster.storage.rstrip("/")
    return f"{storage}/ray" if storage else str(Path(config.paths.runs).resolve() / "ray")


def _workers(trainer: TrainerConfig) -> int | tuple[int, int]:
    """Their number, or the least and the most."""
    return (trainer.world_sizes[0], trainer.world_size) if trainer.elastic else trainer.world_size


def _outcome(trainer: Callable[[], Any], run: Run, failures: int = 0) -> str | None:
    """Trains. Returns why the loss diverged, or None."""
    from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError

    try:
        ended = trainer().fit().return_value
        if why := ended.get("drained"):  # no failure, so that it is not counted as one
            print(f"run {run.key}: {why}; it goes on on other machines", file=sys.stderr)
            return _outcome(trainer, run, failures)
        return ended.get("diverged")
    except ControllerError as error:
        # A rank was lost while the ranks started. Ray Train itself retries only some of the ways in which that shows.
        if failures == run.config.cluster.max_failures:
            raise
        reason = first_line(error.controller_failure)
        print(f"run {run.key}: the ranks did not start ({reason}); they start again", file=sys.stderr)
        return _outcome(trainer, run, failures + 1)
    except SystemExit:  # Ray Train ends like this after SIGINT, when it has killed its workers
        end_cut_off(run.folder, run.config.cluster.storage, run.location)
        raise Interrupted(f"run {run.key} was stopped; its last checkpoint is kept") from None
    except TrainingFailedError as error:
        # Ray Train has started the ranks again as often as cluster.max_failures allows, and counts lost machines, too.
        if any(is_lost(str(failure)) for failure in getattr(error, "worker_failures", {}).values()):
            print(f"run {run.key}: the machine of a rank was lost; it goes on on other machines", file=sys.stderr)
            return _outcome(trainer, run, failures)
        for failure in getattr(error, "worker_failures", {}).values():
            if isinstance(cause := getattr(failure, "_base_exc", failure), PipelineError):
                raise PipelineError(str(cause)) from None
        raise


def _precision(config: Config, gpus: bool) -> Any:
    """What recipe.precision resolves to on a rank's hardware, which may differ from this process's."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    # Outside the trial's own resources. None is documented, though not typed.
    anywhere = PlacementGroupSchedulingStrategy(placement_group=None)  # type: ignore[arg-type]
    task = ray.remote(num_cpus=0 if gpus else 1, num_gpus=int(gpus), scheduling_strategy=anywhere)(resolve)
    return ray.get(task.remote(config.recipe.precision, config.trainer.accelerator))


def epoch_steps(config: Config, store: Path) -> int:
    """Steps of an epoch, with which reports count epochs."""
    train, _ = open_store(store).split_indices(config.data.split, config.data.num_train)
    return len(train) // config.recipe.batch_size


def reported(validated: Validated, epoch_steps: int) -> dict[str, Any]:
    """What is reported to Ray Tune after a validation."""
    epoch, best = -(-validated.step // epoch_steps), validated.best["val/err1"]
    steps = {"from_step": validated.first_step, "step": validated.step}
    return {"epoch": epoch, **steps, "key": validated.key, "best/err1": best, **validated.metrics}


def _rank(work: dict[str, Any]) -> dict[str, str]:
    """Trains as one rank, inside a Ray Train worker.

    Returns:
        "diverged": why the loss diverged, or "drained": why the ranks left before the end; both would be retried as failures
        of the ranks if they were exceptions. Empty after the last step.
    """
    from ray import train
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    # Here, since the process that only waits for the ranks imports this module too, and Lightning takes seconds.
    from pipeline.run.fit import fit
    from pipeline.run.launch import Launched, set_rank
    from pipeline.run.meeting import SilentRanks
    from pipeline.run.silent import SignsOfLife

    set_rank(train.get_context().get_world_rank())
    config, meeting = from_dict(work["config"]), _meeting()
    # A machine may take minutes to get its data and to hash them. In a collective, others would wait for trainer.timeout_s.
    signs = SignsOfLife(meeting, config.trainer.timeout_s)
    store = store_at_hand(Path(work["store"]), config.cluster.storage, work["content_hash"], Path(config.paths.runs))
    open_store(store).train()
    signs.wait_for_all()
    if not config.data.workers:  # of the cores that this machine's ranks share
        sharing = train.get_context().get_local_world_size()
        config = replace(config, data=replace(config.data, workers=max(1, config.data.decoders // sharing)))
    if config.trainer.elastic:
        there = replace(config.trainer, devices=1, num_nodes=train.get_context().get_world_size())
        config = replace(config, trainer=there)
    steps, draining = epoch_steps(config, store), Draining()
    ddp = RayDDPStrategy(gradient_as_bucket_view=True, broadcast_buffers=not config.trainer.sync_batchnorm)
    try:
        fit(
            config,
            store,
            tags=work["tags"],
            report=lambda validated: train.report(reported(validated, steps)),
            asked=draining,
            launched=Launched(ddp, (RayLightningEnvironment(),), meeting),  # `ddp` as `fit` makes its own
            owner=work["owner"],
        )
    except (SilentRanks, TakenOver):  # failures, after which Ray Train starts the ranks again
        raise
    except DivergedError as error:  # on all ranks
        return {"diverged": str(error)}
    except Interrupted as error:  # on all ranks, whichever's machine is drained; signals do not reach Ray's workers
        return {"drained": f"{draining.why or 'the machine of another rank is drained'}; {error}"}
    return {}


def _meeting() -> Meeting:
    """Where Ray Train has let torch's process group meet."""
    from ray import train

    from pipeline.run.meeting import Meeting

    context = train.get_context()
    at, ranks = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), context.get_world_size()
    return Meeting(*at, context.get_world_rank(), ranks, started=range(1, ranks), serve=False)
