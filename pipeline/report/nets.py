"""The evaluated nets and the ensemble: one table with chosen columns, for the pages and the terminal, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.record import Net, from_json
from pipeline.report import markdown as md
from pipeline.report.detectors import ap_interval, ap_of, shown_ap, shown_interval
from pipeline.report.inputs import ReportInputs, evaluated
from pipeline.report.markdown import Markdown, count, interval, number, percent, short, table
from pipeline.report.theme import Draw, Theme, name_lines, new_figure
from pipeline.report.traits import origin, recipe_of, same_training

NARROWEST = 96  # columns of a terminal; a narrower one wraps lines rather than cells
REPORTED = ("parameters", "lr", "seed", "steps", "weight", "validation", "test", "ci95", "top5", "ci95_err5")
SUMMARISED = ("lr", "seed", "steps", "validation", "test", "ci95")
DETECTED = ("lr", "seed", "steps", "validation_ap", "test_ap", "ci95_ap", "test_ap50")  # of detectors


_ELSEWHERE = ("milestones", "split")  # in other columns: the steps, and what the net was trained on
MOST = 3  # settings that tell nets apart; more would fill a line


class Column(NamedTuple):
    """A cell of a net and, where it has one, of the ensemble."""

    title: str
    net: Callable[[Net], str]
    ensemble: Callable[[Mapping[str, Any]], str] = lambda ensemble: ""


def _minutes(net: Net) -> str:
    """Of training and validation; a snapshot's are its run's, an adopted net has none.

    A dash where processors were not recorded: those versions counted the last attempt only.
    """
    if net.seconds is None or net.snapshot:
        return ""
    return f"{net.seconds / 60:.1f} on {', '.join(net.processors)}" if net.processors else "–"


def _millions(params: int) -> str:
    return short(params) if params >= 10_000 else count(params)


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
    "validation_ap": Column(
        "validation", lambda net: shown_ap(ap_of(net.val_err1)), lambda e: shown_ap(ap_of(e["val_err1"]))
    ),
    "test_ap": Column("test AP", lambda net: shown_ap(ap_of(net.test_err1)), lambda e: shown_ap(ap_of(e["test_err1"]))),
    "ci95_ap": Column(
        "95% interval",
        lambda net: shown_interval(ap_interval(net.ci95)),
        lambda e: shown_interval(ap_interval(e["ci95"])),
    ),
    "test_ap50": Column("AP50", lambda net: shown_ap(ap_of(net.test_err5)), lambda e: shown_ap(ap_of(e["test_err5"]))),
    "ci95_err5": Column("95% interval", lambda net: interval(net.ci95_err5), lambda e: interval(e.get("ci95_err5"))),
}


def described(net: Net) -> str:
    """The net's name and how it differs from the paper's net of that name."""
    return net.name + (f" ({apart})" if (apart := origin(net)) else "")


def with_errors(errors: Mapping[str, Any], top5: bool = False) -> str:
    """12.34% (11.00 to 13.00%), from a net's or an ensemble's errors; top5: followed by the same of its top-5 error."""
    text = f"{percent(errors['test_err1'])} ({interval(errors['ci95'])})"
    return f"{text}, top-5 {percent(errors['test_err5'])} ({interval(errors['ci95_err5'])})" if top5 else text


def row_name(net: Net, nets: Sequence[Net], run: Net | None) -> str:
    """The label of a net in a table or figure of all evaluated `nets`, of which one may be the named `run`."""
    mark = " (named run)" if run and same_training(run, net) else ""
    return described(net) + differing(net, nets) + mark + (", trained on all images" if net.val_err1 is None else "")


def differing(net: Net, nets: Iterable[Net]) -> str:
    """The settings in which the net's training differs from others of its name, in brackets: (decay_norm=true)."""
    recipes = [recipe_of(other) for other in nets if other.name == net.name and other.recipe]
    ours = recipe_of(net)
    differ = [key for key in ours if key not in _ELSEWHERE and any(other[key] != ours[key] for other in recipes)]
    words = [f"{key}={str(ours[key]).lower()}" for key in differ[:MOST]] + ["..."] * (len(differ) > MOST)
    return f" ({', '.join(words)})" if words else ""


def net_rows(evaluation: Mapping[str, Any], columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the evaluated nets; the ensemble's row, if there is one, comes last."""
    chosen = [COLUMNS[name] for name in columns]
    nets, run = evaluated(evaluation), evaluation.get("run")
    named = from_json(run) if run else None
    rows = [[row_name(net, nets, named), *(c.net(net) for c in chosen)] for net in nets]
    if ensemble := evaluation.get("ensemble"):
        rows.append([f"ensemble of {ensemble['size']}", *(column.ensemble(ensemble) for column in chosen)])
    return ["net", *(column.title for column in chosen)], rows


def nets_table(evaluation: Mapping[str, Any], columns: Sequence[str], caption: str = "") -> Markdown:
    header, rows = net_rows(evaluation, columns)
    last = {len(rows) - 1} if evaluation.get("ensemble") else ()
    return table(header, rows, "l" + "r" * len(columns), caption, last)


def nets(inputs: ReportInputs) -> list[md.Block]:
    """Members, ensemble, named run and other nets: the table, and their intervals."""
    if not inputs.nets:
        return [md.paragraph("No net was evaluated.")]
    columns = REPORTED if any(net.test_err5 is not None for net in inputs.nets) else REPORTED[:-2]
    caption = "Top-1 error; the last columns are top-5 test error." if columns == REPORTED else "Top-1 error."
    if inputs.ensemble:
        caption += f" Members were {selected(inputs.ensemble['selection'])}."
    if inputs.on_all_images:
        caption += " A net trained on all images has seen the validation images too; nothing was chosen for it."
    return [nets_table(inputs.evaluation, columns, caption), _interval_figure(inputs)]


class Bar(NamedTuple):
    """A line of the interval figure; fractions."""

    label: str
    error: float
    interval: tuple[float, float]
    depth: int | None = None  # None for the ensemble
    marker: str = "D"


def selected(selection: str) -> str:
    """How members came into an ensemble, from the value of ensemble.selection."""
    return "listed" if selection == "listed" else f"selected by {selection.replace('_', ' ')}"


def _interval_figure(inputs: ReportInputs) -> md.Figure:
    bars = []
    for net in sorted(inputs.nets, key=lambda net: net.test_err1 or 0.0):
        setting = "made elsewhere" if net.lr is None else f"lr {net.lr:g}, seed {net.seed}"
        label = f"{row_name(net, inputs.nets, inputs.named_run)}, {setting}"
        marker = "o" if net.model.residual else "s"
        bars.append(Bar(label, net.test_err1 or 0.0, net.ci95 or (0.0, 1.0), net.model.depth, marker))
    shade = ""
    if ensemble := inputs.ensemble:
        low, high = ensemble["ci95"]
        bars.insert(0, Bar(f"ensemble of {ensemble['size']}", ensemble["test_err1"], (low, high)))
        shade = "; the ensemble's is shaded"
    caption = f"Test error with Wilson's 95% interval over {count(inputs.num_test)} images{shade}."
    alt = "Test errors: " + ", ".join(f"{bar.label} {percent(bar.error)}" for bar in bars)
    return md.Figure("members", caption, alt, intervals(bars, inputs.depths))


def intervals(bars: Sequence[Bar], depths: Sequence[int], what: str = "top-1 test error") -> Draw:
    """Error and interval of each bar, first on top; the ensemble's interval is shaded behind all of them."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8, 1.1 + 0.36 * len(bars), 1.1 + 0.5 * len(bars))
        axes = figure.add_subplot()
        for y, bar in enumerate(bars):
            low, high = (100 * bound for bound in bar.interval)
            colour, weight = theme.colour(bar.depth, depths), "bold" if bar.depth is None else "normal"
            if bar.depth is None:
                axes.axvspan(low, high, color=theme.text, alpha=0.07, linewidth=0)
            axes.plot([low, high], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
            axes.plot(100 * bar.error, y, bar.marker, color=colour, markersize=7.5)
            axes.annotate(
                f"{100 * bar.error:.2f}", (high, y), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9,
                fontweight=weight,
            )  # fmt: skip
        name_lines(theme, axes, [bar.label for bar in bars])
        axes.margins(x=0.09)
        axes.set_xlabel(f"{what} (%)")
        return figure

    return draw


def summary_table(evaluation: Mapping[str, Any], leaderboard: Mapping[str, Any] | None = None) -> str:
    """The nets for a terminal, coloured where stdout is one."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    grid = Table(title=escape(_title(evaluation)), title_justify="left", caption_justify="left")
    if leaderboard and leaderboard["trials"]:
        stopped = sum(trial["stopped_early"] for trial in leaderboard["trials"])
        grid.caption = f"sweep: {len(leaderboard['trials'])} trials, {stopped} stopped early"
    header, rows = net_rows(evaluation, DETECTED if _detects(evaluation) else SUMMARISED)
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
    measure, short_title = ("AP", "test AP") if _detects(evaluation) else ("error", "test errors")
    return f"{data.get('name', 'test')}: {measure} on {count(n)} test images" if n else short_title


def _detects(evaluation: Mapping[str, Any]) -> bool:
    return evaluation.get("task") == "detection"
