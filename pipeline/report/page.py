"""The report as files: report.md, index.html rendered from it, figures/*.png, claims.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.atomic import replacing, write_json
from pipeline.report import markdown as md
from pipeline.report.checks import assess
from pipeline.report.claims import STATUSES, Outcome, applies, commands
from pipeline.report.classes import classes
from pipeline.report.comparison import comparison
from pipeline.report.cost import error_against_cost, transfer
from pipeline.report.curves import curves, layers
from pipeline.report.findings import findings
from pipeline.report.gain import averaging, gain
from pipeline.report.inputs import ReportInputs, Results
from pipeline.report.mistakes import confidence, mistakes
from pipeline.report.nets import nets
from pipeline.report.paper import TITLE, title_of
from pipeline.report.provenance import provenance
from pipeline.report.rendering import to_html
from pipeline.report.sweep import sweep
from pipeline.report.theme import DARK, LIGHT, render
from pipeline.report.trainings import trained
from pipeline.report.traits import ids

THEMES = {"light": LIGHT, "dark": DARK, "narrow light": LIGHT.narrowed(), "narrow dark": DARK.narrowed()}
RULES = (
    "A claim holds or fails where the whole 95% interval says so, and is inconclusive where the interval includes both "
    "answers. Intervals are over images and over seeds: by the spread of the runs, or for single runs by the spread assumed "
    "from other runs (seed_std in paper.yaml); between an ensemble and its members, over images only, and McNemar's exact test "
    "must agree. Holm's correction allows for the number of claims of a kind that the same runs test. A comparison "
    "takes nets that trained equally long. "
    "A published error needs nets trained for the paper's number of steps."
)


def build_report(inputs: ReportInputs, out: Path) -> Path:
    """Writes the report and returns the path of its index.html.

    The folder `out` appears whole or not at all, and whatever stood there is replaced. The same inputs give the same
    bytes: nothing here reads the clock. In figures/, <name>-dark.png is <name>.png on a dark ground; the page also holds
    narrow figures, for phones.
    """
    outcomes = assess(inputs)
    document = compose(inputs, outcomes)
    return write_page(document, outcomes, inputs.data["name"], out)


def write_page(document: md.Document, outcomes: Sequence[Outcome], dataset: str, out: Path) -> Path:
    """Writes a report with its verdicts as claims.json, whole or not at all, and returns the path of its index.html."""
    images = {
        figure.name: {name: render(figure.draw, theme) for name, theme in THEMES.items()}
        for figure in document.figures()
    }
    with replacing(out) as part:
        (part / "figures").mkdir(parents=True)
        for name, themes in images.items():
            (part / "figures" / f"{name}.png").write_bytes(themes["light"])
            (part / "figures" / f"{name}-dark.png").write_bytes(themes["dark"])
        for drawing in document.drawings():
            (part / "figures" / f"{drawing.name}.svg").write_text(drawing.svg, encoding="utf-8")
        (part / "index.html").write_text(to_html(document, images), encoding="utf-8")
        (part / "report.md").write_text(str(document), encoding="utf-8")
        claims = [outcome.to_json() for outcome in outcomes]
        write_json(part / "claims.json", {"data": dataset, "claims": claims})
    return Path(out) / "index.html"


def compose(inputs: ReportInputs, outcomes: Sequence[Outcome]) -> md.Document:
    """The report before it is written."""
    parts = [
        ("summary", "Summary", [*findings(inputs, outcomes), *_headline(inputs)]),
        ("nets", "Nets and ensemble", [*nets(inputs), *averaging(inputs)]),
        ("cost", "Error against cost", error_against_cost(inputs)),
        ("curves", "Learning curves", curves(inputs)),
        ("layers", "Layer responses", layers(inputs)),
        ("transfer", "Transfer", transfer(inputs)),
        ("sweep", "Sweep", sweep(inputs)),
        ("classes", "Classes", classes(inputs)),
        ("mistakes", "Mistakes and confidence", [*mistakes(inputs), *confidence(inputs)]),
        ("paper", "Beside the paper", comparison(inputs)),
        ("claims", "The paper's claims", claims(outcomes, inputs.data["name"])),
        ("provenance", "Provenance", provenance(inputs)),
    ]
    return md.Document(
        f"ResNet on {title_of(inputs.data['name'])}",
        f"A reproduction of {TITLE}",
        [md.Section(*part) for part in parts],
    )


def _headline(inputs: ReportInputs) -> list[md.Block]:
    numbers, n = [], md.count(inputs.num_test)
    if ensemble := inputs.ensemble:
        detail = (
            f"95% interval {md.interval(ensemble['ci95'])}; {n} test images, {md.plural(ensemble['size'], 'member')}"
        )
        numbers.append(("Ensemble, test error", md.percent(ensemble["test_err1"]), detail))
        if inputs.top5_tells:
            detail = f"95% interval {md.interval(ensemble['ci95_err5'])}"
            numbers.append(("Ensemble, top-5 test error", md.percent(ensemble["test_err5"]), detail))
    if best := inputs.best_member:
        detail = f"{best.name}, 95% interval {md.interval(best.ci95)}"
        numbers.append(("Best member, test error", md.percent(best.test_err1), detail))
    elif inputs.members:
        low, high = (end(net.test_err1 or 0.0 for net in inputs.members) for end in (min, max))
        detail = "no member can be chosen as the best without validation errors"
        numbers.append(("Members, test error", md.interval((low, high)), detail))
    elif run := inputs.named_run:
        detail = f"{run.name}, 95% interval {md.interval(run.ci95)}; {n} test images"
        numbers.append(("Named run, test error", md.percent(run.test_err1), detail))
    counts = ", ".join(f"{md.count(size)} {split}" for split, size in inputs.data["counts"].items())
    split = "; nets of data.split=full train on val too" if inputs.on_all_images else ""
    detail = f"{md.plural(len(inputs.data['classes']), 'class')}; {counts}{split}"
    numbers += [training_runs(inputs), ("Data set", inputs.data["name"], detail)]
    return [md.tiles(numbers), *gain(inputs)]


def training_runs(inputs: Results) -> tuple[str, str, str]:
    """The headline number of trainings: label, value, detail."""
    swept = {name for trial in inputs.trials for name in ids(trial)}
    apart = trained(net for net in inputs.nets if not ids(net) & swept)
    stopped = sum(trial.stopped_early for trial in inputs.trials)
    parts = [f"{md.plural(len(inputs.trials), 'sweep trial')}, {stopped} stopped early"] if inputs.trials else []
    parts += [f"{md.plural(apart, 'run')} outside the sweep"] if apart and inputs.trials else []
    return "Training runs", md.count(len(inputs.trials) + apart), "; ".join(parts) or "no sweep"


def claims(outcomes: Sequence[Outcome], dataset: str, rules: str = RULES) -> list[md.Block]:
    """A table of the verdicts on this data set, the commands that would measure the rest, and the other claims."""
    near = [outcome for outcome in outcomes if applies(outcome.claim, dataset)]
    far = [outcome for outcome in outcomes if outcome not in near]
    tally = ", ".join(f"{status}: {sum(o.status == status for o in near)}" for status in STATUSES)
    blocks: list[md.Block] = [
        md.paragraph(f"Each verdict is computed from the runs above ({tally}). ", rules),
        _claims_table(near),
    ]
    if missing := commands(outcome.claim for outcome in near if outcome.status == "not measured"):
        blocks += [md.paragraph("Commands that would measure the rest:"), md.listing(missing)]
    return [*blocks, md.fold("Claims about other data sets", _claims_table(far))] if far else blocks


def _claims_table(outcomes: Sequence[Outcome]) -> md.Markdown:
    rows = [
        [
            outcome.claim.statement,
            md.strong(outcome.status),
            "" if outcome.length is None else md.percent(outcome.length, 0),
            _runs_behind(outcome),
            outcome.evidence,
            outcome.claim.reference,
        ]
        for outcome in outcomes
    ]
    caption = "Length: steps of the shortest training behind the verdict, as a share of the paper's."
    return md.table(["claim", "verdict", "length", "runs", "evidence", "source"], rows, "llrrll", caption)


def _runs_behind(outcome: Outcome) -> str:
    if outcome.runs is None or not outcome.seeds:
        return md.count(outcome.runs)
    return f"{md.count(outcome.runs)} (seed{'s' * (len(outcome.seeds) > 1)} {', '.join(map(str, outcome.seeds))})"
