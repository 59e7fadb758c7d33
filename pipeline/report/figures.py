"""Figures of evaluated nets: intervals, ours beside the paper, errors by class, confusions.

Each function takes values and returns `draw`, which a theme turns into a matplotlib Figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.report.theme import Draw, Theme, legend_above, new_figure

MOST_CLASSES = 30  # more are cut to those with the highest error


class Row(NamedTuple):
    """A line of the interval figure; fractions."""

    label: str
    error: float
    low: float
    high: float
    depth: int | None
    residual: bool


def intervals(rows: Sequence[Row], depths: Sequence[int], band: Row | None) -> Draw:
    """Error and interval of each row, first on top; the band is drawn behind all of them."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(8, 1.1 + 0.36 * len(rows))
        axes = figure.add_subplot()
        if band:
            axes.axvspan(100 * band.low, 100 * band.high, color=theme.text, alpha=0.07, linewidth=0)
        for y, row in enumerate(rows):
            colour, marker = theme.colour(row.depth, depths), "D" if row is band else "o" if row.residual else "s"
            axes.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
            axes.plot(100 * row.error, y, marker, color=colour, markersize=7.5)
            axes.annotate(
                f"{100 * row.error:.2f}",
                (100 * row.high, y),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                fontweight="bold" if row is band else "normal",
            )
        axes.set_yticks(range(len(rows)), [row.label for row in rows], color=theme.text)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.margins(x=0.09)
        axes.set_xlabel("top-1 test error (%)")
        axes.tick_params(axis="y", length=0)
        return figure

    return draw


class Step(NamedTuple):
    """An average of so many members; fractions."""

    size: int
    validation: float | None  # None where a member has seen the validation images
    test: float
    low: float  # of test
    high: float


def by_members(steps: Sequence[Step]) -> Draw:
    """Error against the number of members, best member first: test with its interval, validation."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(8, 3.4)
        axes = figure.add_subplot()
        sizes, test, validation = [step.size for step in steps], theme.palette[0], theme.palette[1]
        low, high = (
            [100 * bound for bound in bounds] for bounds in zip(*((s.low, s.high) for s in steps), strict=True)
        )
        axes.fill_between(sizes, low, high, color=test, alpha=0.15, linewidth=0)
        axes.plot(sizes, [100 * step.test for step in steps], "o-", color=test, linewidth=2, markersize=6, label="test")
        validated = [(s.size, 100 * s.validation) for s in steps if s.validation is not None]
        if validated:
            line = {"color": validation, "linewidth": 1.6, "markersize": 4, "label": "validation"}
            axes.plot(*zip(*validated, strict=True), "o--", **line)
        axes.set_xticks(sizes)
        axes.set_xlabel("members")
        axes.set_ylabel("top-1 error (%)")
        axes.legend(loc="best")
        return figure

    return draw


class Mark(NamedTuple):
    """A net in the figure beside the paper; fractions, the interval None where none is known."""

    depth: int
    error: float
    interval: tuple[float, float] | None


def beside_paper(paper: dict[bool, list[Mark]], ours: dict[bool, list[Mark]], depths: Sequence[int]) -> Draw:
    """Error against depth, residual (True) and plain (False): lines for the paper, points with intervals for ours."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(8, 4.2)
        axes = figure.add_subplot()
        layers = sorted({mark.depth for marks in [*paper.values(), *ours.values()] for mark in marks})
        at = {depth: i for i, depth in enumerate(layers)}
        for residual, kind, line, marker in ((True, "residual", "-", "o"), (False, "plain", "--", "s")):
            theirs, mine = paper.get(residual, []), ours.get(residual, [])
            hollow = {"color": theme.muted, "marker": marker, "markerfacecolor": theme.background}
            if theirs:
                xs, ys = [at[mark.depth] for mark in theirs], [100 * mark.error for mark in theirs]
                axes.plot(xs, ys, line, linewidth=1.3, label=f"paper, {kind}", **hollow)
            for mark in mine:
                low, high = mark.interval or (mark.error, mark.error)
                x, colour = at[mark.depth] + 0.14, theme.colour(mark.depth, depths)
                axes.plot([x, x], [100 * low, 100 * high], color=colour, linewidth=2.2, solid_capstyle="round")
                axes.plot(x, 100 * mark.error, marker, color=colour, markersize=7.5)
            if mine:
                axes.plot([], [], marker, color=theme.text, markersize=7.5, label=f"ours, {kind}")
        axes.set_xticks(range(len(layers)), [str(depth) for depth in layers])
        axes.set_xlim(-0.5, len(layers) - 0.5)
        axes.set_xlabel("layers")
        axes.set_ylabel("top-1 error (%)")
        legend_above(axes)
        return figure

    return draw


class ClassRow(NamedTuple):
    """Error of a class; fractions."""

    name: str
    error: float
    low: float
    high: float


def by_class(rows: Sequence[ClassRow], overall: float) -> Draw:
    """A bar a class with its interval, highest error on top, and the error over all classes as a line."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(8, 1.1 + 0.28 * len(rows))
        axes = figure.add_subplot()
        at = range(len(rows))
        axes.barh(at, [100 * row.error for row in rows], height=0.66, color=theme.tint(theme.palette[0], 0.5))
        for y, row in enumerate(rows):
            axes.plot([100 * row.low, 100 * row.high], [y, y], color=theme.text, linewidth=1.2)
        axes.axvline(100 * overall, color=theme.palette[1], linewidth=1.6, linestyle=(0, (4, 2)))
        axes.annotate(
            f"all classes {100 * overall:.2f}",
            (100 * overall, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            color=theme.palette[1],
            fontsize=9,
            fontweight="bold",
        )
        axes.set_yticks(at, [shorten(row.name, 24) for row in rows], color=theme.text)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 105 * max([overall, *(row.high for row in rows)]))
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("top-1 test error (%)")
        return figure

    return draw


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Draw:
    """Counts by true class (row) and predicted class (column); colour shows the errors alone, not the diagonal."""

    def draw(theme: Theme) -> Any:
        from matplotlib.colors import LinearSegmentedColormap

        K = len(classes)
        figure = new_figure(2.2 + 0.5 * K, 1.9 + 0.44 * K)
        axes = figure.add_subplot()
        ramp = LinearSegmentedColormap.from_list("errors", [theme.background, theme.palette[1]])
        errors = [[0 if i == j else counts[i][j] for j in range(K)] for i in range(K)]
        most = max(max(row) for row in errors) or 1
        axes.imshow(errors, cmap=ramp, vmin=0, vmax=1.6 * most, aspect="auto")
        for i in range(K):
            axes.add_patch(_cell(i, theme))
            for j in range(K):
                ink = theme.text if counts[i][j] else theme.muted
                weight = "bold" if i == j else "normal"
                axes.text(
                    j, i, f"{counts[i][j]:,}" if counts[i][j] else "·", ha="center", va="center", color=ink,
                    fontsize=8.5, fontweight=weight,
                )  # fmt: skip
        names = [shorten(name, 14) for name in classes]
        slanted = {} if max(map(len, names)) <= 4 else {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(K), names, color=theme.text, **slanted)
        axes.set_yticks(range(K), names, color=theme.text)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        return figure

    return draw


def _cell(i: int, theme: Theme) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor=theme.grid, edgecolor="none")


def shorten(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
