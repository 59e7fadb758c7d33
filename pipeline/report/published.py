"""Results kept in git: an experiment's JSON and pictures, and the pages made from all of them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, replacing, write_json
from pipeline.errors import PipelineError
from pipeline.report import markdown as md
from pipeline.report.claims import Outcome, applies, commands
from pipeline.report.counts import COUNTS
from pipeline.report.experiment import is_named
from pipeline.report.inputs import Results
from pipeline.report.kept import Result, Task
from pipeline.report.kept_detectors import DETECTORS
from pipeline.report.kept_nets import NETS
from pipeline.report.paper import CLAIMS, TITLE, Claim
from pipeline.report.provenance import attempts
from pipeline.report.theme import LIGHT, render
from pipeline.report.traits import by_validation

BEGIN, END = "<!-- results: made by `pipeline publish` -->", "<!-- end of results -->"
WEIGHTS = "start.weights"
TASKS: dict[str, Task[Any]] = {"classification": NETS, "detection": DETECTORS}  # in the order of the pages
COUNTED = {claim.id for claim in CLAIMS if claim.check in COUNTS}  # on the nets alone, the same in every experiment


def publish(inputs: Results, name: str, folder: Path, readme: Path) -> Path:
    """Writes `folder`/<name>.json and <name>/*.png for an experiment, then the pages of all results.

    Raises:
        PipelineError: the README lacks the marks around its table.
    """
    path = folder / f"{name}.json"
    # MLflow's address means nothing on other machines.
    provenance = {key: value for key, value in inputs.provenance.items() if key != "tracking_uri"}
    task = _task(inputs.evaluation)
    outcomes = _outcomes(task, inputs)
    result = {
        "name": name,
        "data": inputs.data,
        "evaluation": inputs.evaluation,
        "leaderboard": _without_folders(inputs.leaderboard),
        **task.keep(inputs),
        "claims": _measured(outcomes),
        "pictures": _draw(task.figures(inputs), task, folder / name),
        "provenance": provenance,
    }
    write_json(path, result)
    list_all(folder, readme)
    return path


def list_all(folder: Path, readme: Path) -> None:
    """Writes `folder`/README.md with every result, and the README's table with a row for each.

    Verdicts of earlier experiments are computed anew, so that all follow the same rules.
    """
    results = sorted((_judged_again(path) for path in sorted(folder.glob("*.json"))), key=_place)
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise PipelineError(f"{readme} has no lines {BEGIN!r} and {END!r}; put them where the table belongs")
    before, rest = text.split(BEGIN, 1)
    with replacing(folder / "README.md") as part:
        part.write_text(str(collection(results)), encoding="utf-8")
    with replacing(readme) as part:
        part.write_text(f"{before}{BEGIN}\n{overview(results)}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def _task(evaluation: Mapping[str, Any]) -> Task[Any]:
    return TASKS[evaluation.get("task", "classification")]


def _read(result: Result) -> tuple[Task[Any], Any]:
    """The task of an experiment, and the inputs of its report."""
    task = _task(result["evaluation"])
    return task, task.read(result)


def _place(result: Result) -> tuple[int, bool]:
    """Sort key of the pages."""
    task, inputs = _read(result)
    return list(TASKS.values()).index(task), not task.first(inputs)


def _judged_again(path: Path) -> Result:
    """A kept result with verdicts by today's rules, which its file receives too."""
    result = read_json(path, f"restore it (`git checkout -- {path}`)")
    judged = {**result, "claims": _measured(_outcomes(*_read(result)))}
    if judged != result:
        write_json(path, judged)
    return judged


def _outcomes(task: Task[Any], inputs: Results) -> list[Outcome]:
    return [outcome for outcome in task.assess(inputs) if applies(outcome.claim, inputs.data["name"])]


def _measured(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """As JSON, the claims that the experiment measures."""
    return [outcome.to_json() for outcome in outcomes if outcome.status != "not measured"]


def _draw(figures: Iterable[md.Figure], task: Task[Any], folder: Path) -> list[str]:
    """Replaces `folder` by the figures to keep, as PNGs of the light theme; returns their names."""
    drawn = {figure.name: render(figure.draw, LIGHT) for figure in figures if figure.name in task.pictures}
    drawn = {name: image for name, image in drawn.items() if len(image) <= task.limits.get(name, math.inf)}
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


def collection(results: Sequence[Result]) -> md.Document:
    """All published experiments: the paper's claims over all of them, then the nets and pictures of each."""
    claims = md.Section("claims", "The paper's claims", _claims(results))
    experiments = [md.Section(result["name"], title(result), _experiment(result)) for result in results]
    return md.Document("Published results", f"Experiments of this reproduction of {TITLE}", [claims, *experiments])


def overview(results: Sequence[Result]) -> md.Markdown:
    """A row for each experiment: the net with the lowest validation error, the ensemble, the measured claims.

    A table for each task that has experiments.
    """
    tables = []
    for task in TASKS.values():
        if rows := [_row(result) for result in results if _task(result["evaluation"]) is task]:
            what, measure = task.header
            header = [
                what,
                "nets",
                "steps",
                "best net on validation",
                measure,
                "ensemble",
                measure,
                *task.more,
                "claims",
            ]
            tables.append(md.table(header, rows, f"lrrlrrr{'r' * len(task.more)}l"))
    return md.Markdown("\n\n".join(tables))


def title(result: Result) -> str:
    """The data set and the other choices in the experiment's command."""
    words = [word.removeprefix("++set.") for word in shlex.split(_command(result)) if "=" in word]
    chosen = [
        word for word in words if (key := word.split("=")[0]) not in ("data", "evaluation.runs") and is_named(key)
    ]
    return ", ".join([result["data"]["name"], *chosen])


def _command(result: Result) -> str:
    return str(result["provenance"]["commands"]["the whole experiment"])


def _row(result: Result) -> list[str]:
    task, inputs = _read(result)
    tested, average = inputs.nets, inputs.ensemble
    best = min(tested, key=by_validation)
    chosen = best.val_err1 is not None or len(tested) == 1  # a test error chooses nothing
    steps = sorted({net.steps for net in tested if net.steps})
    return [
        title(result),
        md.count(len(tested)),
        " to ".join(md.count(end) for end in dict.fromkeys((steps[0], steps[-1]))) if steps else "–",
        *([task.named(best), task.measured(inputs, best.to_json())] if chosen else ["–", "–"]),
        f"of {average['size']}" if average else "–",
        task.measured(inputs, average) if average else "–",
        *(table(inputs) for table in task.more.values()),
        _tally(result),
    ]


def _tally(result: Result) -> str:
    """3 hold, 1 fail, 2 inconclusive: of the claims that its trainings decide, not those counted on the nets."""
    words = {"holds": "hold", "fails": "fail", "inconclusive": "inconclusive"}
    trained = [kept["status"] for kept in result["claims"] if kept["id"] not in COUNTED]
    return ", ".join(f"{trained.count(status)} {word}" for status, word in words.items() if status in trained) or "–"


def _claims(results: Sequence[Result]) -> list[md.Block]:
    rows: list[list[str]] = []
    missing: list[Claim] = []
    for claim in CLAIMS:
        measured = [(result, kept) for result in results for kept in result["claims"] if kept["id"] == claim.id]
        if not measured:
            missing.append(claim)
        elif claim.id in COUNTED:
            measured = measured[:1]
        for at, (result, kept) in enumerate(measured):
            statement, reference = ("", "") if at else (claim.statement, claim.reference)
            where = "" if claim.id in COUNTED else title(result)
            length = "" if kept["length"] is None else md.percent(kept["length"], 0)
            rows.append([statement, md.strong(kept["status"]), where, length, kept["evidence"], reference])
    counted = sum(claim.id in COUNTED for claim in CLAIMS if claim not in missing)
    rules = " ".join(dict.fromkeys([NETS.rules, *(_task(result["evaluation"]).rules for result in results)]))
    text = (
        f"The trainings below measure {len(CLAIMS) - len(missing) - counted} of the paper's {md.plural(len(CLAIMS), 'claim')}; "
        f"{counted} follow from the architectures, without training. {rules} Length: steps of the shortest training behind "
        "the verdict, as a share of the paper's."
    )
    header = ["claim", "verdict", "experiment", "length", "evidence", "source"]
    summary = f"{md.plural(len(missing), 'claim')} not measured, and the commands that would measure them"
    if closed := sum(not claim.command for claim in missing):
        summary += f" ({closed} of them need a test server's labels)"
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
    task, inputs = _read(result)
    pictures = [
        md.picture(f"{result['name']}/{name}.png", f"{what} of {title(result)}", what[0].upper() + what[1:])
        for name, what in task.pictures.items()
        if name in result["pictures"]
    ]
    return [md.listing(_command(result)), made, *task.tables(inputs), *attempts(inputs), *pictures]
