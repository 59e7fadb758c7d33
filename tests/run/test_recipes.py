"""Each addition to the recipe, by one table: it does something, and is the same resumed and on two ranks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from processes import train_on_ranks
from runs import TINY, PowerCut, Workspaces, assert_same_training, checkpoint, cut, metrics, run_folder, same, train
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from pipeline.atomic import read_json
from pipeline.run.recorder import Recorder
from pipeline.run.weights import load_weights

SHORT = ("recipe.max_steps=20", "recipe.precision=fp32", "recipe.lr=0.01")  # into the second epoch
RECIPES: dict[str, tuple[str, ...]] = {
    "random erasing": ("recipe.augment.erasing=0.5",),
    "mixup": ("recipe.augment.mixup=0.4",),
    "CutMix": ("recipe.augment.cutmix=1",),
    "mixup or CutMix": ("recipe.augment.mixup=0.2", "recipe.augment.cutmix=1", "recipe.label_smoothing=0.1"),
    "TrivialAugment": ("recipe.augment.trivial_augment=true",),
    "accumulation": ("recipe.accumulate=4",),
    "accumulation of mixed images": ("recipe.accumulate=2", "recipe.augment.mixup=0.4", "recipe.augment.erasing=0.5"),
    "average of weights": ("recipe.ema=0.9",),
    "label smoothing": ("recipe.label_smoothing=0.1",),
    "gradient clipping": ("recipe.clip_norm=0.5",),
    # At a low rate: AdamW's step has the rate's length however small the gradient, and so the length of its rounding.
    "AdamW": ("recipe.optimizer=adamw", "recipe.nesterov=false", "recipe.lr=0.0001"),
    "AdamW beside Muon": ("recipe.optimizer=adamw", "recipe.lr=0.0001", "recipe.muon_lr=0.002"),
}
TOLERANCE = 1e-4  # of test_ddp.py: two ranks add in another order

Trained = Callable[[str], Path]


@pytest.fixture(scope="module")
def trained(workspace: Workspaces) -> Trained:
    """The workspace of an uninterrupted training with a row of the table; "" for the plain recipe."""

    @cache
    def make(name: str) -> Path:
        root = workspace()
        assert train(root, *SHORT, *RECIPES.get(name, ())).complete
        return root

    return make


def weights(root: Path) -> dict[str, torch.Tensor]:
    """The last ones, with their average where there is one."""
    last = checkpoint(root)
    return {**last["state_dict"], **last["classifier"].get("average", {})}


@pytest.mark.parametrize("name", RECIPES)
def test_it_changes_the_weights_that_are_saved(name: str, trained: Trained) -> None:
    plain, other = (load_weights(run_folder(root) / "best.safetensors")[0] for root in (trained(""), trained(name)))
    assert not torch.equal(plain["fc.weight"], other["fc.weight"])


@pytest.mark.parametrize("name", RECIPES)
def test_broken_off_and_resumed_it_makes_the_same_bits(
    name: str, trained: Trained, workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = trained(name), workspace()
    more = ("trainer.checkpoint_every_steps=4", "trainer.steps_per_call=3")
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut(patch, Recorder, "on_train_batch_end", 6, False)
        train(broken, *SHORT, *RECIPES[name], *more)
    assert 0 < checkpoint(broken)["global_step"] < 20
    assert train(broken, *SHORT, *RECIPES[name], *more).complete
    assert_same_training(broken, whole)


def test_the_average_is_validated_and_saved_and_the_checkpoint_has_the_weights_too(trained: Trained) -> None:
    root, plain = trained("average of weights"), trained("")
    last = checkpoint(root)
    assert same(last["state_dict"], weights(plain))  # the training itself is the same
    saved, net = load_weights(run_folder(root) / "best.safetensors")
    average = {name.removeprefix("average."): tensor for name, tensor in last["classifier"]["average"].items()}
    assert net.step == 20 and same(saved, average)
    assert metrics(root, "val/loss") != metrics(plain, "val/loss")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_make_the_weights_of_one(name: str, trained: Trained, workspace: Workspaces) -> None:
    root = workspace()
    train_on_ranks(root, *TINY, *SHORT, *RECIPES[name])
    assert run_folder(root).name == run_folder(trained(name)).name
    one, two = weights(trained(name)), weights(root)
    assert one.keys() == two.keys()
    for layer, values in one.items():
        torch.testing.assert_close(two[layer], values, rtol=0, atol=TOLERANCE, msg=f"{layer} differs")


class Exchanges(pl.Callback):
    """Counts a rank's exchanges of gradients, into a file of the working folder."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        # A lambda, because torch rejects string annotations.
        trainer.strategy.model.register_comm_hook(self, lambda counter, bucket: counter.exchange(bucket))  # type: ignore[operator, union-attr]

    def exchange(self, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
        self.count += 1
        return allreduce_hook(None, bucket)  # type: ignore[arg-type]

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        Path(f"exchanges-{trainer.global_rank}").write_text(str(self.count))


@pytest.mark.slow
def test_ranks_exchange_the_gradients_of_all_parts_once_a_step(workspace: Workspaces) -> None:
    root = workspace()
    counted = f"trainer.callbacks=[{{_target_:{Exchanges.__module__}.Exchanges}}]"
    train_on_ranks(root, *TINY, *SHORT, "recipe.accumulate=4", counted)
    assert [int((root / f"exchanges-{rank}").read_text()) for rank in range(2)] == [20, 20]


@pytest.mark.slow
def test_two_ranks_end_early_at_the_step_of_one(workspace: Workspaces) -> None:
    alone, together = workspace(), workspace()
    early = ("recipe.max_steps=400", "recipe.stop_patience=2", "recipe.precision=fp32", "recipe.lr=0.0001")
    net = train(alone, *early)
    train_on_ranks(together, *TINY, *early)
    record = read_json(run_folder(together) / "run.json")["net"]
    assert 0 < net.steps < 400 and net.ended
    assert (record["steps"], record["ended"]) == (net.steps, net.ended)
