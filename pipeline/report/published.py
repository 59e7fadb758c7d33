"""Results that are kept in git: an experiment's JSON and pictures, and the README's table made of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, replacing, write_json
from pipeline.report.claims import applies, assess
from pipeline.report.curves import TRAIN, VAL, featured, series, windows
from pipeline.report.document import Document, count, interval, percent
from pipeline.report.inputs import Curve, ReportInputs, Trial, evaluated, named, split_of
from pipeline.report.page import compose
from pipeline.report.theme import LIGHT, render

BEGIN, END = "<!-- results: made by `pipeline publish` -->", "<!-- end of results -->"
WEIGHTS = "start.weights"
PICTURES = {
    "curves": "learning curves",
    "responses": "layer responses",
    "cost": "error against cost",
    "transfer": "transfer",
}


def publish(inputs: ReportInputs, name: str, folder: Path, readme: Path) -> Path:
    """Writes `folder`/<name>.json and <name>/*.png, name being the experiment's, and the README's table of all results.

    Raises:
        ValueError: the README has no place for the table.
    """
    path = folder / f"{name}.json"
    # Where MLflow lay matters to nobody else.
    provenance = {key: value for key, value in inputs.provenance.items() if key != "tracking_uri"}
    board = {**inputs.leaderboard, "trials": [_elsewhere(t) for t in inputs.trials]} if inputs.leaderboard else None
    result = {"name": name, "data": inputs.data, "evaluation": inputs.evaluation, "leaderboard": board}
    measured = {"curves": [_thin(curve) for curve in featured(inputs.curves)], "responses": list(inputs.responses)}
    outcomes = [found for found in assess(inputs) if applies(found.claim, inputs.data["name"])]
    held = [found.to_json() for found in outcomes if found.status != "not measured"]
    pictures = _draw(compose(inputs, outcomes), folder / name)
    write_json(path, {**result, **measured, "claims": held, "pictures": pictures, "provenance": provenance})
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{readme} has no lines {BEGIN!r} and {END!r}; put them where the table belongs")
    before, rest = text.split(BEGIN, 1)
    with replacing(readme) as part:
        part.write_text(
            f"{before}{BEGIN}\n{table([read_json(path) for path in sorted(folder.glob('*.json'))])}{END}{rest.split(END, 1)[1]}"
        )
    return path


def _draw(document: Document, folder: Path) -> list[str]:
    """The figures that are kept, as light PNGs in `folder`, which they replace; their names."""
    drawn = {figure.name: render(figure.draw, LIGHT) for figure in document.figures() if figure.name in PICTURES}
    with replacing(folder) as part:
        part.mkdir(parents=True)
        for name, image in drawn.items():
            (part / f"{name}.png").write_bytes(image)
    return list(drawn)


def _elsewhere(trial: Trial) -> dict[str, Any]:
    """A trial without the folder in which its first weights lay on this machine."""
    config = dict(trial["config"])
    if config.get(WEIGHTS):
        config[WEIGHTS] = Path(config[WEIGHTS]).name
    return {**trial, "config": config}


def _thin(curve: Curve) -> dict[str, Any]:
    """A curve as the figure draws it, errors to a hundredth of a percent."""
    drawn = {TRAIN: windows(series(curve, TRAIN)), VAL: series(curve, VAL)}
    points = {metric: [[round(step), round(error, 4)] for step, error in values] for metric, values in drawn.items()}
    return {**curve, "points": points}


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a net and one an ensemble, test errors in percent with 95 % intervals; then a line of links each."""
    header = ["data", "net", "steps", "minutes", "validation", "test error", "95 % interval"]
    header += ["top-5", "95 % interval", "command"]
    lines = [_line(header), "|" + "---|" * len(header)]
    for result in results:
        data, evaluation = result["data"]["name"], result["evaluation"]
        for at, net in enumerate(evaluated(evaluation)):
            apart = at >= len(evaluation["members"]) and net is evaluation.get("run")
            name = named(net) + (" (named run)" if apart else "")
            name += ", trained on all images" if split_of(net) == "full" else ""
            minutes = f"{net['seconds'] / 60:.1f}" if "seconds" in net and not net.get("snapshot") else ""
            lines.append(_line([data, name, count(net["steps"] or None), minutes, *_errors(net), ""]))
        average, command = evaluation["ensemble"], result["provenance"]["commands"]["the whole experiment"]
        lines.append(_line([data, f"**ensemble of {average['size']}**", "", "", *_errors(average), f"`{command}`"]))
    lines += ["", *filter(None, map(_links, results))]
    return "\n".join(lines).rstrip() + "\n"


def _links(result: Mapping[str, Any]) -> str:
    """A line of the README: an experiment's pictures and how many of the paper's claims it measured."""
    name, pictures, claims = result["name"], result.get("pictures", []), result.get("claims", [])
    links = [f"[{PICTURES[picture]}](results/{name}/{picture}.png)" for picture in pictures]
    if claims:
        tally = ", ".join(f"{sum(c['status'] == s for c in claims)} {s[:-1]}" for s in ("holds", "fails"))
        links.append(f"[the paper's claims](results/{name}.json): {tally}")
    return f"- {name}: {', '.join(links)}" if links else ""


def _errors(values: Mapping[str, Any]) -> list[str]:
    return [
        percent(values["val_err1"]),
        percent(values["test_err1"]),
        interval(values["ci95"]),
        percent(values["test_err5"]),
        interval(values.get("ci95_err5")),
    ]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
