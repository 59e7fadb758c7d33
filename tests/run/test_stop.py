"""Signals: a checkpoint, exit code 75, and a training that goes on as if nothing had happened."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from processes import PATIENCE_S, Command, ended, execute, pipeline, ranks, train_on_ranks, until
from runs import (
    EPOCH,
    TINY,
    Workspaces,
    assert_same_training,
    assert_tracked_as,
    checkpoint,
    metrics,
    run_folder,
    tracked,
    train,
)

from pipeline.atomic import read_json
from pipeline.cli import INTERRUPTED, USER_ERROR
from pipeline.learn.training.classifier import Classifier
from pipeline.run import Interrupted, stop
from pipeline.run.stop import DDP_EVERY, GracefulStop

TWO = (*TINY, "recipe.max_steps=100")
LONG = (*TINY, "recipe.max_steps=5000")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pipeline")


def test_every_signal_leaves_a_checkpoint_from_which_training_goes_on_unchanged(
    workspace: Workspaces, reference: Path
) -> None:
    root = workspace()
    # Of 50 steps; the last signal comes early enough to arrive before the end on a busy machine, too.
    for number, step in ((signal.SIGTERM, 8), (signal.SIGHUP, 14), (signal.SIGINT, 20)):
        command = Command(root, "train", *TINY).at_step(step)
        command.signal(number)
        assert command.wait() == INTERRUPTED == 75
        assert checkpoint(root)["global_step"] >= step
        assert command.output.rstrip().endswith("the same command resumes")
        assert "Traceback" not in command.output
        (run,) = tracked(root)
        assert run.status == "KILLED"
    Command(root, "train", *TINY).succeed()
    assert_same_training(root, reference)
    assert_tracked_as(root, reference)


def _signalled_at(step: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals this process once it is about to make optimiser step `step`."""
    whole, sent = Classifier.on_train_batch_start, []

    def start(self: Classifier, batch: object, batch_idx: int) -> None:
        whole(self, batch, batch_idx)
        if self.global_step == step - 1 and not sent:
            sent.append(step)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Classifier, "on_train_batch_start", start)


@pytest.mark.parametrize(
    "step", [EPOCH, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, EPOCH - 1, EPOCH + 1, 2 * EPOCH))]
)
def test_no_validation_is_lost_wherever_in_an_epoch_the_signal_comes(
    step: int, workspace: Workspaces, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace()
    _signalled_at(step, signal.SIGTERM, monkeypatch)
    with pytest.raises(Interrupted, match=f"stopped at step {step}$"):
        train(root)
    train(root)
    assert_same_training(root, reference)
    assert metrics(root, "val/err1") == metrics(reference, "val/err1")


def test_a_signal_during_the_last_step_lets_the_training_finish(
    workspace: Workspaces, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace()
    _signalled_at(50, signal.SIGTERM, monkeypatch)
    assert train(root).complete
    assert_same_training(root, reference)


def test_a_second_interrupt_ends_at_once(workspace: Workspaces, monkeypatch: pytest.MonkeyPatch) -> None:
    root, steps = workspace(), []

    def start(self: Classifier, batch: object, batch_idx: int) -> None:
        if self.global_step >= 19 and len(steps) < 2:
            steps.append(self.global_step)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # a person's second thought, no echo of the first

    monkeypatch.setattr(stop, "SECOND_SIGINT_S", 0.1)
    monkeypatch.setattr(Classifier, "on_train_batch_start", start)
    # No step ends between the two.
    monkeypatch.setattr(GracefulStop, "on_train_batch_end", lambda *_: None)
    with pytest.raises(SystemExit):
        train(root)
    assert (steps, checkpoint(root)["global_step"]) == ([19, 20], EPOCH)
    assert read_json(run_folder(root) / "run.json")["status"] == "interrupted"


def test_an_interrupt_that_comes_twice_at_once_is_one(
    workspace: Workspaces, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = workspace()
    _signalled_at(20, signal.SIGINT, monkeypatch)
    _signalled_at(20, signal.SIGINT, monkeypatch)
    with pytest.raises(Interrupted):
        train(root)
    train(root)
    assert_same_training(root, reference)


def test_a_signal_to_any_rank_or_to_all_stops_every_rank_with_a_checkpoint(workspace: Workspaces) -> None:
    trainings = [(signalled, workspace()) for signalled in ((0,), (1,), (0, 1))]
    started = [(signalled, root, ranks(root, "train", *TWO)) for signalled, root in trainings]
    for signalled, _, processes in started:
        processes[0].at_step(11)
        for rank in signalled:
            processes[rank].signal(signal.SIGTERM)
    for signalled, root, processes in started:
        codes = [process.wait() for process in processes]
        assert codes == [INTERRUPTED, 0], (signalled, codes, [process.output for process in processes])
        step = checkpoint(root)["global_step"]
        assert step > 11 and (step % DDP_EVERY == 0 or step % EPOCH == 0)
        assert [run.status for run in tracked(root)] == ["KILLED"]
    _, root, _ = started[1]
    train_on_ranks(root, *TWO)
    assert checkpoint(root)["global_step"] == 100
    assert [run.status for run in tracked(root)] == ["FINISHED"]


@pytest.fixture(scope="module")
def reference_of_two(workspace: Workspaces) -> Path:
    root = workspace()
    train_on_ranks(root, *TWO)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("signalled", ["rank 0", "rank 1", "group", "group SIGINT"])
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_ranks_that_a_launcher_made_stop_alike(
    launcher: str, signalled: str, workspace: Workspaces, reference_of_two: Path
) -> None:
    root, arguments = workspace(), ("train", *TWO, "trainer.devices=2")
    if launcher == "lightning":
        first = Command(root, *arguments).at_step(1)
        (second,) = psutil.Process(first.pid).children()
        pids = [first.pid, second.pid]
    else:
        first = Command(root, *TORCHRUN, *arguments, "trainer.launcher=torchrun", target=execute).at_step(1)
        pids = sorted(
            (process.pid for process in psutil.Process(first.pid).children(recursive=True)),
            key=lambda pid: int(psutil.Process(pid).environ()["RANK"]),
        )
    first.at_step(11)
    if signalled.startswith("group"):
        first.signal(signal.SIGINT if signalled.endswith("SIGINT") else signal.SIGTERM, group=True)
    else:
        os.kill(pids[int(signalled[-1])], signal.SIGTERM)
    code = first.wait()
    until(lambda: all(map(ended, pids)), "the ranks")
    # torchrun's own exit code is its own affair, as is what it does to a rank after another one has ended.
    assert launcher == "torchrun" or code == INTERRUPTED, first.output
    assert checkpoint(root)["global_step"] > 11
    assert read_json(run_folder(root) / "run.json")["status"] == "interrupted"
    assert [run.status for run in tracked(root)] == ["KILLED"]
    Command(root, *arguments).succeed()
    assert_same_training(root, reference_of_two)
    assert len(tracked(root)) == 1


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
def test_rank_zero_outlives_the_others_for_as_long_as_it_has_mlflow_to_tell(
    workspace: Workspaces, silent_server: str
) -> None:
    """Lightning and torchrun kill what is left within seconds of a rank's end with an error."""
    root = workspace()
    command = Command(root, "train", *TWO, "trainer.devices=2", f"tracking.uri={silent_server}").at_step(11)
    command.signal(signal.SIGTERM, group=True)
    until(lambda: read_json(run_folder(root) / "run.json")["status"] == "interrupted", "the end of training")
    time.sleep(0.5)
    command.signal(signal.SIGTERM, group=True)  # not even a second request cuts it short
    assert command.wait() == INTERRUPTED, command.output
    assert f"MLflow at {silent_server} does not have all of" in command.output


def dvc(*arguments: str) -> None:
    """A process that runs a stage as DVC does: with DVC_STAGE in the environment, and without passing signals on."""
    os.environ["DVC_STAGE"] = "train"
    if os.fork() == 0:
        pipeline(*arguments)
    time.sleep(PATIENCE_S)


def test_a_running_training_is_left_alone_by_a_second_and_ends_with_dvc(workspace: Workspaces) -> None:
    root = workspace()
    parent = Command(root, "train", *LONG, target=dvc).at_step(EPOCH + 1)
    trainer = read_json(run_folder(root) / "run.json")["pid"]
    assert trainer != parent.pid
    second = Command(root, "train", *LONG)
    assert second.wait() == USER_ERROR
    assert f"is being written by process {trainer} on {socket.gethostname()}" in second.output
    parent.signal(signal.SIGKILL)
    until(lambda: ended(trainer), "the orphan's end", patience_s=30)
    assert read_json(run_folder(root) / "run.json")["status"] == "interrupted"
    assert checkpoint(root)["global_step"] > EPOCH
    assert [run.status for run in tracked(root)] == ["KILLED"]


@pytest.mark.slow
def test_a_training_ends_with_dvc_though_a_shell_stands_between(workspace: Workspaces) -> None:
    """DVC runs a stage with `sh -c`; some shells then make way for the command, dash does not."""
    root = workspace()
    stage = shlex.join([sys.executable, "-m", "pipeline", "train", *LONG])
    script = f"import os, subprocess; os.environ['DVC_STAGE'] = 'train'; subprocess.run(['/bin/sh', '-c', {stage!r}])"
    parent = Command(root, "-c", script, target=execute).at_step(EPOCH + 1)
    trainer = read_json(run_folder(root) / "run.json")["pid"]
    parent.signal(signal.SIGKILL)
    until(lambda: ended(trainer), "the orphan's end", patience_s=30)
    assert checkpoint(root)["global_step"] > EPOCH
