"""compose: writes one checked configuration for all stages, so that plain `dvc repro` notices every edit of conf/.

Beside composed.yaml, composed/<stage>.yaml holds the keys that a stage reads. DVC compares these files, so that a stage
runs again only for its own keys, and `dvc exp show` has columns for the keys of params.yaml alone.
"""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.atomic import replacing
from pipeline.config import Config
from pipeline.documents import KEY, with_checksum
from pipeline.errors import PipelineError
from pipeline.pretraining import pretrainings
from pipeline.workspace import Workspace

_TRAINS = ("seed", "data.name", "data.num_train", "data.workers", "model", "recipe", "start", "trainer", "tracking")
_PREDICTS = ("data.name", "data.workers", "trainer.accelerator", "tracking")
READS = {  # tests/test_dvc.py holds these to the keys that a stage's code reads
    "fetch": ("data.name", "data.source", "data.path", "data.mirror", "data.layout", "data.labels"),
    "preprocess": (
        *("data.name", "data.source", "data.layout", "data.labels", "data.format", "data.image_size", "data.num_test"),
        *("data.num_val", "data.split_seed", "data.skip_corrupt"),
    ),
    # And, of the data sets whose sweeps it runs, what these three stages read.
    "pretrain": (
        "data.name",
        "data.mirror",
        "start.weights",
        "trainer.accelerator",
        "trainer.threads",
        "tracking",
        "cluster",
    ),
    "sweep": (*_TRAINS, "sweep", "cluster"),
    "train": (
        *_TRAINS,
        "data.split",
        "cluster.address",
        "cluster.dashboard",
        "cluster.max_failures",
        "cluster.storage",
    ),
    "ensemble": (*_PREDICTS, "model.family", "ensemble"),
    "evaluate": (*_PREDICTS, "model.family", "evaluation"),
    "report": ("data.name", "data.split", "model.family", "tracking"),
}
_PRETRAINS = (*READS["fetch"], *READS["preprocess"], *READS["sweep"])


def run(config: Config, workspace: Workspace) -> None:
    """Writes composed.yaml and composed/.

    Raises:
        PipelineError: data.name differs from the choice of data, after which dvc.yaml names the files; or no training would leave
            the snapshots that the ensemble is to be made of.
    """
    choice, name = config.choices["data"], config.data.name
    if name != choice:
        path = config.data.path.replace("'", "''")  # in YAML's quotes, since paths may hold its signs
        lines = [
            "# @package _global_",
            f"defaults: [{choice}, _self_]",
            *([f"data: {{path: '{path}'}}"] if path else []),
        ]
        raise PipelineError(
            f"data.name={name} with data={choice}, but dvc.yaml names a data set's files after the choice: write "
            f"conf/data/{name}.yaml with the {len(lines)} lines "
            + ", ".join(f'"{line}"' for line in lines)
            + f", and choose it (override: data={name})"
        )
    cycles = config.recipe.cycles > 1 or "recipe.cycles" in config.sweep.keys
    if config.ensemble.selection == "snapshots" and not cycles and not config.model.detects:
        raise PipelineError(
            "ensemble.selection=snapshots with recipe.cycles=1, with which no training leaves snapshots; choose recipe=cifar_snapshots, "
            "or recipe.schedule=cosine and a recipe.cycles that divides recipe.max_steps"
        )
    values, sweeps = config.to_dict(), [theirs.to_dict() for theirs in pretrainings(config, workspace.root)]
    with replacing(workspace.composed) as part:
        part.write_text(_yaml(values), encoding="utf-8")
    with replacing(workspace.composed.with_suffix("")) as part:
        part.mkdir()
        for stage, keys in READS.items():
            read = {key: _at(values, key) for key in keys}
            if stage == "pretrain":
                read["sweeps"] = [{key: _at(theirs, key) for key in _PRETRAINS} for theirs in sweeps]
            (part / f"{stage}.yaml").write_text(_yaml(read), encoding="utf-8")
    print(f"composed.yaml: {name}, {config.model.name}")


def _yaml(values: dict[str, Any]) -> str:
    return with_checksum(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Dumper(yaml.SafeDumper):
    """Puts keys of runs in quotes: DVC reads YAML 1.2, where 4e7000000000 is infinity."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", KEY, list("0123456789abcdef"))


def _at(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values
