"""How ranks come about: in this process, by Lightning, torchrun or Slurm, or as Ray actors on a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.config import Config, from_dict
from pipeline.training.attempt import FitResult
from pipeline.training.fit import fit
from pipeline.training.ranks import set_rank
from pipeline.training.recorder import Report


def launch(config: Config, store: Path, tags: dict[str, str], report: Report | None = None) -> FitResult:
    """`fit` on trainer.devices x trainer.num_nodes ranks; trainer.launcher says who makes them.

    auto leaves it to Lightning: ranks that torchrun or Slurm started are used, else subprocesses are made.
    ray makes one actor a rank on the running Ray cluster (RAY_ADDRESS or sweep.address), wherever it has room.
    """
    if config.trainer.launcher == "ray":
        return _on_ray(config, store, tags, report)
    if "RANK" not in os.environ and "NODE_RANK" in os.environ:
        # Lightning counts machines when it builds its Trainer; until then it takes each one's first rank for zero.
        first = int(os.environ["NODE_RANK"]) * config.trainer.devices
        set_rank(first + int(os.environ.get("LOCAL_RANK", "0")))
    return fit(config, store, tags=tags, report=report)


def _on_ray(config: Config, store: Path, tags: dict[str, str], report: Report | None) -> FitResult:
    """One Ray Train worker a rank. A worker that dies is retried, and the run goes on from its own last checkpoint."""
    import ray
    from ray import train
    from ray.train.torch import TorchConfig, TorchTrainer

    from pipeline.data.store import open_store
    from pipeline.training.attempt import finished
    from pipeline.training.key import run_key
    from pipeline.training.precision import resolve

    if not ray.is_initialized():
        ray.init(address=config.sweep.address or None, include_dashboard=False, log_to_driver=False)
    cuda = config.trainer.accelerator == "gpu" or (
        config.trainer.accelerator == "auto" and ray.cluster_resources().get("GPU", 0) > 0
    )
    key = run_key(
        config, open_store(store).manifest.content_hash, resolve(config.recipe.precision, config.trainer.accelerator)
    )
    work = {"config": config.to_dict(), "store": str(store), "tags": tags}
    callbacks: list[Any] = []
    if report is not None:
        from ray.tune.integration.ray_train import TuneReportCallback

        callbacks = [TuneReportCallback()]
    TorchTrainer(
        _rank,
        train_loop_config=work,
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
        scaling_config=train.ScalingConfig(num_workers=config.trainer.world_size, use_gpu=cuda),
        run_config=train.RunConfig(
            name=f"train-{key}",
            storage_path=str(Path(config.paths.runs).resolve() / "ray"),
            failure_config=train.FailureConfig(max_failures=config.sweep.max_failures),
            callbacks=callbacks,
        ),
    ).fit()
    result = finished(Path(config.paths.runs) / key)
    if result is None:
        raise ValueError(
            f"run {key} did not finish on the Ray cluster; its folder is {Path(config.paths.runs) / key}, paths.runs must be shared by all nodes"
        )
    return result


def _rank(work: dict[str, Any]) -> None:
    """One rank, inside a Ray Train worker."""
    from ray import train
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    set_rank(train.get_context().get_world_rank())

    def report(validated: Any) -> None:
        train.report(
            {"step": validated.step, "key": validated.key, **validated.metrics, "best/err1": validated.best["val/err1"]}
        )

    fit(
        from_dict(work["config"]),
        Path(work["store"]),
        tags=work["tags"],
        report=report,
        strategy=RayDDPStrategy(),
        plugins=(RayLightningEnvironment(),),
    )
