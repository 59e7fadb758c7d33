"""Results kept in git: an experiment's JSON and pictures, and the pages made from all of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, replacing, write_json
from pipeline.errors import PipelineError
from pipeline.report import markdown as md
from pipeline.report.checks import assess
from pipeline.report.claims import Outcome, applies, commands
from pipeline.report.counts import COUNTS
from pipeline.report.curves import featured, windows
from pipeline.report.gain import averaging, gain
from pipeline.report.inputs import (
    EARLY_TRAIN,
    FEWEST_CLASSES,
    TRAIN,
    VAL,
    Curve,
    ReportInputs,
    by_validation,
    evaluated,
    has_warm_up,
)
from pipeline.report.nets import described, nets_table, with_errors
from pipeline.report.page import RULES, compose
from pipeline.report.paper import CLAIMS, TITLE, Claim
from pipeline.report.theme import LIGHT, render

Result = Mapping[str, Any]  # a published experiment's JSON

BEGIN, END = "<!-- results: made by `pipeline publish` -->", "<!-- end of results -->"
WEIGHTS = "start.weights"
PICTURES = {
    "by-members": "error by number of members",
    "curves": "learning curves",
    "responses": "layer responses",
    "cost": "error against cost",
    "transfer": "transfer",
}
WARM_UP_STEPS = 2000  # of a training that starts with a warm-up, kept point by point
COLUMNS = ("steps", "minutes", "validation", "test", "ci95", "top5", "ci95_err5")


def publish(inputs: ReportInputs, name: str, folder: Path, readme: Path) -> Path:
    """Writes `folder`/<name>.json and <name>/*.png for an experiment, then the pages of all results.

    Raises:
        PipelineError: the README lacks the marks around its table.
    """
    path = folder / f"{name}.json"
    # MLflow's address means nothing on other machines.
    provenance = {key: value for key, value in inputs.provenance.items() if key != "tracking_uri"}
    outcomes = _outcomes(inputs)
    result = {
        "name": name,
        "data": inputs.data,
        "evaluation": inputs.evaluation,
        "leaderboard": _without_folders(inputs.leaderboard),
        "curves": [_thin(curve) for curve in featured(inputs.curves)],
        "responses": list(inputs.responses),
        "claims": _measured(outcomes),
        "pictures": _draw(compose(inputs, outcomes), folder / name),
        "provenance": provenance,
    }
    write_json(path, result)
    list_all(folder, readme)
    return path


def list_all(folder: Path, readme: Path) -> None:
    """Writes `folder`/README.md with every result, and the README's table with a row for each.

    Verdicts of earlier experiments are computed anew, so that all follow the same rules.
    """
    results = sorted((_judged_again(path) for path in sorted(folder.glob("*.json"))), key=_many_classes, reverse=True)
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise PipelineError(f"{readme} has no lines {BEGIN!r} and {END!r}; put them where the table belongs")
    before, rest = text.split(BEGIN, 1)
    with replacing(folder / "README.md") as part:
        part.write_text(str(collection(results)), encoding="utf-8")
    with replacing(readme) as part:
        part.write_text(f"{before}{BEGIN}\n{overview(results)}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def _many_classes(result: Result) -> bool:
    """Whether its top-5 errors tell something; such experiments stand first."""
    return len(result["data"]["classes"]) >= FEWEST_CLASSES


def _judged_again(path: Path) -> Result:
    """A kept result with verdicts by today's rules, which its file receives too."""
    result = read_json(path, f"restore it (`git checkout -- {path}`)")
    judged = {**result, "claims": _measured(_outcomes(_inputs(result)))}
    if judged != result:
        write_json(path, judged)
    return judged


def _inputs(result: Result) -> ReportInputs:
    return ReportInputs(
        curves=[Curve.from_json(curve) for curve in result["curves"]],
        **{key: result[key] for key in ("data", "evaluation", "leaderboard", "responses", "provenance")},
    )


def _outcomes(inputs: ReportInputs) -> list[Outcome]:
    return [outcome for outcome in assess(inputs) if applies(outcome.claim, inputs.data["name"])]


def _measured(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """As JSON, the claims that the experiment measures."""
    return [outcome.to_json() for outcome in outcomes if outcome.status != "not measured"]


def _draw(document: md.Document, folder: Path) -> list[str]:
    """Replaces `folder` by the figures to keep, as PNGs of the light theme; returns their names."""
    drawn = {figure.name: render(figure.draw, LIGHT) for figure in document.figures() if figure.name in PICTURES}
    with replacing(folder) as part:
        part.mkdir(parents=True)
        for name, image in drawn.items():
            (part / f"{name}.png").write_bytes(image)
    return list(drawn)


def _without_folders(leaderboard: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The leaderboard with file names instead of this machine's paths of initial weights."""
    if leaderboard is None:
        return None
    trials = []
    for trial in leaderboard["trials"]:
        config = dict(trial["config"])
        if config.get(WEIGHTS):
            config[WEIGHTS] = Path(config[WEIGHTS]).name
        trials.append({**trial, "config": config})
    return {**leaderboard, "trials": trials}


def _thin(curve: Curve) -> dict[str, Any]:
    """A curve as the figure draws it, with errors rounded to a hundredth of a percent."""
    drawn = {TRAIN: windows(curve.series(TRAIN)), VAL: curve.series(VAL)}
    if has_warm_up(curve.net):
        drawn[EARLY_TRAIN] = [point for point in curve.series(TRAIN) if point[0] <= WARM_UP_STEPS]
    points = {metric: [[round(step), round(error, 4)] for step, error in values] for metric, values in drawn.items()}
    return {"net": curve.net.to_json(), "points": points}


def collection(results: Sequence[Result]) -> md.Document:
    """All published experiments: the paper's claims over all of them, then the nets and pictures of each."""
    claims = md.Section("claims", "The paper's claims", _claims(results))
    experiments = [md.Section(result["name"], title(result), _experiment(result)) for result in results]
    return md.Document("Published results", f"Experiments of this reproduction of {TITLE}", [claims, *experiments])


def overview(results: Sequence[Result]) -> md.Markdown:
    """A row for each experiment: the net with the lowest validation error, the ensemble, the measured claims."""
    header = ["experiment", "nets", "steps", "best net on validation", "test error", "ensemble", "test error", "claims"]
    return md.table(header, [_row(result) for result in results], "lrrlrrrl")


def title(result: Result) -> str:
    """The data set and the other choices in the experiment's command."""
    words = [word.removeprefix("++set.") for word in shlex.split(_command(result)) if "=" in word]
    chosen = [word for word in words if not word.startswith(("data=", "trainer.", "evaluation.runs="))]
    return ", ".join([result["data"]["name"], *chosen])


def _command(result: Result) -> str:
    return str(result["provenance"]["commands"]["the whole experiment"])


def _row(result: Result) -> list[str]:
    tested, average = evaluated(result["evaluation"]), result["evaluation"].get("ensemble")
    best = min(tested, key=by_validation)
    chosen = best.val_err1 is not None or len(tested) == 1  # a test error chooses nothing
    steps = sorted({net.steps for net in tested if net.steps})
    return [
        title(result),
        md.count(len(tested)),
        " to ".join(md.count(end) for end in dict.fromkeys((steps[0], steps[-1]))) if steps else "–",
        *([described(best), with_errors(best.to_json(), _many_classes(result))] if chosen else ["–", "–"]),
        f"of {average['size']}" if average else "–",
        with_errors(average, _many_classes(result)) if average else "–",
        _tally(result),
    ]


def _tally(result: Result) -> str:
    """3 hold, 1 fail, 2 inconclusive: of the claims that its trainings decide, not those counted on the nets."""
    words = {"holds": "hold", "fails": "fail", "inconclusive": "inconclusive"}
    trained = [kept["status"] for kept in result["claims"] if kept["runs"] is not None]
    return ", ".join(f"{trained.count(status)} {word}" for status, word in words.items() if status in trained) or "–"


def _claims(results: Sequence[Result]) -> list[md.Block]:
    rows: list[list[str]] = []
    missing: list[Claim] = []
    for claim in CLAIMS:
        measured = [(result, kept) for result in results for kept in result["claims"] if kept["id"] == claim.id]
        if not measured:
            missing.append(claim)
        elif all(kept["runs"] is None for _, kept in measured):  # counted on the nets: the same in every experiment
            measured = measured[:1]
        for at, (result, kept) in enumerate(measured):
            statement, reference = ("", "") if at else (claim.statement, claim.reference)
            where = "" if kept["runs"] is None else title(result)
            length = "" if kept["length"] is None else md.percent(kept["length"], 0)
            rows.append([statement, md.strong(kept["status"]), where, length, kept["evidence"], reference])
    counted = sum(claim.check in COUNTS for claim in CLAIMS if claim not in missing)
    text = (
        f"The trainings below measure {len(CLAIMS) - len(missing) - counted} of the paper's {md.plural(len(CLAIMS), 'claim')}; "
        f"{counted} are counted on the nets alone. {RULES} Length: steps of the shortest training behind the verdict, as a "
        "share of the paper's."
    )
    header = ["claim", "verdict", "experiment", "length", "evidence", "source"]
    summary = f"{md.plural(len(missing), 'claim')} not measured, and the commands that would measure them"
    return [md.paragraph(text), md.table(header, rows, "lllrll"), md.fold(summary, md.listing(commands(missing)))]


def _experiment(result: Result) -> list[md.Block]:
    facts, counts = result["provenance"], result["data"]["counts"]
    made = md.paragraph(
        f"{facts.get('date', 'no date')}, {'; '.join(facts.get('host', ['hardware not recorded']))}; commit ",
        md.code(", ".join(commit[:10] for commit in facts.get("git_commit", ["not recorded"]))),
        f"; {', '.join(f'{md.count(size)} {split}' for split, size in counts.items())} images; ",
        md.code(f"{result['name']}.json"),
        " holds curves, claims and versions.",
    )
    pictures = [
        md.picture(f"{result['name']}/{name}.png", f"{what} of {title(result)}", what.capitalize())
        for name, what in PICTURES.items()
        if name in result["pictures"]
    ]
    inputs = _inputs(result)
    averages = [block for block in (*gain(inputs), *averaging(inputs)) if isinstance(block, md.Markdown)]
    return [md.listing(_command(result)), made, nets_table(result["evaluation"], COLUMNS), *averages, *pictures]
