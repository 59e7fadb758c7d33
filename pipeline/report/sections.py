"""The measured part of the report: headline, nets and ensemble, learning curves, layers, sweep, classes.

Each function returns blocks; where the inputs lack something, a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.intervals import wilson
from pipeline.report.curves import (
    TRAIN_POINTS,
    featured,
    layer_figure,
    learning_curves,
    off_plot,
    one_of_each,
)
from pipeline.report.figures import MOST_CLASSES, ClassRow, Row, Step, by_class, by_members, confusion, intervals
from pipeline.report.inputs import TRAIN, VAL, ReportInputs, Trial, ids
from pipeline.report.markdown import (
    Block,
    Figure,
    count,
    interval,
    paragraph,
    percent,
    plural,
    points,
    strong,
    table,
    tiles,
)
from pipeline.report.nets import nets_table, row_name
from pipeline.report.sweep import DEPTH, axis_key, axis_name, best_of_each, groups, is_grid, sweep_figure
from pipeline.report.sweep import points as sweep_points

MOST_TRIALS = 12  # rows of the sweep's table
MATRIX_UP_TO = 20  # classes; above, the most frequent confusions are listed
MOST_PAIRS = 15
COLUMNS = ("parameters", "lr", "seed", "steps", "weight", "validation", "test", "ci95", "top5", "ci95_err5")


def headline(inputs: ReportInputs) -> list[Block]:
    numbers, n = [], count(inputs.num_test)
    if ensemble := inputs.ensemble:
        detail = f"95% interval {interval(ensemble['ci95'])}; {n} test images, {plural(ensemble['size'], 'member')}"
        numbers.append(("Ensemble, test error", percent(ensemble["test_err1"]), detail))
    if best := inputs.best_member:
        detail = f"{best.name}, 95% interval {interval(best.ci95)}"
        numbers.append(("Best member, test error", percent(best.test_err1), detail))
    elif run := inputs.named_run:
        detail = f"{run.name}, 95% interval {interval(run.ci95)}; {n} test images"
        numbers.append(("Named run, test error", percent(run.test_err1), detail))
    counts = ", ".join(f"{count(size)} {split}" for split, size in inputs.data["counts"].items())
    split = "; nets of split full are trained on val too" if inputs.on_all_images else ""
    detail = f"{plural(len(inputs.data['classes']), 'class')}; {counts}{split}"
    numbers += [_runs(inputs), ("Data set", inputs.data["name"], detail)]
    return [tiles(numbers), *_gain(inputs)]


def _runs(inputs: ReportInputs) -> tuple[str, str, str]:
    swept = {name for trial in inputs.trials for name in ids(trial)}
    apart = [net for net in inputs.nets if not ids(net) & swept]
    stopped = sum(trial.stopped_early for trial in inputs.trials)
    parts = [f"{plural(len(inputs.trials), 'sweep trial')}, {stopped} stopped early"] if inputs.trials else []
    parts += [f"{plural(len(apart), 'run')} outside the sweep"] if apart and inputs.trials else []
    return "Training runs", count(len(inputs.trials) + len(apart)), "; ".join(parts) or "no sweep"


def _gain(inputs: ReportInputs) -> list[Block]:
    if not inputs.ensemble:
        return [paragraph("No ensemble was evaluated.")]
    if inputs.ensemble["size"] < 2:
        return [paragraph("The ensemble has one member, so there is nothing that it could improve on.")]
    if not inputs.gain or not inputs.best_member:
        return []
    low, high = inputs.gain["ci95"]
    p = inputs.ensemble.get("mcnemar_p")
    verdict = "excludes zero" if low > 0 or high < 0 else "includes zero, so the difference may be chance"
    test = "" if p is None else f"; McNemar's exact test gives p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    return [
        paragraph(
            "The ensemble's error minus that of its best member, both on the same test images, is ",
            strong(f"{points(inputs.gain['estimate'])} points"),
            f". The 95% interval, {points(low)} to {points(high)}, {verdict}{test}. "
            "Members were chosen on validation error; the test images had no part in it.",
        )
    ]


def nets(inputs: ReportInputs) -> list[Block]:
    """Members, ensemble, named run and others: the table and the picture of their intervals."""
    if not inputs.nets:
        return [paragraph("No net was evaluated.")]
    errors = [net.test_err5 for net in inputs.nets]
    columns = COLUMNS if any(error is not None for error in errors) else COLUMNS[:-2]
    caption = "Top-1 error; the last columns are top-5 test error." if columns == COLUMNS else "Top-1 error."
    if inputs.ensemble:
        caption += f" Members were selected by {inputs.ensemble['selection'].replace('_', ' ')}."
    if inputs.on_all_images:
        caption += " A net trained on all images has seen the validation images too; nothing was chosen for it."
    return [
        nets_table(inputs.evaluation, columns, caption),
        _interval_figure(inputs),
        *_by_members(inputs),
        *_seeds_against_depths(inputs),
    ]


def _interval_figure(inputs: ReportInputs) -> Figure:
    rows = []
    for net in sorted(inputs.nets, key=lambda net: net.test_err1 or 0.0):
        setting = "made elsewhere" if net.lr is None else f"lr {net.lr:g}, seed {net.seed}"
        low, high = net.ci95 or (0.0, 1.0)
        name = f"{row_name(net, inputs.evaluation)}, {setting}"
        rows.append(Row(name, net.test_err1 or 0.0, low, high, net.model.depth, net.model.residual))
    band = None
    if ensemble := inputs.ensemble:
        low, high = ensemble["ci95"]
        band = Row(f"ensemble of {ensemble['size']}", ensemble["test_err1"], low, high, None, True)
        rows.insert(0, band)
    shade = "; the ensemble's is shaded" if band else ""
    caption = f"Test error with Wilson's 95% interval over {count(inputs.num_test)} images{shade}."
    alt = "Test errors: " + ", ".join(f"{row.label} {percent(row.error)}" for row in rows)
    return Figure("members", caption, alt, intervals(rows, inputs.depths, band))


def _by_members(inputs: ReportInputs) -> list[Block]:
    sizes = inputs.ensemble.get("by_size", []) if inputs.ensemble else []
    if len(sizes) < 2:
        return []
    steps = [Step(s["size"], s["val_err1"], s["test_err1"], s["ci95"][0], s["ci95"][1]) for s in sizes]
    caption = "Error of the average of the first members, the best on validation first, snapshots in their order; shaded, the test error's 95% interval."
    alt = "Test error by number of members: " + ", ".join(f"{s.size}: {percent(s.test)}" for s in steps)
    return [Figure("by-members", caption, alt, by_members(steps))]


def _seeds_against_depths(inputs: ReportInputs) -> list[Block]:
    """Seeds of one net against nets of several depths, averaged; nothing where there were not two of each."""
    sizes = inputs.evaluation.get("seeds_against_depths", [])
    if not sizes:
        return []
    rows = [[str(s["size"]), *_average(s["seeds"]), *_average(s["depths"])] for s in sizes]
    last = sizes[-1]
    depths = ", ".join(last["depths"]["models"])
    seeds, other = (last[side]["test_err1"] for side in ("seeds", "depths"))
    verdict = "err the same" if seeds == other else f"{'seeds' if seeds < other else 'depths'} err less"
    lead = (
        f"Does an ensemble need nets of different depth, as the paper's has? Averages of seeds of {last['net']} against "
        f"averages of the best net of each depth, trained for as long, all chosen on validation error, the best first "
        f"({depths}). At {last['size']} nets {verdict}, by the estimates: {percent(seeds)} and {percent(other)}."
    )
    header = ["nets", f"seeds of {last['net']}", "95% interval", "alone", "depths", "95% interval", "alone"]
    caption = (
        "Top-1 test error of equally weighted averages. Alone: mean error of an average's nets, each by itself; the "
        "difference is what averaging gains, since nets of other depths may err more or less from the start."
    )
    return [paragraph(lead), table(header, rows, "r" * 7, caption)]


def _average(average: Mapping[str, Any]) -> list[str]:
    return [percent(average["test_err1"]), interval(average["ci95"]), percent(average["alone"])]


def curves(inputs: ReportInputs) -> list[Block]:
    best = featured(inputs.curves)
    if not best:
        return [paragraph("No learning curves: no run has recorded train or validation errors.")]
    caption = "Top-1 error against steps, drawn like the paper's Fig. 6: dashed train, bold validation (the paper: test), a colour for each depth."
    if faint := sum(bool(curve.series(VAL)) for curve in inputs.curves if curve not in best):
        caption += f" Bold is the best run of each net; {plural(faint, 'other run')} as thin validation curves."
    if any(len(curve.series(TRAIN)) > TRAIN_POINTS for curve in best):
        caption += f" Train error is averaged over windows, at most {TRAIN_POINTS} a curve."
    residual = {curve.net.model.residual for curve in best}
    if len(residual) == 1:
        caption += f" No {'plain' if True in residual else 'residual'} net was trained, so its panel is missing."
    if missing := [curve.net.name for curve in best if not curve.series(VAL)]:
        caption += f" Without validation curve: {', '.join(missing)}."
    if outside := off_plot(inputs.curves):
        ends = ", ".join(f"{curve.net.name} ({percent(curve.last_error)})" for curve in outside)
        caption += f" Ends above the plot: {ends}."
    ends = ", ".join(f"{curve.net.name} ends at {percent(curve.last_error)}" for curve in best)
    return [Figure("curves", caption, f"Learning curves: {ends}", learning_curves(inputs.curves, inputs.depths))]


def layers(inputs: ReportInputs) -> list[Block]:
    """Fig. 7; a net that was trained several times is shown once."""
    nets = one_of_each(inputs.layers)
    if not nets:
        return [paragraph("No layer responses were measured.")]
    means = ", ".join(f"{each.net.name} {sum(each.std) / len(each.std):.2f}" for each in nets)
    ranges = ", ".join(f"{each.net.name} {min(each.gradient):.2g} to {max(each.gradient):.2g}" for each in nets)
    return [
        paragraph(f"Mean over the layers: {means}."),
        Figure(
            "responses",
            "Standard deviation of what each 3x3 layer gives after batch norm, before ReLU and addition, on validation "
            "images, drawn like the paper's Fig. 7: in the layers' order, and sorted. Dashed: nets without shortcuts.",
            f"Layer responses; mean over the layers: {means}",
            layer_figure(nets, inputs.depths, "std", "standard deviation"),
        ),
        Figure(
            "gradients",
            'Norm of the loss\'s gradient in the same places, an image. The paper verified that it is "healthy" in plain '
            "nets (Sec. 4.1): neither vanished nor exploded.",
            f"Gradients: {ranges}",
            layer_figure(nets, inputs.depths, "gradient", "norm of the gradient"),
        ),
    ]


def sweep(inputs: ReportInputs) -> list[Block]:
    if not inputs.trials:
        return [paragraph("No sweep: leaderboard.json was not among the inputs, or it holds no trial.")]
    blocks: list[Block] = []
    placed, key = sweep_points(inputs.trials, inputs.by_id), axis_key(inputs.trials)
    if placed:
        caption = f"Validation error of the trials against {axis_name(key)}. Hollow: stopped early, so measured after fewer steps; a triangle lies above the plot."
        if any(len(best_of_each(inside)) < len(inside) for inside in groups(placed).values()):
            caption += " Where trials differ in something else too, a line joins the best at each value."
        if is_grid(placed):
            caption += " Right: the lowest error of each cell; a stronger colour is lower, hatched cells were stopped early, bold is the lowest of all."
        alt = f"Validation error of {plural(len(placed), 'trial')}, lowest {percent(min(p.error for p in placed))}"
        blocks.append(Figure("sweep", caption, alt, sweep_figure(placed, key, inputs.depths)))
    else:
        blocks.append(paragraph("No picture of the sweep: no number was varied, or no trial has a validation error."))
    if without := [trial.name for trial in inputs.trials if trial.val_err1 is None]:
        blocks.append(paragraph(f"Without a validation error: {', '.join(without)}."))
    return [*blocks, _trials_table(inputs.trials)]


def _trials_table(trials: list[Trial]) -> Block:
    ranked = sorted(trials, key=lambda t: (t.val_err1 is None, t.val_err1 or 0.0, t.name))
    keys = sorted({key for trial in trials for key in trial.config}, key=lambda k: (k != DEPTH, k))
    rows = [
        [
            *(_value(trial.config.get(key)) for key in keys),
            count(trial.steps),
            percent(trial.val_err1),
            "stopped early" if trial.stopped_early else trial.status,
        ]
        for trial in ranked[:MOST_TRIALS]
    ]
    hidden = len(ranked) - len(rows)
    caption = "Trials by validation error" + (f"; {hidden} more are in leaderboard.json." if hidden else ".")
    return table([*keys, "steps", "validation", "status"], rows, "l" * len(keys) + "rrl", caption)


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
    run = inputs.named_run
    overall = inputs.ensemble["test_err1"] if inputs.ensemble else run.test_err1 if run else None
    if not rows or overall is None:
        return [paragraph("No errors by class: evaluate.json holds none.")]
    rows.sort(key=lambda row: (-row.error, row.name))
    cut = f" The {MOST_CLASSES} classes with the highest error of {len(rows)}." if len(rows) > MOST_CLASSES else ""
    caption = f"Test error of {whose} by class, with 95% intervals over the class's images.{cut}"
    alt = f"Errors by class, highest {rows[0].name} {percent(rows[0].error)}, lowest {rows[-1].name} {percent(rows[-1].error)}"
    return [Figure("classes", caption, alt, by_class(rows[:MOST_CLASSES], overall))]


def _confusion(inputs: ReportInputs, whose: str) -> list[Block]:
    counts, names = inputs.evaluation.get("confusion", []), inputs.data["classes"]
    if not counts:
        return [paragraph("No confusion matrix: evaluate.json holds none.")]
    cells = range(len(counts))
    pairs = sorted((-counts[i][j], i, j) for i in cells for j in cells if i != j and counts[i][j])
    if not pairs:
        return [paragraph(f"No confusions: {whose} errs on no test image.")]
    if len(counts) <= MATRIX_UP_TO:
        most = f"{names[pairs[0][1]]} taken for {names[pairs[0][2]]}, {plural(-pairs[0][0], 'time')}"
        caption = f"Confusions of {whose}: test images by true and predicted class. Most frequent: {most}."
        return [Figure("confusion", caption, f"Confusion matrix; most frequent {most}", confusion(counts, names))]
    rows = [[names[i], names[j], count(-n), percent(-n / max(1, sum(counts[i])), 1)] for n, i, j in pairs[:MOST_PAIRS]]
    caption = f"The {len(rows)} most frequent of {plural(len(pairs), 'confusion')} of {whose}."
    return [table(["true class", "taken for", "images", "of the class"], rows, "llrr", caption)]
