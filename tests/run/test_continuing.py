"""A training that goes on from another run's last checkpoint ends as one training of both lengths does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import make_model
from runs import (
    EPOCH,
    TINY,
    PowerCut,
    Workspaces,
    a_net,
    assert_same_run,
    composed,
    cut,
    metrics_in,
    same,
    save_net,
    train,
)

from pipeline.atomic import write_json
from pipeline.errors import PipelineError
from pipeline.learn.models import build_model
from pipeline.record import Net
from pipeline.run import CONFIG, RUN
from pipeline.run.recorder import Recorder
from pipeline.run.run import identify

CONSTANT = ("recipe.schedule=multistep", "recipe.milestones=[]", "recipe.warmup_fraction=0")
LAST = (*CONSTANT, "recipe.max_steps=50")


def last(root: Path, net: Net) -> dict:
    """The last checkpoint, without what counts validations, of which the first of two trainings has one more."""
    content = torch.load(root / "runs" / net.key / "last.ckpt", weights_only=True)
    content["classifier"].pop("plateau")
    return {key: content[key] for key in ("state_dict", "optimizer_states", "classifier", "global_step", "epoch")}


@pytest.mark.parametrize(
    "at", [EPOCH, 20, EPOCH - 1, *(pytest.param(at, marks=pytest.mark.slow) for at in (1, 18, 34))]
)
def test_two_trainings_in_a_row_are_one(at: int, workspace: Workspaces) -> None:
    root = workspace()
    whole = train(root, *LAST)
    first = train(root, *CONSTANT, f"recipe.max_steps={at}")
    second = train(root, *LAST, f"start.checkpoint={first.key}")
    assert len({whole.key, first.key, second.key}) == 3
    assert same(last(root, second), last(root, whole))
    assert (second.steps, second.start) == (50, f"the last step of {first.key}")
    losses, expected = (metrics_in(root / "runs" / net.key)["train/loss"] for net in (second, whole))
    assert losses == {step: loss for step, loss in expected.items() if step > at}
    assert second.seconds > first.seconds > 0


def test_one_that_was_cut_off_needs_its_predecessor_no_more(workspace: Workspaces, monkeypatch: Any) -> None:
    root, other = workspace(), workspace()
    nets = []
    for where in (root, other):
        first = train(where, *CONSTANT, "recipe.max_steps=20")
        if where is root:
            with monkeypatch.context() as patch:
                cut(patch, Recorder, "on_train_batch_end", 20, before=False)
                with pytest.raises(PowerCut):
                    train(where, *LAST, f"start.checkpoint={first.key}")
            (where / "runs" / first.key / "last.ckpt").write_bytes(b"torn")
        nets.append(train(where, *LAST, f"start.checkpoint={first.key}"))
    assert nets[0].key == nets[1].key
    assert_same_run(root / "runs" / nets[0].key, other / "runs" / nets[1].key)


def test_a_checkpoint_of_before_the_predecessors_end_is_refused(workspace: Workspaces, monkeypatch: Any) -> None:
    root = workspace()
    with monkeypatch.context() as patch:
        cut(patch, Recorder, "on_train_batch_end", 20, before=False)
        with pytest.raises(PowerCut):
            train(root, *CONSTANT, "recipe.max_steps=30", "trainer.checkpoint_every_steps=10")
    (earlier,) = root.glob("runs/*/last.ckpt")
    content = earlier.read_bytes()
    first = train(root, *CONSTANT, "recipe.max_steps=30", "trainer.checkpoint_every_steps=10")
    earlier.write_bytes(content)  # as a copy of another machine that brought all but the checkpoint
    with pytest.raises(PipelineError, match=r"last\.ckpt is of step \d+, and that run ended at step 30; remove "):
        train(root, *LAST, f"start.checkpoint={first.key}")


def test_what_cannot_go_on_is_refused_with_what_can(workspace: Workspaces) -> None:
    root = workspace()
    with pytest.raises(PipelineError, match=r"start\.checkpoint='\.\./x'; give the key of a finished run"):
        train(root, *LAST, "start.checkpoint=../x")
    with pytest.raises(PipelineError, match=r"start\.checkpoint=0123456789ab: there is no training of that key"):
        train(root, *LAST, "start.checkpoint='0123456789ab'")
    first = train(root, *CONSTANT, "recipe.max_steps=2")
    goes_on = f"start.checkpoint={first.key}"
    for change, sentence in (
        ("recipe.batch_size=16", r"recipe\.batch_size=32, not 16; .*\(override: recipe\.batch_size=32\)"),
        ("model.depth=14", r"model\.depth=8, not 14"),
        ("data.num_train=100", r"data\.num_train=0, not 100"),
        ("recipe.max_steps=2", r"has made 2 steps, .*\(override: recipe\.max_steps=4\)"),
    ):
        with pytest.raises(PipelineError, match=sentence):
            train(root, *LAST, goes_on, change)
    (root / "runs" / first.key / "last.ckpt").write_bytes(b"torn")
    with pytest.raises(PipelineError, match=r"last\.ckpt is damaged .*; remove .* to train that run anew"):
        train(root, *LAST, goes_on)


@pytest.mark.parametrize("content", ["", "start: [", "start:\n", "- start\n", "\0"])
def test_a_predecessor_whose_configuration_is_damaged_is_one_sentence_whose_remedy_works(
    content: str, workspace: Workspaces
) -> None:
    root = workspace()
    store = root / "data/store/digits"
    first = identify(composed(root, *TINY, *CONSTANT, "recipe.max_steps=2"), store, track=False)
    write_json(first.folder / RUN, {"status": "finished", "net": replace(first.net, steps=2).to_json()})
    (first.folder / "last.ckpt").touch()
    (first.folder / CONFIG).write_text(content)
    config = composed(root, *TINY, *LAST, f"start.checkpoint={first.key}")
    with pytest.raises(PipelineError, match=rf"{CONFIG} is damaged; copy it .* or remove it"):
        identify(config, store, track=False)
    (first.folder / CONFIG).unlink()
    assert identify(config, store, track=False).before is not None


def test_what_the_predecessor_saw_counts_and_its_layers_keep_their_shares_of_the_rate(
    workspace: Workspaces, tmp_path: Path
) -> None:
    root, file = workspace(), tmp_path / "net.safetensors"
    save_net(build_model(make_model(8), 10, 1), file, a_net(seen=("elsewhere",)))
    begins = (*CONSTANT, "recipe.max_steps=2", f"start.weights={file}")
    first, slow = train(root, *begins), train(root, *begins, "start.backbone_lr=0.1")
    config = composed(root, *TINY, *LAST, f"start.checkpoint={first.key}")
    assert identify(config, root / "data/store/digits", track=False).net.seen == ("elsewhere",)
    goes_on = (*CONSTANT, "recipe.max_steps=3", f"start.checkpoint={slow.key}")
    with pytest.raises(PipelineError, match=r"was trained with start\.backbone_lr=0\.1, not 1; layers keep") as told:
        train(root, *goes_on)
    (words,) = re.findall(r"\(override: (.*)\)", str(told.value))
    assert train(root, *goes_on, *words.split()).steps == 3
