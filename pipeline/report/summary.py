"""The report's short form for a terminal."""

from __future__ import annotations

from pipeline.report.document import count, interval, number, percent
from pipeline.report.inputs import Ensemble, Evaluation, Leaderboard, Net, evaluated, named

NARROWEST = 96  # columns; a narrower terminal wraps lines rather than cells


def summary_table(evaluation: Evaluation, leaderboard: Leaderboard | None = None) -> str:
    """A row a net and one for the ensemble, test error with its 95 % interval; coloured where stdout is a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(_title(evaluation)), title_justify="left", caption_justify="left")
    table.caption = _sweep(leaderboard)
    for name in ("net", "lr", "seed", "iterations", "validation", "test", "95% interval"):
        table.add_column(name, justify="left" if name == "net" else "right")
    for net in evaluated(evaluation):
        apart = net is evaluation.get("run")
        table.add_row(*_row(net, " (named run)" if apart else ""))
    if ensemble := evaluation.get("ensemble"):
        table.add_section()
        table.add_row(*_ensemble_row(ensemble), style="bold")
    console = Console()
    console.width = max(console.width, NARROWEST)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def _title(evaluation: Evaluation) -> str:
    data = evaluation.get("data", {})
    n = data.get("num_test") or sum(entry["count"] for entry in evaluation.get("per_class", []))
    return f"{data.get('name', 'test')}: error on {count(n)} test images" if n else "test errors"


def _row(net: Net, mark: str) -> list[str]:
    name = named(net) + mark
    errors = [percent(net["val_err1"]), percent(net["test_err1"]), interval(net["ci95"])]
    return [name, number(net["lr"]), number(net["seed"]), count(net["steps"] or None), *errors]


def _ensemble_row(ensemble: Ensemble) -> list[str]:
    errors = [percent(ensemble["val_err1"]), percent(ensemble["test_err1"]), interval(ensemble["ci95"])]
    return [f"ensemble of {ensemble['size']}", "", "", "", *errors]


def _sweep(leaderboard: Leaderboard | None) -> str | None:
    if not leaderboard or not leaderboard["trials"]:
        return None
    stopped = sum(trial["stopped_early"] for trial in leaderboard["trials"])
    return f"sweep: {len(leaderboard['trials'])} trials, {stopped} stopped early"
