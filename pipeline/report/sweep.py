"""The sweep: its trials as a table, and validation error against the swept value as a figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.record import Net
from pipeline.report import markdown as md
from pipeline.report.inputs import ReportInputs, Trial
from pipeline.report.population import population
from pipeline.report.theme import Draw, Theme, legend_above, letters_for, new_figure, panels
from pipeline.report.traits import ids, kind_of

DEPTH, LR = "model.depth", "recipe.lr"
MOST_CELLS = 14  # rows or columns of the grid of numbers; a larger grid is left out
MOST_TRIALS = 12  # rows of the table


class Group(NamedTuple):
    """Trials that share a line: those of a net, or of a kind of nets where the axis is the depth."""

    residual: bool
    depth: int | None
    name: str


class Point(NamedTuple):
    """A trial in the figure."""

    x: float
    error: float  # fraction
    stopped: bool
    group: Group


def sweep(inputs: ReportInputs) -> list[md.Block]:
    if not inputs.trials:
        return [md.paragraph("No sweep: leaderboard.json was not among the inputs, or it holds no trial.")]
    search = inputs.leaderboard.get("search") if inputs.leaderboard else None
    blocks: list[md.Block] = [_search_table(search)] if search else []
    placed, key = points(inputs.trials, inputs.by_id), axis_key(inputs.trials)
    members = (inputs.leaderboard or {}).get("population")
    if members:  # its members' rates change on the way, so that there is no value to plot errors against
        blocks += population(members)
    elif placed:
        caption = f"Validation error of the trials against {axis_name(key)}. Hollow marks: stopped early and measured after fewer steps. Triangles lie above the plot."
        if any(len(best_of_each(inside)) < len(inside) for inside in groups(placed).values()):
            caption += " Where trials differ in other settings too, a line joins the best trial at each value."
        if is_grid(placed):
            caption += " Right: the lowest error of each cell; stronger colours are lower, hatched cells were stopped early, the lowest error of all is bold."
        alt = (
            f"Validation error of {md.plural(len(placed), 'trial')}, lowest {md.percent(min(p.error for p in placed))}"
        )
        blocks.append(md.Figure("sweep", caption, alt, sweep_figure(placed, key, inputs.depths)))
    else:
        blocks.append(
            md.paragraph("No picture of the sweep: no number was varied, or no trial has a validation error.")
        )
    if ended := (inputs.leaderboard or {}).get("ended"):
        blocks.append(md.paragraph(f"The sweep ended before its last trial: {ended}."))
    if without := [trial.name for trial in inputs.trials if trial.val_err1 is None]:
        blocks.append(md.paragraph(f"Without a validation error: {', '.join(without)}."))
    return [*blocks, trials_table(inputs.trials)]


def _search_table(search: Mapping[str, Any]) -> md.Block:
    """What the search before the sweep chose from; see `pipeline.tuning.search.outcome`."""
    keys, values = list(search["chosen"]), search["values"]
    rows = [
        [*(_value(value["config"][key]) for key in keys), md.count(value["trials"]), md.percent(value["val_err1"])]
        for value in values
    ]
    steps = max(trial["steps"] for trial in search["trials"])
    caption = (
        f"A search before the sweep, with trials of {md.count(steps)} steps, chose the bold row for every trial of the "
        "sweep, by mean validation error."
    )
    header, align = [*keys, "trials", "mean validation"], "l" * len(keys) + "rr"
    bold = [i for i, value in enumerate(values) if value["config"] == search["chosen"]]
    return md.table(header, rows, align, caption, bold=bold)


def trials_table(
    trials: list[Trial], title: str = "validation", shown: Callable[[float | None], str] = md.percent
) -> md.Block:
    """The best trials.

    Args:
        title: of the column with the validation error, or with what `shown` makes of it.
    """
    ranked = sorted(trials, key=lambda t: (t.val_err1 is None, t.val_err1 or 0.0, t.name))
    keys = sorted({key for trial in trials for key in trial.config}, key=lambda k: (k != DEPTH, k))
    rows = [
        [
            *(_value(trial.config.get(key)) for key in keys),
            md.count(trial.steps),
            shown(trial.val_err1),
            "stopped early" if trial.stopped_early else trial.status,
        ]
        for trial in ranked[:MOST_TRIALS]
    ]
    hidden = len(ranked) - len(rows)
    caption = "Trials, the best on validation images first" + (
        f"; {hidden} more are in leaderboard.json." if hidden else "."
    )
    return md.table([*keys, "steps", title, "status"], rows, "l" * len(keys) + "rrl", caption)


def _value(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def axis_key(trials: Sequence[Trial]) -> str | None:
    """The key of the horizontal axis: lr if it was varied, else the number with the most values, else depth."""
    values: dict[str, set[float]] = {}
    for trial in trials:
        for key, value in trial.config.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault(key, set()).add(value)
    varied = {key for key, numbers in values.items() if len(numbers) > 1}
    if LR in varied:
        return LR
    others = sorted(varied - {DEPTH, "seed"}, key=lambda key: (-len(values[key]), key))
    return others[0] if others else DEPTH if DEPTH in varied else None


def points(trials: Sequence[Trial], nets: Mapping[str, Net]) -> list[Point]:
    """Trials with a place in the figure: they have an error, a number under `axis_key`, and a run in MLflow.

    nets: by id of their run, since a trial's config does not describe its whole net.
    """
    key, placed = axis_key(trials), []
    for trial in trials:
        if key is None or trial.val_err1 is None or key not in trial.config:
            continue
        net = next((nets[name] for name in sorted(ids(trial)) if name in nets), None)
        if net is None:
            continue
        depth, name = (None, kind_of(net)) if key == DEPTH else (net.model.depth, net.name)
        group = Group(net.model.residual, depth, name)
        placed.append(Point(float(trial.config[key]), trial.val_err1, trial.stopped_early, group))
    return placed


def groups(placed: Sequence[Point]) -> dict[Group, list[Point]]:
    """Plain nets first, each group in order of x."""
    sorted_by: dict[Group, list[Point]] = {}
    for point in sorted(placed, key=lambda p: (p.group.residual, p.group.depth or 0, p.group.name, p.x, p.error)):
        sorted_by.setdefault(point.group, []).append(point)
    return sorted_by


def best_of_each(inside: Sequence[Point]) -> list[Point]:
    """The best trial at each x, finished ones before stopped ones: trials may differ in settings beside the axis."""
    best: dict[float, Point] = {}
    for point in sorted(inside, key=lambda p: (p.stopped, p.error)):
        best.setdefault(point.x, point)
    return [best[x] for x in sorted(best)]


def is_grid(placed: Sequence[Point]) -> bool:
    """Whether a grid of numbers helps: two values or more both ways, most cells filled, few enough to read."""
    columns, rows = {point.x for point in placed}, groups(placed)
    cells = {(group, point.x) for group, inside in rows.items() for point in inside}
    sizes = (len(columns), len(rows))
    return min(sizes) >= 2 and max(sizes) <= MOST_CELLS and len(cells) >= 0.6 * sizes[0] * sizes[1]


def sweep_figure(placed: Sequence[Point], key: str | None, depths: Sequence[int]) -> Draw:
    """Left, a line for each net; right, the numbers, if the trials form a grid. key: that of the horizontal axis."""

    def draw(theme: Theme) -> Any:
        grid = is_grid(placed)
        height = max(4.2, 1.6 + 0.36 * len(groups(placed)))
        figure = new_figure(theme, 10 if grid else 8, height, height * (1.8 if grid else 1.0))
        lines, *cells = panels(theme, figure, 2 if grid else 1)
        _lines(lines, placed, depths, theme)
        lines.set_xlabel(axis_name(key))
        lines.set_ylabel("top-1 validation error (%)")
        for axes in cells:
            _cells(axes, placed, theme)
            axes.set_xlabel(axis_name(key))
            axes.set_title("best of each cell (%)", loc="left")
        return figure

    return draw


def axis_name(key: str | None) -> str:
    return {LR: "learning rate", DEPTH: "layers"}.get(key or "", (key or "").split(".")[-1].replace("_", " "))


def _lines(axes: Any, placed: Sequence[Point], depths: Sequence[int], theme: Theme) -> None:
    top = _top(placed)
    for group, inside in groups(placed).items():
        colour, marker = theme.colour(group.depth, depths), "o" if group.residual else "s"
        style = {"color": colour, "linestyle": "-" if group.residual else "--", "label": group.name}
        best = best_of_each(inside)
        ends = [(point.x, 100 * min(point.error, top)) for point in best]
        full = [end for point, end in zip(best, ends, strict=True) if not point.stopped]
        axes.plot(*zip(*ends, strict=True), ":", color=colour, linewidth=0.9, alpha=0.4)
        axes.plot([x for x, _ in full], [y for _, y in full], linewidth=1.6, **style)
        for point in inside:
            face = theme.background if point.stopped else colour
            shape = "^" if point.error > top else marker
            y = 100 * min(point.error, top)
            axes.plot(point.x, y, shape, color=colour, markerfacecolor=face, markersize=6.5, clip_on=False, zorder=3)
    _scale(axes, sorted({point.x for point in placed}))
    low = min(point.error for point in placed)
    axes.set_ylim(100 * max(0.0, low - 0.12 * (top - low)), 100 * (top + 0.04 * (top - low) + 1e-4))
    if any(point.stopped for point in placed):
        axes.plot([], [], "o", color=theme.muted, markerfacecolor=theme.background, label="stopped early")
    legend_above(theme, axes, 3)


def _top(placed: Sequence[Point]) -> float:
    """Upper end of the axis, a fraction: finished trials fit, trials stopped far above it become triangles."""
    finished = [point.error for point in placed if not point.stopped]
    everything = max(point.error for point in placed)
    return min(everything, 1.6 * max(finished)) if finished else everything


def _scale(axes: Any, xs: Sequence[float]) -> None:
    if xs[0] > 0 and xs[-1] / xs[0] >= 4:
        axes.set_xscale("log")
    if len(xs) <= 8:
        axes.set_xticks(xs, [f"{x:g}" for x in xs])
        axes.set_xticks([], minor=True)
    axes.margins(x=0.06)


def _cells(axes: Any, placed: Sequence[Point], theme: Theme) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    columns, rows = sorted({point.x for point in placed}), groups(placed)
    finished = [point.error for point in placed if not point.stopped] or [point.error for point in placed]
    low, high = min(finished), max(finished)
    ramp = LinearSegmentedColormap.from_list("low is strong", [theme.muted, theme.background])
    for y, inside in enumerate(rows.values()):
        for best in best_of_each(inside):
            x = columns.index(best.x)
            share = 1.0 if high == low else (best.error - low) / (high - low)
            axes.add_patch(
                Rectangle(
                    (x - 0.5, y - 0.5), 1, 1, facecolor=theme.background if best.stopped else ramp(0.35 + 0.5 * share), edgecolor=theme.background,
                    hatch="///" if best.stopped else None,
                )
            )  # fmt: skip
            axes.text(
                x, y, f"{100 * best.error:.2f}", ha="center", va="center", fontsize=letters_for(theme, len(columns) + 2, 9),
                fontweight="bold" if best.error == low else "normal",
                bbox={"facecolor": theme.background, "edgecolor": "none", "pad": 1.5} if best.stopped else None,
            )  # fmt: skip
    axes.set_xticks(range(len(columns)), [f"{x:.3g}" for x in columns])
    axes.set_yticks(range(len(rows)), [group.name for group in rows], color=theme.text)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
