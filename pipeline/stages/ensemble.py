"""ensemble: the best runs that MLflow knows, averaged, published in ensemble/ and registered."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.ensemble.build import Ensemble, build_ensemble
from pipeline.ensemble.members import Source
from pipeline.learn.training.precision import uses_cuda
from pipeline.tracking.lineage import lineage
from pipeline.tracking.location import locate
from pipeline.tracking.registry import require_answer
from pipeline.tracking.shipper import ship_all
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    location = locate(config.tracking.uri, config.paths.mlruns)
    require_answer(location, "ensemble members are the trained runs that MLflow holds")
    ship_all(Path(config.paths.runs), location)
    source = Source(
        store=open_store(workspace.store(config.data.name)),
        location=location,
        runs=Path(config.paths.runs),
        device=torch.device("cuda" if uses_cuda(config.trainer.accelerator) else "cpu"),
        workers=config.data.workers,
    )
    made = build_ensemble(source, config.ensemble, workspace.ensemble, lineage(workspace.root))
    show(made, config.ensemble.temperature != "none")


def show(ensemble: Ensemble, tempered: bool) -> None:
    """The members as a table on stdout."""
    table = Table(title=f"ensemble of {ensemble.size} ({ensemble.selection}, {ensemble.wanted} wanted)")
    for column in ("net", "validation error", "weight", *(["temperature"] if tempered else []), "lr", "seed", "run"):
        table.add_column(column, justify="left" if column in ("net", "run") else "right")
    for member in ensemble.members:
        temperature = [f"{member.temperature:.2f}"] if tempered else []
        weighed = (_error(member.val_err1), f"{member.weight:.2f}", *temperature)
        table.add_row(member.name, *weighed, _or_dash(member.lr), _or_dash(member.seed), member.key)
    Console().print(table)
    registered = f"{ensemble.registered['name']} version {ensemble.registered['version']}"
    print(f"average: validation error {_error(ensemble.val_err1)}, registered as {registered} (champion)")


def _error(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.2f} %"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"  # a net that was made elsewhere has neither
