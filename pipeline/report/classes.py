"""Errors by class and confusions, of the ensemble or of the named run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.intervals import wilson
from pipeline.report import markdown as md
from pipeline.report.inputs import ReportInputs
from pipeline.report.lettering import lettering
from pipeline.report.theme import Draw, Theme, letters_for, new_figure

MOST_CLASSES = 30  # with more classes, the figure has those with the highest error
MATRIX_UP_TO = 20  # with more classes, a table of the most frequent confusions replaces the matrix
MOST_PAIRS = 15

ClassError = tuple[str, float, float, float]  # name, error and its interval, as fractions


def classes(inputs: ReportInputs) -> list[md.Block]:
    owner = "the ensemble" if inputs.ensemble else "the named run"
    return [*_errors(inputs, owner), *_confusions(inputs, owner)]


def _errors(inputs: ReportInputs, owner: str) -> list[md.Block]:
    rows: list[ClassError] = []
    for entry in inputs.evaluation.get("per_class", []):
        error, n = entry["test_err1"], entry["count"]
        if error is not None and n:
            rows.append((entry["class"], error, *wilson(round(error * n), n)))
    run = inputs.named_run
    overall = inputs.ensemble["test_err1"] if inputs.ensemble else run.test_err1 if run else None
    if not rows or overall is None:
        return [md.paragraph("No errors by class: evaluate.json holds none.")]
    rows.sort(key=lambda row: (-row[1], row[0]))
    cut = f" The {MOST_CLASSES} classes with the highest error of {len(rows)}." if len(rows) > MOST_CLASSES else ""
    caption = f"Test error of {owner} by class, with 95% intervals over the class's images.{cut}"
    (worst, high, *_), (best, low, *_) = rows[0], rows[-1]
    alt = f"Errors by class, highest {worst} {md.percent(high)}, lowest {best} {md.percent(low)}"
    return [md.Figure("classes", caption, alt, by_class(rows[:MOST_CLASSES], overall))]


def _confusions(inputs: ReportInputs, owner: str) -> list[md.Block]:
    counts, names = inputs.evaluation.get("confusion", []), inputs.data["classes"]
    if not counts:
        return [md.paragraph("No confusion matrix: evaluate.json holds none.")]
    cells = range(len(counts))
    pairs = sorted((-counts[i][j], i, j) for i in cells for j in cells if i != j and counts[i][j])
    if not pairs:
        return [md.paragraph(f"No confusions: {owner} classifies every test image correctly.")]
    if len(counts) <= MATRIX_UP_TO:
        n, i, j = pairs[0]
        most = f"{names[i]} taken for {names[j]}, {md.plural(-n, 'time')}"
        caption = f"Confusions of {owner}: test images by true and predicted class. Most frequent: {most}."
        return [md.Figure("confusion", caption, f"Confusion matrix; most frequent {most}", confusion(counts, names))]
    rows = [
        [names[i], names[j], md.count(-n), md.percent(-n / max(1, sum(counts[i])), 1)] for n, i, j in pairs[:MOST_PAIRS]
    ]
    caption = f"The {len(rows)} most frequent of {md.plural(len(pairs), 'confusion')} of {owner}."
    return [md.table(["true class", "taken for", "images", "of the class"], rows, "llrr", caption)]


def by_class(
    rows: Sequence[ClassError | tuple[str, float]], overall: float, what: str = "top-1 test error", digits: int = 2
) -> Draw:
    """A bar with its interval, or its value, for each class, first on top, and what holds over all classes as a line."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8, 1.1 + 0.28 * len(rows))
        axes = figure.add_subplot()
        at = range(len(rows))
        axes.barh(at, [100 * value for _, value, *_ in rows], height=0.66, color=theme.tint(theme.muted, 0.5))
        for y, (_, value, *ends) in enumerate(rows):
            if ends:
                axes.plot([100 * end for end in ends], [y, y], color=theme.text, linewidth=1.2)
            else:
                text = f"{100 * value:.{digits}f}"
                axes.annotate(text, (0, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5)
        axes.axvline(100 * overall, color=theme.text, linewidth=1.6, linestyle=(0, (4, 2)))
        axes.annotate(
            f"all classes {100 * overall:.{digits}f}", (100 * overall, 1), xycoords=("data", "axes fraction"), xytext=(0, 4),
            textcoords="offset points", ha="center", color=theme.text, fontsize=9, fontweight="bold",
        )  # fmt: skip
        labels, options = lettering([name for name, *_ in rows], 12 if theme.narrow else 24)
        axes.set_yticks(at, labels, color=theme.text, **options)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 105 * max([overall, *(end for *_, end in rows)]) or 1.0)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{what} (%)")
        return figure

    return draw


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Draw:
    """Counts by true class (row) and predicted class (column); only the errors are shaded, the diagonal is framed."""

    def draw(theme: Theme) -> Any:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Rectangle

        K = len(names)
        figure = new_figure(theme, 2.2 + 0.5 * K, 1.9 + 0.44 * K, 1.4 + 0.26 * K)
        axes = figure.add_subplot()
        ramp = LinearSegmentedColormap.from_list("errors", [theme.background, theme.muted])
        errors = [[0 if i == j else counts[i][j] for j in range(K)] for i in range(K)]
        most = max(map(max, errors)) or 1
        axes.imshow(errors, cmap=ramp, vmin=0, vmax=1.6 * most, aspect="auto")
        for i in range(K):
            axes.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor=theme.background, edgecolor=theme.muted))
            for j in range(K):
                text, ink = (f"{counts[i][j]:,}", theme.text) if counts[i][j] else ("·", theme.muted)
                weight = "bold" if i == j else "normal"
                axes.text(
                    j,
                    i,
                    text,
                    ha="center",
                    va="center",
                    color=ink,
                    fontsize=letters_for(theme, K + 3, 8.5),
                    fontweight=weight,
                )
        labels, options = lettering(names, 8 if theme.narrow else 14)
        slanted = {} if max(map(len, labels)) <= 4 else {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(K), labels, color=theme.text, **slanted, **options)
        axes.set_yticks(range(K), labels, color=theme.text, **options)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        return figure

    return draw
