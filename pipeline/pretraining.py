"""The sweeps whose runs a training starts from (start.weights=sweep:NAME), each with the configuration of its data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.compose import compose_conf
from pipeline.config import SWEEP, Config, from_dict
from pipeline.errors import PipelineError


def pretrainings(config: Config, root: Path) -> list[Config]:
    """The configuration of data=NAME for each sweep:NAME that `config` names.

    conf/ alone decides their nets, so that they are the same for whatever starts from them. Where they are trained and
    tracked is decided by `config`: paths, tracking, cluster, accelerator, threads and mirror.

    Raises:
        PipelineError: conf/ has no such data set, its values are not complete, or it starts from a sweep itself.
    """
    return [_pretraining(name, config, root) for name in config.start_sweeps]


def _pretraining(name: str, config: Config, root: Path) -> Config:
    title = f"start.weights={SWEEP}{name}"
    try:
        theirs = from_dict(compose_conf(root, {"data": name}))
    except PipelineError as error:
        raise PipelineError(f"{title} takes the values of conf/data/{name}.yaml alone: {error}") from None
    if theirs.start_sweeps:
        raise PipelineError(
            f"{title}: conf/data/{name}.yaml starts from a sweep itself; run `pipeline pretrain data={name}` and `pipeline "
            f"sweep data={name}`, and name the keys of its runs: start.weights=run:<key>,<key>"
        )
    ours = config.trainer
    trainer = replace(theirs.trainer, accelerator=ours.accelerator, threads=ours.threads or theirs.trainer.threads)
    data = replace(theirs.data, mirror=theirs.data.mirror or config.data.mirror)
    return replace(
        theirs, data=data, trainer=trainer, cluster=config.cluster, tracking=config.tracking, paths=config.paths
    )
