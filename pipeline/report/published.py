"""Results that are kept in git: an experiment's JSON and pictures, and the pages made of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, replacing, write_json
from pipeline.report.claims import applies, assess
from pipeline.report.collection import PICTURES, collection, overview
from pipeline.report.curves import TRAIN, VAL, featured, series, windows
from pipeline.report.document import Document
from pipeline.report.inputs import Curve, ReportInputs, Trial
from pipeline.report.markdown import table, to_markdown
from pipeline.report.page import compose
from pipeline.report.theme import LIGHT, render

BEGIN, END = "<!-- results: made by `pipeline publish` -->", "<!-- end of results -->"
WEIGHTS = "start.weights"


def publish(inputs: ReportInputs, name: str, folder: Path, readme: Path) -> Path:
    """Writes `folder`/<name>.json and <name>/*.png, name being the experiment's, and the pages of all results.

    Raises:
        ValueError: the README has no place for its table.
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
    list_all(folder, readme)
    return path


def list_all(folder: Path, readme: Path) -> None:
    """Writes `folder`/README.md, every result in it, and the README's table, a row a result."""
    results = [read_json(path) for path in sorted(folder.glob("*.json"))]
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{readme} has no lines {BEGIN!r} and {END!r}; put them where the table belongs")
    before, rest = text.split(BEGIN, 1)
    with replacing(folder / "README.md") as part:
        part.write_text(to_markdown(collection(results)), encoding="utf-8")
    with replacing(readme) as part:
        after = rest.split(END, 1)[1]
        part.write_text(f"{before}{BEGIN}\n{table(overview(results))}\n{END}{after}", encoding="utf-8")


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
