"""The table of nets, whose columns each page and the terminal choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.record import Net, from_json
from pipeline.report.inputs import evaluated, origin, same_training
from pipeline.report.markdown import Markdown, count, interval, number, percent, table

NARROWEST = 96  # columns of a terminal; a narrower one wraps lines rather than cells


class Column(NamedTuple):
    """A cell of a net and, where it has one, of the ensemble."""

    title: str
    net: Callable[[Net], str]
    ensemble: Callable[[Mapping[str, Any]], str] = lambda ensemble: ""


def _minutes(net: Net) -> str:
    """Of training and validation; a snapshot's are its run's."""
    return "" if net.seconds is None or net.snapshot else f"{net.seconds / 60:.1f}"


def _millions(params: int) -> str:
    return f"{params / 1e6:.2f}M" if params >= 10_000 else count(params)


COLUMNS = {
    "parameters": Column("parameters", lambda net: _millions(net.params)),
    "lr": Column("lr", lambda net: number(net.lr)),
    "seed": Column("seed", lambda net: number(net.seed)),
    "steps": Column("steps", lambda net: count(net.steps or None)),
    "minutes": Column("minutes", _minutes),
    "weight": Column("weight", lambda net: "–" if net.weight is None else f"{net.weight:.3f}"),
    "validation": Column("validation", lambda net: percent(net.val_err1), lambda e: percent(e["val_err1"])),
    "test": Column("test error", lambda net: percent(net.test_err1), lambda e: percent(e["test_err1"])),
    "ci95": Column("95% interval", lambda net: interval(net.ci95), lambda e: interval(e["ci95"])),
    "top5": Column("top-5", lambda net: percent(net.test_err5), lambda e: percent(e["test_err5"])),
    "ci95_err5": Column("95% interval", lambda net: interval(net.ci95_err5), lambda e: interval(e.get("ci95_err5"))),
}


def described(net: Net) -> str:
    """The net's name with what sets it apart from the paper's of that name."""
    return net.name + (f" ({apart})" if (apart := origin(net)) else "")


def with_errors(errors: Mapping[str, Any]) -> str:
    """12.34% (11.00 to 13.00%), of an ensemble's errors."""
    return f"{percent(errors['test_err1'])} ({interval(errors['ci95'])})"


def row_name(net: Net, evaluation: Mapping[str, Any]) -> str:
    """What a net is called in a table or figure of all evaluated nets."""
    run = evaluation.get("run")
    mark = " (named run)" if run and same_training(from_json(run), net) else ""
    return described(net) + mark + (", trained on all images" if net.val_err1 is None else "")


def net_rows(evaluation: Mapping[str, Any], columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the evaluated nets; the ensemble's row is the last, where there is one."""
    chosen = [COLUMNS[name] for name in columns]
    rows = [[row_name(net, evaluation), *(c.net(net) for c in chosen)] for net in evaluated(evaluation)]
    if ensemble := evaluation.get("ensemble"):
        rows.append([f"ensemble of {ensemble['size']}", *(column.ensemble(ensemble) for column in chosen)])
    return ["net", *(column.title for column in chosen)], rows


def nets_table(evaluation: Mapping[str, Any], columns: Sequence[str], caption: str = "") -> Markdown:
    header, rows = net_rows(evaluation, columns)
    last = {len(rows) - 1} if evaluation.get("ensemble") else ()
    return table(header, rows, "l" + "r" * len(columns), caption, last)


def summary_table(evaluation: Mapping[str, Any], leaderboard: Mapping[str, Any] | None = None) -> str:
    """The nets for a terminal, coloured where stdout is one."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    grid = Table(title=escape(_title(evaluation)), title_justify="left", caption_justify="left")
    if leaderboard and leaderboard["trials"]:
        stopped = sum(trial["stopped_early"] for trial in leaderboard["trials"])
        grid.caption = f"sweep: {len(leaderboard['trials'])} trials, {stopped} stopped early"
    header, rows = net_rows(evaluation, ("lr", "seed", "steps", "validation", "test", "ci95"))
    for name in header:
        grid.add_column(name, justify="left" if name == "net" else "right")
    for i, row in enumerate(rows, 1):
        last = bool(evaluation.get("ensemble")) and i == len(rows)
        if last:
            grid.add_section()
        grid.add_row(*map(escape, row), style="bold" if last else None)
    console = Console()
    console.width = max(console.width, NARROWEST)
    with console.capture() as capture:
        console.print(grid)
    return capture.get().rstrip("\n")


def _title(evaluation: Mapping[str, Any]) -> str:
    data = evaluation.get("data", {})
    n = data.get("num_test") or sum(entry["count"] for entry in evaluation.get("per_class", []))
    return f"{data.get('name', 'test')}: error on {count(n)} test images" if n else "test errors"
