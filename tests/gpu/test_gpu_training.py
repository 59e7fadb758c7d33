"""Whether trainings on a GPU learn what they should: replayed and compiled steps, after a break, on several GPUs."""

from __future__ import annotations

import signal
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.commands import run, workspace
from benchmarks.rates import new_net
from benchmarks.synthetic import changed, paper_config
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.learn.training.classifier import Classifier
from pipeline.run import Interrupted
from pipeline.run.fit import STEPS_PER_CALL, fit
from pipeline.tracking import journal

STEPS = 12  # after more, rounding alone turns the weights aside as far as a mistake does
GRAPHS: dict[str, Any] = {"steps_per_call": STEPS_PER_CALL, "cuda_graphs": True}
PLAIN: dict[str, Any] = {"steps_per_call": 1}
# All change the rate at every step, the third the images' size as well: what a recording must not keep. The limits are
# shares of the distance that the weights go. On a CPU, convolutions that add in another order, as a device may choose
# between two trainings, turn the weights aside by 0.014, 0.14 and 0.018 of it; a rate that stays as recorded by 0.39,
# 0.54 and 0.40.
RECIPES: dict[str, tuple[dict[str, Any], float]] = {
    "one cycle": ({}, 0.08),
    "muon": ({"muon_lr": 0.02}, 0.27),
    "small images": ({"small_side": 20, "small_fraction": 0.5}, 0.08),
}


def configured(store: Store, accelerator: str = "gpu", **recipe: Any) -> Config:
    schedule = {"max_steps": STEPS, "lr": 0.01, "schedule": "one_cycle", "warmup_fraction": 0.9}
    config = paper_config(store, Path("/none"))
    trainer = {"accelerator": accelerator, "compile": False, "log_every_steps": STEPS_PER_CALL}
    return changed(config, recipe={"precision": "fp32", **schedule, **recipe}, trainer=trainer)


def weights(config: Config, store: Store, runs: Path, **trainer: Any) -> dict[str, Tensor]:
    """The last weights of a new training, on the CPU."""
    fit(changed(config, paths={"runs": str(runs)}, trainer=trainer), store.path, track=False)
    (path,) = runs.glob("*/last.ckpt")
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("model."): value for name, value in state.items()}


def aside(config: Config, store: Store, one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The distance between two trainings' last weights, over the distance that the first one's have gone."""
    torch.manual_seed(config.seed)
    start = {name: value.detach() for name, value in new_net(config, store).named_parameters()}
    apart = torch.stack([(other[name] - one[name]).norm() for name in start]).norm()
    return float(apart / torch.stack([(one[name] - first).norm() for name, first in start.items()]).norm())


def plain_weights(config: Config, store: Store, folder: Path, limit: float) -> tuple[dict[str, Tensor], float]:
    """Those of plain steps, and the limit: more where two such trainings differ by much, as cuDNN may choose other kernels."""
    plain, again = (weights(config, store, folder / name, **PLAIN) for name in ("plain", "again"))
    luck = aside(config, store, plain, again)
    assert luck < 0.1  # else a rate that stays as recorded would not stand out
    return plain, max(limit, 3 * luck)


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", RECIPES)
def test_replayed_steps_learn_what_plain_ones_do(
    recipe: str, store: Store, device: torch.device, tmp_path: Path
) -> None:
    values, limit = RECIPES[recipe]
    config = configured(store, **values)
    plain, limit = plain_weights(config, store, tmp_path, limit)
    assert aside(config, store, plain, weights(config, store, tmp_path / "graphs", **GRAPHS)) <= limit


def test_a_rate_that_a_recording_keeps_is_noticed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(configured(store, "cpu", batch_size=20), model={"depth": 8})
    plain = weights(config, store, tmp_path / "plain")
    assert aside(config, store, plain, weights(config, store, tmp_path / "again")) == 0
    right, recorded = Classifier._set_rate, []

    def set_rate(self: Classifier, rate: float) -> None:
        recorded.append(rate)
        right(self, recorded[min(len(recorded) - 1, 3)])

    monkeypatch.setattr(Classifier, "_set_rate", set_rate)
    assert aside(config, store, plain, weights(config, store, tmp_path / "wrong")) > RECIPES["one cycle"][1]


@pytest.mark.gpu
def test_compiled_steps_learn_what_plain_ones_do(store: Store, device: torch.device, tmp_path: Path) -> None:
    config = configured(store)
    plain, limit = plain_weights(config, store, tmp_path, RECIPES["one cycle"][1])
    for name, trainer in (("compiled", PLAIN), ("both", GRAPHS)):
        assert aside(config, store, plain, weights(config, store, tmp_path / name, **trainer, compile=True)) <= limit


@pytest.mark.gpu
def test_replayed_steps_wait_for_no_host(
    store: Store, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the step is recorded, a call that copies to the host or waits for the device raises an error."""
    whole, watched = Classifier.training_step, []

    @wraps(whole)  # Lightning looks at the signature
    def watch(self: Classifier, dataloader_iter: Any) -> None:
        recorded = STEPS_PER_CALL <= self.global_step < 2 * STEPS_PER_CALL
        watched.append(recorded)
        torch.cuda.set_sync_debug_mode("error" if recorded else "default")
        try:
            whole(self, dataloader_iter)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Classifier, "training_step", watch)
    config = configured(store, max_steps=3 * STEPS_PER_CALL, check_every_steps=1_000)  # a check reads the loss
    weights(config, store, tmp_path, **GRAPHS)
    assert any(watched)


@pytest.mark.gpu
@pytest.mark.parametrize("trainer", [PLAIN, GRAPHS], ids=["plain", "graphs"])
def test_a_run_goes_on_after_a_signal(
    trainer: dict[str, Any], store: Store, device: torch.device, tmp_path: Path
) -> None:
    """Both runs end at the same step and have written the same steps, none of them twice."""
    epoch = len(store.split_indices("holdout")[0]) // 128
    config = changed(
        configured(store, max_steps=epoch + epoch // 2, precision="bf16"),
        data={"split": "holdout"},
        trainer={**trainer, "log_every_steps": 10},
    )

    def interrupt(_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    cut, whole = (changed(config, paths={"runs": str(tmp_path / name)}) for name in ("cut", "whole"))
    with pytest.raises(Interrupted):
        fit(cut, store.path, report=interrupt, track=False)
    for each in (cut, whole):
        assert fit(each, store.path, track=False).steps == config.recipe.max_steps
    assert steps_and_losses(tmp_path / "cut")[0] == steps_and_losses(tmp_path / "whole")[0]


@pytest.mark.gpu
def test_all_gpus_learn_what_one_does(store: Store, device: torch.device, tmp_path: Path) -> None:
    count = torch.cuda.device_count()
    if count < 2:
        pytest.skip(f"needs two GPUs or more, found {count}")
    batch = 64 * count
    steps = len(store.split_indices("holdout")[0]) // batch
    losses = []
    for devices in (1, count):
        root = workspace(tmp_path / str(devices), "cifar10", store.path)
        run(
            root,
            *("pipeline", "train", "data=cifar10", "recipe=cifar_paper", "recipe.milestones=[]"),
            *(f"recipe.batch_size={batch}", f"recipe.max_steps={steps}", "trainer.log_every_steps=10"),
            *(f"trainer.devices={devices}", "trainer.accelerator=gpu", "trainer.compile=false"),
        )
        written, values = steps_and_losses(root / "runs")
        assert written[-1] == steps
        losses.append(values[0])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)  # the first window's; rounding grows from step to step


def steps_and_losses(runs: Path) -> tuple[list[int], list[float]]:
    """What the only run's journal holds about training, in the order of writing."""
    (path,) = runs.glob(f"*/{journal.NAME}")
    entries = [event for event in journal.read(path)[0] if "train/loss" in event.get("values", ())]
    return [entry["step"] for entry in entries], [entry["values"]["train/loss"] for entry in entries]
