"""Each addition to the recipe, by one table: it does something, and is the same resumed, with other workers, on two ranks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from processes import train_on_ranks
from runs import TINY, PowerCut, Workspaces, assert_same_training, checkpoint, cut, train

from pipeline.run.recorder import Recorder

SHORT = ("recipe.max_steps=20", "recipe.precision=fp32", "recipe.lr=0.01")  # into the second epoch
RECIPES: dict[str, tuple[str, ...]] = {
    "random erasing": ("recipe.augment.erasing=0.5",),
    "mixup": ("recipe.augment.mixup=0.4",),
    "CutMix": ("recipe.augment.cutmix=1",),
    "mixup or CutMix": ("recipe.augment.mixup=0.2", "recipe.augment.cutmix=1", "recipe.label_smoothing=0.1"),
    "TrivialAugment": ("recipe.augment.trivial_augment=true",),
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
    return checkpoint(root)["state_dict"]


@pytest.mark.parametrize("name", RECIPES)
def test_it_changes_the_weights(name: str, trained: Trained) -> None:
    plain, other = weights(trained("")), weights(trained(name))
    assert not torch.equal(plain["model.fc.weight"], other["model.fc.weight"])


@pytest.mark.parametrize("name", RECIPES)
def test_broken_off_and_resumed_with_other_workers_it_makes_the_same_bits(
    name: str, trained: Trained, workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = trained(name), workspace()
    more = ("data.workers=3", "trainer.checkpoint_every_steps=4", "trainer.steps_per_call=3")
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut(patch, Recorder, "on_train_batch_end", 6, False)
        train(broken, *SHORT, *RECIPES[name], *more)
    assert 0 < checkpoint(broken)["global_step"] < 20
    assert train(broken, *SHORT, *RECIPES[name], *more).complete
    assert_same_training(broken, whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_make_the_weights_of_one(name: str, trained: Trained, workspace: Workspaces) -> None:
    root = workspace()
    train_on_ranks(root, *TINY, *SHORT, *RECIPES[name])
    one, two = checkpoint(trained(name)), checkpoint(root)
    assert one["run_key"] == two["run_key"] and one["global_step"] == two["global_step"]
    for name, values in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], values, rtol=0, atol=TOLERANCE)
