"""The smallest training, and what a training leaves behind: files of the run's folder, a run in MLflow."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pipeline.config import AugmentConfig, ModelConfig
from pipeline.record import Net

# 50 steps in epochs of 17: the last epoch is cut short.
TINY = (
    "model.depth=8",
    "recipe.max_steps=50",
    "trainer.accelerator=cpu",
    "trainer.log_every_steps=1",
    "trainer.val_every_epochs=1",
    "tracking.system_metrics_every_s=0",
)
EPOCH = 17

Workspaces = Callable[[], Path]


def composed(root: Path, *overrides: str) -> Any:
    """Checked configuration of a workspace, its paths absolute."""
    from pipeline.anchor import anchor
    from pipeline.compose import compose
    from pipeline.config import from_dict

    return anchor(from_dict(compose(root, list(overrides))), root)


def configure_stored(root: Path, name: str, **values: Any) -> None:
    """Gives conf/data/<name>.yaml of a workspace the values of data.* that its store was made with."""
    path = root / "conf" / "data" / f"{name}.yaml"
    content = yaml.safe_load(path.read_text())
    content["data"] |= values
    path.write_text(f"# @package _global_\n{yaml.safe_dump(content)}")


def train(root: Path, *overrides: str, report: Any = None) -> Net:
    """A training of `TINY` in this process, without MLflow."""
    from pipeline.run.fit import fit

    return fit(composed(root, *TINY, *overrides), root / "data/store/digits", report=report, track=False)


def no_more(_: Any) -> None:
    """A report that stops the training, as a sweep's scheduler does."""
    from pipeline.run.fit import Stopped

    raise Stopped


class PowerCut(Exception):  # noqa: N818 (no error)
    """Ends a training on the spot."""


def cut(monkeypatch: Any, where: type, method: str, at: int, before: bool) -> None:
    """The `at`-th call of a method never begins, or never returns."""
    whole, calls = getattr(where, method), []

    @wraps(whole)  # Lightning looks at signatures
    def called(*arguments: object) -> object:
        calls.append(method)
        if len(calls) == at and before:
            raise PowerCut
        result = whole(*arguments)
        if len(calls) == at:
            raise PowerCut
        return result

    monkeypatch.setattr(where, method, called)


def a_net(**changes: Any) -> Net:
    """The record of a ResNet-8 for digits, with `changes` in place of its own."""
    values: dict[str, Any] = {"key": "0" * 12, "num_classes": 10, "in_channels": 1, "data": "hash", "split": "holdout"}
    values |= {"model": ModelConfig(depth=8, residual=True, shortcut="A"), "normalize": "per_pixel_mean"}
    values["augment"] = AugmentConfig(kind="pad_crop", crop=8, padding=1, flip=False)
    return Net(**values | changes)


def save_net(net: Any, path: Path, record: Net) -> None:
    """A file of weights whose images, of 8 x 8 pixels, need no normalisation."""
    import torch

    from pipeline.run.inputs import Input, Resize
    from pipeline.run.weights import save_weights

    channels, classes = record.in_channels, tuple(f"class {label}" for label in range(record.num_classes))
    resize = Resize(format="arrays", image_size=8, test_side=0, shape=(8, 8, channels))
    input = Input(classes=classes, resize=resize, mean=torch.zeros(1, 1, channels), std=torch.ones(channels))
    save_weights(net, path, record, input=input)


def run_folder(root: Path) -> Path:
    """Folder of the workspace's only run."""
    (journal,) = (root / "runs").glob("*/journal.jsonl")
    return journal.parent


def events(root: Path) -> list[dict[str, Any]]:
    """Journal of the workspace's only run."""
    return [json.loads(line) for line in (run_folder(root) / "journal.jsonl").read_text().splitlines()]


def metrics(root: Path, key: str) -> dict[int, float]:
    """Values in the journal of the workspace's only run by step."""
    return metrics_in(run_folder(root)).get(key, {})


def metrics_in(folder: Path) -> dict[str, dict[int, float]]:
    """Values in a run's journal by metric and step, without the attempts' numbers, of which a step may have several."""
    found: dict[str, dict[int, float]] = {}
    for line in (folder / "journal.jsonl").read_text().splitlines():
        event = json.loads(line)
        for key, value in event.get("values", {}).items():
            if key == "attempt":
                continue
            assert event["step"] not in found.setdefault(key, {}), f"{key} has a step twice"
            found[key][event["step"]] = value
    return found


def last_step(root: Path) -> int:
    """The last step in the journal of the workspace's only run, -1 before the first."""
    last = -1
    for path in (root / "runs").glob("*/journal.jsonl"):
        whole, _, _ = path.read_text().rpartition("\n")
        last = max((json.loads(line).get("step", -1) for line in whole.splitlines()), default=-1)
    return last


def checkpoint(root: Path) -> dict[str, Any]:
    import torch

    return torch.load(run_folder(root) / "last.ckpt", weights_only=True)


def weights(root: Path) -> bytes:
    """The best weights with their metadata, as they lie on disk."""
    return (run_folder(root) / "best.safetensors").read_bytes()


def same(one: Any, other: Any) -> bool:
    """Equality bit for bit of what a checkpoint can hold."""
    import torch

    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def assert_same_training(root: Path, other: Path) -> None:
    """See `assert_same_run`, for the only runs of two workspaces."""
    assert_same_run(run_folder(root), run_folder(other))


def assert_same_run(folder: Path, other: Path) -> None:
    """Two finished runs hold the same best and last weights, optimiser, position and selection."""
    import torch

    one, two = (torch.load(path / "last.ckpt", weights_only=True) for path in (folder, other))
    for part in ("run_key", "global_step", "epoch", "state_dict", "optimizer_states", "classifier", "callbacks"):
        assert same(one[part], two[part]), f"{part} differs"
    assert (folder / "best.safetensors").read_bytes() == (other / "best.safetensors").read_bytes()


class Tracked(NamedTuple):
    """A run as MLflow has it."""

    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, list[tuple[int, float]]]  # (step, value) in the order of steps, repetitions included

    @property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Metrics that the same training has again: those that tell no time and count no attempts."""
        varying = ("seconds", "images_per_s", "attempt")
        return {key: points for key, points in self.metrics.items() if key not in varying}


def tracked(root: Path, uri: str = "") -> list[Tracked]:
    """Every run of every experiment in a workspace's MLflow."""
    from pipeline.tracking.location import client, locate

    mlflow = client(locate(uri, root / "mlruns"))
    runs = []
    for experiment in mlflow.search_experiments():
        for run in mlflow.search_runs([experiment.experiment_id]):
            metrics = {
                key: sorted((point.step, point.value) for point in mlflow.get_metric_history(run.info.run_id, key))
                for key in run.data.metrics
            }
            runs.append(Tracked(run.info.status, run.data.tags, run.data.params, metrics))
    return runs


def assert_tracked_as(root: Path, reference: Path, uri: str = "") -> None:
    """MLflow has one finished run of the workspace, with the curves of the reference's and no step twice."""
    (run,), (expected,) = tracked(root, uri), tracked(reference)
    assert run.status == "FINISHED"
    for key, points in run.curves.items():
        assert len(points) == len(dict(points)), f"{key} has a step twice: {points}"
    assert {key: points for key, points in run.curves.items() if not key.startswith("system/")} == expected.curves


def follow(sentence: str, monkeypatch: Any) -> None:
    """Runs the `mlflow runs ...` command in the sentence of an error, in this process, where MLflow is imported already."""
    from click.testing import CliRunner
    from mlflow.runs import commands

    found = re.search(r"`(MLFLOW_TRACKING_URI=.+? mlflow runs .+?)`", sentence)
    assert found, sentence
    assignment, _, _, *words = shlex.split(found[1])
    monkeypatch.setenv(*assignment.split("=", 1))
    done = CliRunner().invoke(commands, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
