"""How a training is described in MLflow: the parameters that people compare, its configuration, a note in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import yaml

from pipeline.atomic import replacing
from pipeline.config import Config, defaults, leaves
from pipeline.run import CONFIG
from pipeline.run.run import Run
from pipeline.run.start import start_title

SECTIONS = ("data", "model", "recipe", "start", "trainer")
# Compared between trainings even where all have the default.
FRONT = ("model.depth", "model.residual", "recipe.lr", "recipe.max_steps", "recipe.batch_size", "trainer.devices")


def params(run: Run, varied: str = "") -> dict[str, Any]:
    """MLflow's parameters: FRONT, what the sweep varies, and what differs from the code's defaults. CONFIG has all keys.

    Args:
        varied: keys, with commas between them.
    """
    config = run.config
    values = config.to_dict()
    given = dict(leaves({name: values[name] for name in SECTIONS}))
    usual = dict(leaves(defaults(Config)))
    shown = {*FRONT, *varied.split(",")}
    chosen = {key: value for key, value in given.items() if key in shown or value != usual.get(key)}
    return {"seed": config.seed, "precision": run.precision, **chosen}


def write_config(run: Run, require: Callable[[], object]) -> None:
    """The configuration, with which `pipeline train --config` makes the same run, in any checkout and on any machine."""
    values = run.config.to_dict()
    del values["paths"]  # folders of this machine; elsewhere the defaults, or the environment, name others
    with replacing(run.folder / CONFIG, require) as part:
        part.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def note(run: Run) -> str:
    """Markdown for the run's page."""
    net, recipe, config = run.net, run.config.recipe, run.config
    # Of several runs that start.weights names, one is taken.
    source = run.start.source if run.start else config.start.weights
    start = f", from {start_title(replace(config.start, weights=source))}" if net.start else ""
    return (
        f"{net.name} on {config.data.name} ({net.split} split, content {net.data[:12]}){start}: {recipe.max_steps:,} steps of "
        f"{recipe.batch_size} images at a learning rate of {recipe.lr:g}, seed {config.seed}, {run.precision}.\n\n"
        f"`pipeline train --config {CONFIG}` with the file among the artifacts makes the same run, `{run.key}`. "
        f'`mlflow.pyfunc.load_model("runs:/<this run\'s id>/model")` loads the net once it has finished.'
    )
