"""Results that are kept in git: one JSON an experiment, and the README's table made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, replacing, write_json
from pipeline.report.document import count, interval, percent
from pipeline.report.inputs import ReportInputs, net_name

BEGIN, END = "<!-- results: made by `pipeline publish` -->", "<!-- end of results -->"


def publish(inputs: ReportInputs, name: str, folder: Path, readme: Path) -> Path:
    """Writes `folder`/<name>.json and renders the README's table anew from all files of `folder`.

    Raises:
        ValueError: the README has no place for the table.
    """
    path = folder / f"{name}.json"
    # Where MLflow lay matters to nobody else.
    provenance = {key: value for key, value in inputs.provenance.items() if key != "tracking_uri"}
    write_json(path, {"name": name, "data": inputs.data, "evaluation": inputs.evaluation, "provenance": provenance})
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{readme} has no lines {BEGIN!r} and {END!r}; put them where the table belongs")
    before, rest = text.split(BEGIN, 1)
    with replacing(readme) as part:
        part.write_text(
            f"{before}{BEGIN}\n{table(map(read_json, sorted(folder.glob('*.json'))))}{END}{rest.split(END, 1)[1]}"
        )
    return path


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """Markdown: a row a net and one an ensemble, test errors in percent with their 95 % intervals."""
    lines = [
        "| data | net | steps | validation | test error | 95 % interval | top-5 | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        evaluation, command = result["evaluation"], result["provenance"]["commands"]["the whole experiment"]
        for net in evaluation["members"]:
            lines.append(_row(result["name"], net_name(net["depth"], net["residual"]), count(net["steps"]), net, ""))
        average = evaluation["ensemble"]
        lines.append(_row(result["name"], f"**ensemble of {average['size']}**", "", average, f"`{command}`"))
    return "\n".join(lines) + "\n"


def _row(name: str, net: str, steps: str, values: Mapping[str, Any], command: str) -> str:
    errors = [
        percent(values["val_err1"]),
        percent(values["test_err1"]),
        interval(values["ci95"]),
        percent(values["test_err5"]),
    ]
    return "| " + " | ".join([name, net, steps, *errors, command]) + " |"
