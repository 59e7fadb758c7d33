"""The measured part of the report: headline, nets and ensemble, learning curves, sweep, classes.

Each function returns blocks; where the inputs lack something, a sentence that says so.
"""

from __future__ import annotations

from typing import Any

from pipeline.evaluation.intervals import wilson
from pipeline.report.curves import TRAIN, TRAIN_POINTS, VAL, featured, last_error, learning_curves, off_plot, series
from pipeline.report.document import (
    Block,
    Figure,
    Paragraph,
    Strong,
    Table,
    Text,
    Tile,
    Tiles,
    count,
    interval,
    number,
    percent,
    plural,
    points,
)
from pipeline.report.figures import MOST_CLASSES, ClassRow, Row, Step, by_class, by_members, confusion, intervals
from pipeline.report.inputs import (
    Net,
    ReportInputs,
    Trial,
    beginnings,
    ids,
    named,
    same_training,
    short_name,
    split_of,
)
from pipeline.report.sweep import DEPTH, RESIDUAL, axis_key, axis_name, best_of_each, groups, is_grid, sweep_figure
from pipeline.report.sweep import points as sweep_points

MOST_TRIALS = 12  # rows of the sweep's table
MATRIX_UP_TO = 20  # classes; above, the most frequent confusions are listed
MOST_PAIRS = 15


def headline(inputs: ReportInputs) -> list[Block]:
    tiles, n = [], count(inputs.num_test)
    if ensemble := inputs.ensemble:
        detail = f"95% interval {interval(ensemble['ci95'])}; {n} test images, {plural(ensemble['size'], 'member')}"
        tiles.append(Tile("Ensemble, test error", percent(ensemble["test_err1"]), detail))
    if best := inputs.best_member:
        detail = f"{short_name(best)}, 95% interval {interval(best['ci95'])}"
        tiles.append(Tile("Best member, test error", percent(best["test_err1"]), detail))
    elif run := inputs.named_run:
        detail = f"{short_name(run)}, 95% interval {interval(run['ci95'])}; {n} test images"
        tiles.append(Tile("Named run, test error", percent(run["test_err1"]), detail))
    tiles.append(_runs(inputs))
    counts = ", ".join(f"{count(size)} {split}" for split, size in inputs.data["counts"].items())
    classes = plural(len(inputs.data["classes"]), "class")
    split = "; nets of split full train on val too" if inputs.on_all_images else ""
    tiles.append(Tile("Data set", inputs.data["name"], f"{classes}; {counts}{split}"))
    return [Tiles(tiles), *_gain(inputs)]


def _runs(inputs: ReportInputs) -> Tile:
    swept = {name for trial in inputs.trials for name in ids(trial)}
    apart = [net for net in inputs.nets if not ids(net) & swept]
    stopped = sum(trial["stopped_early"] for trial in inputs.trials)
    parts = [f"{plural(len(inputs.trials), 'sweep trial')}, {stopped} stopped early"] if inputs.trials else []
    parts += [f"{plural(len(apart), 'run')} outside the sweep"] if apart and inputs.trials else []
    return Tile("Training runs", count(len(inputs.trials) + len(apart)), "; ".join(parts) or "no sweep")


def _gain(inputs: ReportInputs) -> list[Block]:
    gain, best = inputs.gain, inputs.best_member
    if not inputs.ensemble:
        return [Paragraph("No ensemble was evaluated.")]
    if inputs.ensemble["size"] < 2:
        return [Paragraph("The ensemble has one member, so there is nothing that it could improve on.")]
    if not gain or not best:
        return []
    low, high = gain["ci95"]
    p = inputs.ensemble.get("mcnemar_p")
    verdict = "excludes zero" if low > 0 or high < 0 else "includes zero, so the difference may be chance"
    test = "" if p is None else f"; McNemar's exact test gives p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    text: Text = (
        "The ensemble's error minus that of its best member, both on the same test images, is ",
        Strong(f"{points(gain['estimate'])} points"),
        f". The 95% interval, {points(low)} to {points(high)}, {verdict}{test}. "
        "Members were chosen on validation error; the test images had no part in it.",
    )
    return [Paragraph(text)]


def nets(inputs: ReportInputs) -> list[Block]:
    """Members, ensemble and named run: the table and the picture of their intervals."""
    if not inputs.nets:
        return [Paragraph("No net was evaluated.")]
    rows = [_net_row(net, _mark(inputs, net)) for net in inputs.nets]
    if ensemble := inputs.ensemble:
        name = f"ensemble of {ensemble['size']} ({ensemble['selection'].replace('_', ' ')})"
        errors = [percent(ensemble[key]) for key in ("val_err1", "test_err1")]
        top5 = [percent(ensemble["test_err5"]), interval(ensemble.get("ci95_err5"))]
        rows.insert(0, [name, "", "", "", "", "", *errors, interval(ensemble["ci95"]), *top5])
    header = ["net", "parameters", "lr", "seed", "iterations", "weight", "validation", "test", "95% interval"]
    header += ["top-5", "95% interval"]
    drop = len(header) - 2 if all(row[-2] == "–" for row in rows) else len(header)
    caption = "Top-1 error; the last columns are top-5 test error." if drop == len(header) else "Top-1 error."
    strong = frozenset({0} if inputs.ensemble else ())
    cut = [row[:drop] for row in rows]
    align = ("l" + "r" * 10)[:drop]
    if inputs.on_all_images:
        splits = ["holdout"] * (len(rows) - len(inputs.nets)) + [split_of(net) for net in inputs.nets]
        header, align = ["net", "split", *header[1:]], f"l{align}"
        cut = [[row[0], split, *row[1:]] for row, split in zip(cut, splits, strict=True)]
        drop += 1
        caption += " A net of split full was trained on the validation images too; nothing was chosen for it."
    table = Table(header[:drop], cut, align, caption, strong)
    return [table, _interval_figure(inputs), *_by_members(inputs)]


def _by_members(inputs: ReportInputs) -> list[Block]:
    sizes = inputs.ensemble.get("by_size", []) if inputs.ensemble else []
    if len(sizes) < 2:
        return []
    steps = [Step(s["size"], s["val_err1"], s["test_err1"], s["ci95"][0], s["ci95"][1]) for s in sizes]
    caption = "Error of the average of the first members, the best on validation first, snapshots in their order; shaded, the test error's 95% interval."
    alt = "Test error by number of members: " + ", ".join(f"{s.size}: {percent(s.test)}" for s in steps)
    return [Figure("by-members", caption, alt, by_members(steps))]


def _mark(inputs: ReportInputs, net: Net) -> str:
    run = inputs.named_run
    return " (named run)" if run and same_training(run, net) else ""


def _net_row(net: Net, mark: str) -> list[Text]:
    weight = net.get("weight")
    return [
        named(net) + mark,
        _millions(net["params"]),
        number(net["lr"]),
        number(net["seed"]),
        count(net["steps"] or None),
        "–" if weight is None else f"{weight:.3f}",
        percent(net["val_err1"]),
        percent(net["test_err1"]),
        interval(net["ci95"]),
        percent(net["test_err5"]),
        interval(net.get("ci95_err5")),
    ]


def _setting(net: Net) -> str:
    if net["lr"] is None:
        return "made elsewhere"
    return ", ".join(filter(None, [f"lr {net['lr']:g}, seed {net['seed']}", beginnings(net)]))


def _millions(params: int) -> str:
    return f"{params / 1e6:.2f}M" if params >= 10_000 else count(params)


def _interval_figure(inputs: ReportInputs) -> Figure:
    rows = [
        Row(
            f"{short_name(net)}, {_setting(net)}{_mark(inputs, net)}",
            *(net["test_err1"], net["ci95"][0], net["ci95"][1]),
            *(net["depth"], net["residual"]),
        )
        for net in sorted(inputs.nets, key=lambda net: net["test_err1"])
    ]
    band = None
    if ensemble := inputs.ensemble:
        low, high = ensemble["ci95"]
        band = Row(f"ensemble of {ensemble['size']}", ensemble["test_err1"], low, high, None, True)
        rows.insert(0, band)
    shade = "; the ensemble's is shaded" if band else ""
    caption = f"Test error with Wilson's 95% interval over {count(inputs.num_test)} images{shade}."
    alt = "Test errors: " + ", ".join(f"{row.label} {percent(row.error)}" for row in rows)
    return Figure("members", caption, alt, intervals(rows, inputs.depths, band))


def curves(inputs: ReportInputs) -> list[Block]:
    shown = featured(inputs.curves)
    if not shown:
        return [Paragraph("No learning curves: no run has recorded train or validation errors.")]
    caption = "Top-1 error against iterations, drawn like the paper's Fig. 6: dashed train, bold validation (the paper: test), a colour for each depth."
    faint = sum(bool(series(curve, VAL)) for curve in inputs.curves if curve not in shown)
    if faint:
        caption += f" Bold is the best run of each depth; {plural(faint, 'other run')} as thin validation curves."
    if any(len(series(curve, TRAIN)) > TRAIN_POINTS for curve in shown):
        caption += f" Train error is averaged over windows, at most {TRAIN_POINTS} a curve."
    if not any(curve["residual"] != shown[0]["residual"] for curve in shown):
        caption += f" No {'plain' if shown[0]['residual'] else 'residual'} net was trained, so its panel is missing."
    if missing := [c for c in shown if not series(c, VAL)]:
        names = ", ".join(short_name(c) for c in missing)
        caption += f" Without validation curve: {names}."
    if outside := off_plot(inputs.curves):
        names = ", ".join(f"{short_name(c)} ({percent(last_error(c))})" for c in outside)
        caption += f" Ends above the plot: {names}."
    ends = ", ".join(f"{short_name(c)} ends at {percent(last_error(c))}" for c in shown)
    figure = Figure("curves", caption, f"Learning curves: {ends}", learning_curves(inputs.curves, inputs.depths))
    return [figure]


def sweep(inputs: ReportInputs) -> list[Block]:
    if not inputs.trials:
        return [Paragraph("No sweep: leaderboard.json was not among the inputs, or it holds no trial.")]
    blocks: list[Block] = []
    placed, key = sweep_points(inputs.trials, inputs.kinds), axis_key(inputs.trials)
    if placed:
        caption = f"Validation error of the trials against {axis_name(key)}. Hollow: stopped early, so measured after fewer iterations; a triangle lies above the plot."
        if any(len(best_of_each(inside)) < len(inside) for inside in groups(placed).values()):
            caption += " Where trials differ in something else too, a line joins the best at each value."
        if is_grid(placed):
            caption += " Right: the lowest error of each cell, stronger colour is lower, hatched stopped early, bold the lowest of all."
        alt = f"Validation error of {plural(len(placed), 'trial')}, lowest {percent(min(p.error for p in placed))}"
        blocks.append(Figure("sweep", caption, alt, sweep_figure(placed, key, inputs.depths)))
    else:
        blocks.append(Paragraph("No picture of the sweep: no number was varied, or no trial has a validation error."))
    if without := [trial["name"] for trial in inputs.trials if trial["val_err1"] is None]:
        blocks.append(Paragraph(f"Without a validation error: {', '.join(without)}."))
    return [*blocks, _trials_table(inputs.trials)]


def _trials_table(trials: list[Trial]) -> Table:
    ranked = sorted(trials, key=lambda t: (t["val_err1"] is None, t["val_err1"] or 0.0, t["name"]))
    keys = sorted({key for trial in trials for key in trial["config"]}, key=lambda k: (k != DEPTH, k != RESIDUAL, k))
    rows: list[list[Text]] = [
        [
            *(_value(trial["config"].get(key)) for key in keys),
            count(trial["steps"]),
            percent(trial["val_err1"]),
            "stopped early" if trial["stopped_early"] else trial["status"],
        ]
        for trial in ranked[:MOST_TRIALS]
    ]
    hidden = len(ranked) - len(rows)
    caption = "Trials by validation error" + (f"; {hidden} more are in leaderboard.json." if hidden else ".")
    return Table([*keys, "iterations", "validation", "status"], rows, "l" * len(keys) + "rrl", caption)


def _value(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def classes(inputs: ReportInputs) -> list[Block]:
    whose = "the ensemble" if inputs.ensemble else "the named run"
    return [*_per_class(inputs, whose), *_confusion(inputs, whose)]


def _per_class(inputs: ReportInputs, whose: str) -> list[Block]:
    rows = []
    for entry in inputs.evaluation.get("per_class", []):
        if entry["test_err1"] is not None and entry["count"]:
            low, high = wilson(round(entry["test_err1"] * entry["count"]), entry["count"])
            rows.append(ClassRow(entry["class"], entry["test_err1"], low, high))
    subject = inputs.ensemble or inputs.named_run
    if not rows or subject is None:
        return [Paragraph("No errors by class: evaluate.json holds none.")]
    rows.sort(key=lambda row: (-row.error, row.name))
    cut = f" The {MOST_CLASSES} classes with the highest error of {len(rows)}." if len(rows) > MOST_CLASSES else ""
    caption = f"Test error of {whose} by class, with 95% intervals over the class's images.{cut}"
    alt = f"Errors by class, highest {rows[0].name} {percent(rows[0].error)}, lowest {rows[-1].name} {percent(rows[-1].error)}"
    return [Figure("classes", caption, alt, by_class(rows[:MOST_CLASSES], subject["test_err1"]))]


def _confusion(inputs: ReportInputs, whose: str) -> list[Block]:
    counts, names = inputs.evaluation.get("confusion", []), inputs.data["classes"]
    if not counts:
        return [Paragraph("No confusion matrix: evaluate.json holds none.")]
    cells = range(len(counts))
    pairs = sorted((-counts[i][j], i, j) for i in cells for j in cells if i != j and counts[i][j])
    if not pairs:
        return [Paragraph(f"No confusions: {whose} errs on no test image.")]
    if len(counts) <= MATRIX_UP_TO:
        most = f"{names[pairs[0][1]]} taken for {names[pairs[0][2]]}, {plural(-pairs[0][0], 'time')}"
        caption = f"Confusions of {whose}: test images by true and predicted class. Most frequent: {most}."
        return [Figure("confusion", caption, f"Confusion matrix; most frequent {most}", confusion(counts, names))]
    rows: list[list[Text]] = [
        [names[i], names[j], count(-n), percent(-n / max(1, sum(counts[i])), 1)] for n, i, j in pairs[:MOST_PAIRS]
    ]
    caption = f"The {len(rows)} most frequent of {plural(len(pairs), 'confusion')} of {whose}."
    return [Table(["true class", "taken for", "images", "of the class"], rows, "llrr", caption)]
