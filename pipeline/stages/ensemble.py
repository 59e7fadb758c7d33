"""ensemble: averages the best runs in MLflow; publishes the ensemble and registers it as a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.config import Config, EnsembleConfig
from pipeline.ensemble.build import Ensemble, build_ensemble
from pipeline.ensemble.card import NAME as CARD
from pipeline.ensemble.card import percent
from pipeline.ensemble.members import Source
from pipeline.tracking.lineage import lineage
from pipeline.tracking.location import require_answer
from pipeline.tracking.models import describe
from pipeline.tracking.sync import sync
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    show(make(build_ensemble, config, workspace), config.ensemble.temperature != "none")


def make(
    build: Callable[[Source, EnsembleConfig, Path, dict[str, str]], Ensemble], config: Config, workspace: Workspace
) -> Ensemble:
    """The ensemble of any kind of net, which `build` publishes; its card describes the registered model."""
    source = Source.configured(config, workspace.store(config.data.name))
    require_answer(source.location, "ensemble members are runs in MLflow")
    sync(source.runs, source.location)
    ensemble = build(source, config.ensemble, workspace.ensemble, lineage(workspace.root))
    model = ensemble.registered
    describe(source.location, model["name"], model["version"], (workspace.ensemble / CARD).read_text(encoding="utf-8"))
    return ensemble


def show(ensemble: Ensemble, calibrated: bool) -> None:
    """Prints the members as a table, with their temperatures if they are calibrated."""
    table = Table(title=f"ensemble of {ensemble.size} ({ensemble.selection}, {ensemble.wanted} wanted)")
    for column in ("net", "validation error", "weight", *(["temperature"] if calibrated else []), "lr", "seed", "run"):
        table.add_column(column, justify="left" if column in ("net", "run") else "right")
    for net in ensemble.members:
        temperature = [f"{net.temperature:.2f}"] if calibrated else []
        weights = percent(net.val_err1), f"{net.weight:.2f}", *temperature
        table.add_row(net.name, *weights, _or_dash(net.lr), _or_dash(net.seed), net.key)
    Console().print(table)
    model = f"{ensemble.registered['name']} version {ensemble.registered['version']}"
    print(f"average: validation error {percent(ensemble.val_err1)}, registered as {model} (champion)")


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"  # adopted nets have neither
