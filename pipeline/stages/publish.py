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
from pipeline.errors import PipelineError, printable
from pipeline.record import best_on_validation, from_json
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
    those of the least validation error.

    Raises:
        PipelineError: evaluate has tested no such net with a validation error.
    """
    result = workspace.read_result("evaluate", "evaluate")
    tested: dict[str, dict[str, Any]] = {}  # by the net's name
    rows = [row for row in (*result["members"], *result["others"], result["run"]) if row and not row["snapshot"]]
    for net_name in dict.fromkeys(from_json(row).name for row in rows):
        if (best := best_on_validation([net for row in rows if (net := from_json(row)).name == net_name])) is not None:
            tested[net_name] = next(row for row in rows if row["checkpoint_sha256"] == best.checkpoint_sha256)
    chosen = {each: row for each, row in tested.items() if name in ("", each)}
    if not chosen:
        names = ", ".join(tested) or "none with a validation error"
        raise PipelineError(
            f"`pipeline publish weights {printable(name)}`: {workspace.shown(workspace.result('evaluate'))} has {names}"
        )
    source = Source.configured(config, workspace.store(config.data.name))
    with TemporaryDirectory() as scratch:
        for each, row in chosen.items():
            title = f"{config.data.name}-{re.sub('[^a-z0-9]', '', each.lower())}"
            file = workspace.root / FOLDER / f"{title}.safetensors"
            net = from_json(row)
            with replacing(file) as part:
                copyfile(source.fetch(net, Path(scratch)), part)
            with replacing(file.with_suffix(".md")) as part:
                part.write_text(card_of_net(title, net, row, result["data"], source.store.manifest))
            print(f"{workspace.shown(file)}: {each}, test error {100 * row['test_err1']:.2f} %")
