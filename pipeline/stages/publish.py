"""publish: this experiment's result into results/ and the README's table, or the weights of its nets into results/weights."""

from __future__ import annotations

import re
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.atomic import replacing
from pipeline.config import Config
from pipeline.ensemble.card import card_of_net
from pipeline.ensemble.members import Source
from pipeline.errors import PipelineError, hint, printable
from pipeline.record import Net, from_json
from pipeline.report.experiment import experiment_name
from pipeline.report.inputs import Results
from pipeline.report.published import publish
from pipeline.run.sources import FOLDER
from pipeline.stages.report import gather
from pipeline.tracking.location import locate
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    keep(gather(config, workspace, locate(config.tracking.uri, config.paths.mlruns)), config, workspace)


def keep(inputs: Results, config: Config, workspace: Workspace) -> None:
    """The result of any kind of net into results/, and its line into the README."""
    name = experiment_name(config.to_dict(), workspace.root)
    path = publish(inputs, name, workspace.root / "results", workspace.root / "README.md")
    print(f"{path.relative_to(workspace.root)} and README.md")


def weights(config: Config, workspace: Workspace, name: str) -> None:
    """Copies the weights of each net that evaluate tested, or of the one called `name`, with a card; of several runs of a net
    those of the least validation error. Runs that `_unfit` refuses are left out by name.

    Raises:
        PipelineError: evaluate has tested no such net.
    """
    result, path = workspace.read_result("evaluate", "evaluate"), workspace.shown(workspace.result("evaluate"))
    rows = [row for row in (*result["members"], *result["others"], result["run"]) if row and not row["snapshot"]]
    tested = {row["key"]: (from_json(row), row) for row in rows}  # the named run may be a member
    fit: dict[str, tuple[Net, dict[str, Any]]] = {}  # by the net's name
    for net, row in sorted(tested.values(), key=lambda pair: pair[0].rank):
        if not (why := _unfit(net)):
            fit.setdefault(net.name, (net, row))
        elif name in ("", net.name):
            print(f"{net.name} {net.key} is left out: {why}")
    chosen = {each: pair for each, pair in fit.items() if name in ("", each)}
    if not chosen:
        raise PipelineError(
            f"`pipeline publish weights {printable(name)}`: {path} has {', '.join(fit) or 'no net'} trained here with "
            f"data.split=holdout; {hint('evaluate')} with evaluation.runs=all tests every such run"
        )
    source = Source.configured(config, workspace.store(config.data.name))
    with TemporaryDirectory() as scratch:
        for each, (net, row) in chosen.items():
            title = f"{config.data.name}-{re.sub('[^a-z0-9]', '', each.lower())}"
            file = workspace.root / FOLDER / f"{title}.safetensors"
            with replacing(file) as part:
                copyfile(source.fetch(net, Path(scratch)), part)
            with replacing(file.with_suffix(".md")) as part:
                part.write_text(card_of_net(title, net, row, result["data"], source.store.manifest), encoding="utf-8")
            print(f"{workspace.shown(file)}: {each}, test error {100 * row['test_err1']:.2f} %")


def _unfit(net: Net) -> str:
    """Why the weights of a net are not published; "" if they are."""
    if net.recipe is None:
        return "adopted, so not trained here"
    return "" if net.val_err1 is not None else f"without a validation error, data.split={net.split}"
