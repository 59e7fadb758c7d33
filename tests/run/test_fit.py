from __future__ import annotations

import json
import os
import random
import shutil
import signal
from functools import wraps
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from processes import Command
from runs import (
    EPOCH,
    TINY,
    PowerCut,
    Workspaces,
    assert_same_training,
    assert_tracked_as,
    checkpoint,
    metrics,
    no_more,
    run_folder,
    same,
    tracked,
    train,
    weights,
)

from pipeline.atomic import read_json, sha256, write_json
from pipeline.cli import INTERRUPTED, USER_ERROR
from pipeline.learn.training.classifier import Classifier, DivergedError
from pipeline.record import from_json
from pipeline.run.recorder import Recorder, Validated
from pipeline.run.stop import Interrupted
from pipeline.run.weights import load_weights


def killed_on_the_way(root: Path, steps: list[int], *overrides: str) -> None:
    """Starts a training again each time that it has been killed, last of all to its end."""
    for step in steps:
        command = Command(root, "train", *TINY, *overrides).at_step(step)
        command.signal(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL, command.output
    Command(root, "train", *TINY, *overrides).succeed()


def test_a_training_killed_at_random_steps_ends_in_the_same_weights_and_one_run(
    workspace: Workspaces, reference: Path
) -> None:
    root, chance = workspace(), random.Random(0)
    steps = [chance.randint(low, high) for low, high in ((3, 14), (19, 30), (36, 44))]
    killed_on_the_way(root, steps, "trainer.checkpoint_every_steps=4")
    assert_same_training(root, reference)
    assert_tracked_as(root, reference)


@pytest.mark.slow
@pytest.mark.parametrize("every", [0, 1, 4, EPOCH])
@pytest.mark.parametrize("seed", range(5))
def test_whenever_a_training_is_killed_it_ends_the_same(
    every: int, seed: int, workspace: Workspaces, reference: Path
) -> None:
    root, chance = workspace(), random.Random(seed)
    steps = sorted(chance.randint(1, 46) for _ in range(4))
    # Without checkpoints inside an epoch, a training starts again at its epoch's start and passes later steps yet.
    killed_on_the_way(root, steps, f"trainer.checkpoint_every_steps={every}")
    assert_same_training(root, reference)
    assert_tracked_as(root, reference)


def cut(monkeypatch: pytest.MonkeyPatch, where: type, method: str, at: int, before: bool) -> None:
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


ALSO = pytest.mark.slow


@pytest.mark.parametrize(
    ("where", "method", "at", "before"),
    [
        pytest.param(Classifier, "training_step", EPOCH, False, marks=ALSO),  # an epoch's last step made, no more
        (Recorder, "on_train_batch_end", EPOCH, False),  # ... and written down
        pytest.param(Recorder, "on_validation_end", 1, True, marks=ALSO),
        (Recorder, "on_validation_end", 1, False),  # best weights on disk, which the last checkpoint does not know
        pytest.param(Recorder, "on_train_epoch_end", 1, False, marks=ALSO),
        (Recorder, "on_train_batch_end", 50, False),  # training over, its validation is not
        pytest.param(Recorder, "on_validation_end", 3, False, marks=ALSO),
        pytest.param(Recorder, "on_train_epoch_end", 3, False, marks=ALSO),  # all done but the result
    ],
)
def test_no_moment_is_a_bad_one_to_lose_power(
    where: type, method: str, at: int, before: bool, workspace: Workspaces, reference: Path
) -> None:
    root = workspace()
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(PowerCut):
        cut(monkeypatch, where, method, at, before)
        train(root, f"trainer.checkpoint_every_steps={EPOCH}")
    assert train(root, f"trainer.checkpoint_every_steps={EPOCH}").complete
    assert_same_training(root, reference)
    for key in ("val/err1", "train/loss", "best/err1"):
        assert metrics(root, key) == metrics(reference, key)


def test_a_finished_run_is_returned_as_it_is(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    shutil.copytree(reference / "runs", root / "runs")
    before = {path.name: path.stat().st_mtime_ns for path in run_folder(root).iterdir()}
    seen: list[Validated] = []
    result = train(root, report=seen.append)
    assert not seen
    assert before == {path.name: path.stat().st_mtime_ns for path in run_folder(root).iterdir()}
    published = from_json(read_json(reference / "experiments" / "digits" / "train.json"))
    assert published == result


def test_a_run_that_ended_without_its_result_gets_it_without_training(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    shutil.copytree(reference / "runs", root / "runs")
    path = run_folder(root) / "run.json"
    run = read_json(path)
    write_json(path, {**run, "status": "running", "net": None})
    result = train(root)
    assert (result.complete, result.steps, result.step) == (True, 50, run["net"]["step"])
    assert_same_training(root, reference)
    assert metrics(root, "train/loss") == metrics(reference, "train/loss")


def test_a_changed_configuration_starts_afresh_beside_the_old_run(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    shutil.copytree(reference / "runs", root / "runs")
    old, kept = run_folder(root), weights(root)
    new = root / "runs" / train(root, "recipe.lr=0.05", report=no_more).key
    assert new != old
    steps = [json.loads(line).get("step") for line in (new / "journal.jsonl").read_text().splitlines()]
    assert steps[1] == 1  # from the first step on
    assert (old / "best.safetensors").read_bytes() == kept != (new / "best.safetensors").read_bytes()


def test_other_images_make_another_run(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    shutil.copytree(reference / "runs", root / "runs")
    manifest = root / "data/store/digits/manifest.json"
    write_json(manifest, {**read_json(manifest), "content_hash": "another"})
    assert train(root, "recipe.max_steps=2").key != run_folder(reference).name
    assert len(list((root / "runs").glob("*/run.json"))) == 2


@pytest.mark.parametrize(("every", "validated"), [pytest.param(2, [2 * EPOCH, 50], marks=pytest.mark.slow), (5, [50])])
def test_the_last_step_is_validated_though_its_epoch_is_not_due(
    every: int, validated: list[int], workspace: Workspaces, reference: Path
) -> None:
    root = workspace()
    result = train(root, f"trainer.val_every_epochs={every}")
    assert list(metrics(root, "val/err1")) == validated
    assert result.step == 50
    assert torch.equal(
        checkpoint(root)["state_dict"]["model.fc.bias"], checkpoint(reference)["state_dict"]["model.fc.bias"]
    )


def test_each_epoch_is_validated_and_the_best_weights_are_those_of_the_lowest_error(reference: Path) -> None:
    errors = metrics(reference, "val/err1")
    assert list(errors) == [EPOCH, 2 * EPOCH, 50]  # the last step too, though its epoch is not over
    _, net = load_weights(run_folder(reference) / "best.safetensors")
    published = read_json(reference / "experiments" / "digits" / "train.json")
    assert net.val_err1 == published["val_err1"] == min(errors.values())
    assert errors[published["step"]] == min(errors.values())
    assert net.model.depth == 8 and net.in_channels == 1


def test_the_full_split_trains_on_every_image_without_validation_and_keeps_the_last_weights(
    workspace: Workspaces,
) -> None:
    root = workspace()
    result = train(root, "data.split=full")
    assert (result.val_err1, result.val_err5, result.step) == (None, None, 50)
    assert not metrics(root, "val/err1")
    state, net = load_weights(run_folder(root) / "best.safetensors")
    last = checkpoint(root)["state_dict"]
    assert all(torch.equal(tensor, last[f"model.{name}"]) for name, tensor in state.items())
    assert net.split == "full" and net.seen == (net.data,)


def test_bf16_trains_beside_fp32(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    result = train(root, "recipe.precision=bf16")
    assert result.recipe and result.recipe.precision == "bf16" and result.val_err1 is not None and result.val_err1 < 0.4
    assert run_folder(root).name != run_folder(reference).name
    assert all(t.dtype == torch.float32 for t in checkpoint(root)["state_dict"].values() if t.is_floating_point())
    assert metrics(root, "train/loss") != metrics(reference, "train/loss")


def test_a_diverged_training_ends_with_one_sentence_and_a_failed_run(workspace: Workspaces) -> None:
    root = workspace()
    command = Command(root, "train", *TINY, "recipe.lr=1e30", "recipe.check_every_steps=2")
    assert command.wait() == USER_ERROR
    sentence = command.output.strip().splitlines()[-1]
    assert sentence.startswith("pipeline train: the training loss is nan at step 2; lower recipe.lr (1e+30)")
    assert "Traceback" not in command.output
    (run,) = tracked(root)
    assert run.status == "FAILED" and run.tags["pipeline.error"].startswith("DivergedError")
    facts = read_json(run_folder(root) / "run.json")
    assert (facts["status"], facts["step"]) == ("failed", 1)  # the second step is not whole


def test_logging_decides_nothing_of_when_a_diverged_loss_is_noticed(workspace: Workspaces) -> None:
    for every in (3, 50):
        with pytest.raises(DivergedError, match=r"at step 10; lower recipe\.lr"):
            train(workspace(), "recipe.lr=1e30", "recipe.check_every_steps=10", f"trainer.log_every_steps={every}")


def test_logging_checkpoints_and_steps_a_call_change_no_weight(workspace: Workspaces) -> None:
    one, other = workspace(), workspace()
    train(one, *WARM_UP)
    rarely = ("trainer.log_every_steps=7", "trainer.checkpoint_every_steps=3", "trainer.steps_per_call=5")
    train(other, *WARM_UP, *rarely)
    assert run_folder(one).name == run_folder(other).name
    ends = [checkpoint(root) for root in (one, other)]
    for part in ("state_dict", "optimizer_states", "classifier"):
        assert same(ends[0][part], ends[1][part]), f"{part} differs"
    assert weights(one) == weights(other)


WARM_UP = (
    "recipe.schedule=multistep",
    "recipe.milestones=[40]",
    "recipe.warmup_fraction=0",
    "recipe.warmup_lr=0.01",
    "recipe.warmup_until_err=0.8",
    "recipe.check_every_steps=2",
    "trainer.log_every_steps=2",
)


def test_the_warm_up_of_resnet_110_ends_by_its_rule_and_survives_a_break(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = workspace(), workspace()
    train(whole, *WARM_UP)
    errors, rates = metrics(whole, "train/err1"), metrics(whole, "lr")
    end = min(step for step, error in errors.items() if error < 0.8)
    assert 2 < end < 40, "the rule must bite on the way for this test to show anything"
    assert rates == {
        step: pytest.approx(0.01 if step <= end else 0.1 if step <= 40 else 0.01) for step in range(2, 51, 2)
    }
    start = Classifier.on_train_batch_start
    for stop in (end - 1, end + 1):  # a window is open at each

        def stopping(self: Classifier, batch: object, batch_idx: int, stop: int = stop) -> None:
            start(self, batch, batch_idx)
            if self.global_step == stop - 1:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Classifier, "on_train_batch_start", stopping)
        with pytest.raises(Interrupted):
            train(broken, *WARM_UP)
        assert checkpoint(broken)["classifier"]["warming"] is (stop < end)
    monkeypatch.setattr(Classifier, "on_train_batch_start", start)
    train(broken, *WARM_UP)
    assert_same_training(broken, whole)
    assert metrics(broken, "lr") == rates and metrics(broken, "train/err1") == errors


def test_a_warm_up_that_never_ends_is_told(workspace: Workspaces, capsys: pytest.CaptureFixture[str]) -> None:
    train(workspace(), *WARM_UP, "recipe.warmup_until_err=0.0001", "recipe.max_steps=45")
    assert "stayed at recipe.warmup_lr=0.01 to the end" in capsys.readouterr().err


def test_a_resumed_training_drops_what_the_unbroken_one_drops(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dropping(*_: object) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(64, 10))

    monkeypatch.setattr("pipeline.run.fit.build_model", dropping)
    whole, broken, other = workspace(), workspace(), workspace()
    train(whole)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut(patch, Recorder, "on_train_batch_end", 30, False)
        train(broken, "trainer.checkpoint_every_steps=7")
    torch.manual_seed(99)
    train(broken, "trainer.checkpoint_every_steps=7")
    assert_same_training(broken, whole)
    monkeypatch.setattr("pipeline.learn.training.classifier.noise_seed", lambda seed, step, rank: 0)
    train(other)
    assert metrics(other, "train/loss") != metrics(whole, "train/loss")


PLATEAU = (
    "recipe.schedule=plateau",
    "recipe.warmup_fraction=0",
    "recipe.plateau_patience=1",
    "recipe.plateau_margin=0.95",  # after the first validation, none is that much better
    "trainer.val_every_epochs=1",
)


def test_the_rate_falls_at_a_plateau_and_a_break_forgets_none_of_it(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = workspace(), workspace()
    train(whole, *PLATEAU)
    rates = metrics(whole, "lr")
    assert [rates[step] for step in (1, EPOCH, 2 * EPOCH, 2 * EPOCH + 1, 50)] == pytest.approx([0.1] * 3 + [0.01] * 2)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut(patch, Recorder, "on_train_epoch_end", 2, False)
        train(broken, *PLATEAU)
    assert checkpoint(broken)["classifier"]["plateau"]["drops"] == 1
    train(broken, *PLATEAU)
    assert_same_training(broken, whole)
    assert metrics(broken, "lr") == rates


def test_every_validation_is_reported_once_its_checkpoint_is_on_disk(workspace: Workspaces, reference: Path) -> None:
    root, seen, facts = workspace(), [], []

    def report(validated: Validated) -> None:
        facts.append(read_json(run_folder(root) / "run.json"))
        assert checkpoint(root)["global_step"] == validated.step
        assert load_weights(run_folder(root) / "best.safetensors")[1].step == validated.best["step"]
        seen.append(validated)

    train(root, report=report)
    assert [validated.step for validated in seen] == [EPOCH, 2 * EPOCH, 50]
    errors = metrics(reference, "val/err1")
    assert [validated.metrics["val/err1"] for validated in seen] == list(errors.values())
    assert all(two.best["val/err1"] <= one.best["val/err1"] for one, two in pairwise(seen))
    assert [(fact["status"], fact["step"]) for fact in facts] == [("running", step) for step in (EPOCH, 2 * EPOCH, 50)]
    assert 0 < facts[0]["seconds"] < facts[1]["seconds"] < facts[2]["seconds"]


def test_a_training_that_a_scheduler_stopped_is_whole_and_can_go_on(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    first = train(root, report=no_more)
    assert (first.complete, first.steps, first.step) == (False, EPOCH, EPOCH)
    assert read_json(run_folder(root) / "run.json")["status"] == "stopped"
    second = train(root)
    assert second.complete and second.seconds > first.seconds > 0  # of both attempts
    assert_same_training(root, reference)


def test_a_resumed_training_keeps_the_best_weights_of_before(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace()

    def worse_and_worse(self: Classifier) -> None:
        self.val_metrics = {"val/loss": 1.0, "val/err1": self.global_step / 100, "val/err5": 0.0}

    monkeypatch.setattr(Classifier, "on_validation_epoch_end", worse_and_worse)
    train(root, report=no_more)
    best = weights(root)
    result = train(root)
    assert (result.complete, result.step, result.val_err1) == (True, EPOCH, EPOCH / 100)
    assert weights(root) == best


def test_threads_layout_and_workers_decide_nothing_but_speed(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    result = train(root, "trainer.channels_last=false", "data.workers=3", "ensemble.size=2")
    assert result.key == run_folder(reference).name
    for name, tensor in checkpoint(root)["state_dict"].items():
        torch.testing.assert_close(tensor, checkpoint(reference)["state_dict"][name], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="generated code needs g++")
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_compiled_net_learns_the_same_and_goes_on_uncompiled(workspace: Workspaces, ranks: int) -> None:
    # In bf16 the compiled net rounds less often than the other: rounding of its own, but not as small as fp32's.
    root, reference, fp32 = workspace(), workspace(), "recipe.precision=fp32"
    train(reference, fp32)
    overrides = (fp32, "trainer.compile=true", f"trainer.devices={ranks}")
    command = Command(root, "train", *TINY, *overrides).at_step(EPOCH + 1)
    command.signal(signal.SIGTERM)
    assert command.wait() == INTERRUPTED, command.output
    train(root, fp32)
    assert run_folder(root).name == run_folder(reference).name
    losses, expected = metrics(root, "train/loss"), metrics(reference, "train/loss")
    assert losses.keys() == expected.keys()
    # Rounding grows from step to step, wherever it carries an activation over ReLU's edge.
    early = [step for step in expected if step <= 10]
    assert [losses[step] for step in early] == pytest.approx([expected[step] for step in early], rel=1e-4)
    assert losses == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trainer.compile=true", r"needs a C\+\+ compiler and no-such-compiler was not found"),
        ("recipe.batch_size=2000", "is larger than the 1150 training images"),
        pytest.param(
            "trainer.accelerator=gpu",
            "but torch finds no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU"),
        ),
    ],
)
def test_what_this_machine_or_these_data_cannot_do_is_refused(
    override: str, sentence: str, workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=f"{override}.* {sentence}"):
        train(workspace(), override)


def test_each_cycle_of_the_learning_rate_leaves_its_weights(workspace: Workspaces) -> None:
    root = workspace()
    cyclic = ("recipe.schedule=cosine", "recipe.milestones=[]", "recipe.cycles=2", "recipe.warmup_fraction=0")
    result = train(root, *cyclic)
    first, net = load_weights(run_folder(root) / "snapshot-25.safetensors")
    last, _ = load_weights(run_folder(root) / "snapshot-50.safetensors")
    assert net.step == net.snapshot == 25 and result.steps == 50
    ended = checkpoint(root)["state_dict"]
    assert all(torch.equal(last[name], ended[f"model.{name}"]) for name in last)
    assert not torch.equal(first["fc.weight"], last["fc.weight"])
    digests = tuple((step, sha256(run_folder(root) / f"snapshot-{step}.safetensors")) for step in (25, 50))
    assert from_json(read_json(run_folder(root) / "run.json")["net"]).snapshots == digests
