"""Rank zero decides what all ranks must do alike, and the others need nothing of its disk."""

from __future__ import annotations

import shutil
import signal
import threading

import pytest
from processes import Command, free_port, two_machines, until
from runs import TINY, Workspaces, assert_same_training, composed, run_folder

from pipeline.cli import USER_ERROR
from pipeline.errors import PipelineError
from pipeline.run import begin, meeting
from pipeline.run.attempt import Attempt
from pipeline.run.launch import Launched
from pipeline.run.meeting import Meeting, RefusedByRankZero, SilentRanks
from pipeline.run.run import identify

TWO = (*TINY, "trainer.checkpoint_every_steps=5", "trainer.timeout_s=20")
INTERRUPTED = 75


def two() -> tuple[Meeting, Meeting]:
    port = free_port()
    first = Meeting("127.0.0.1", port, 0, 2, started=[1])
    return first, Meeting("127.0.0.1", port, 1, 2, started=[1])


def test_ranks_learn_decisions_in_the_order_in_which_all_ask() -> None:
    first, second = two()
    made = [first.decide(lambda: {"step": 7}), first.decide(lambda: None)]
    assert [second.decide(pytest.fail), second.decide(pytest.fail)] == made == [{"step": 7}, None]


def test_a_refusal_of_rank_zero_ends_the_others_with_its_sentence() -> None:
    first, second = two()
    refusing = threading.Thread(target=first.refuse, args=(PipelineError("no room"),))
    refusing.start()
    with pytest.raises(RefusedByRankZero, match=r"^no room$"):
        second.decide(pytest.fail)
    refusing.join(meeting.LEAVE_S / 2)  # it does not wait for ranks that know
    assert not refusing.is_alive()


def test_a_rank_that_cannot_take_part_and_one_that_never_comes_are_named(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two()
    second.quit("has other data")
    with pytest.raises(PipelineError, match=r"^rank 1 on .* has other data$"):
        first.gather(first.connect())
    monkeypatch.setattr(meeting, "START_S", 1.0)
    first, _ = two()
    with pytest.raises(SilentRanks, match=rf"^rank 1 did not come to 127\.0\.0\.1:{first.port} in 1 s$"):
        first.gather(first.connect())
    with pytest.raises(SilentRanks, match="rank 0 did not come"):
        Meeting("127.0.0.1", closed_port, 1, 2, started=[1]).decide(pytest.fail)
    with pytest.raises(SilentRanks, match="rank 0 did not come"):
        Meeting("127.0.0.1", first.port, 1, 2, started=[1]).decide(pytest.fail)


def test_a_rank_of_a_machine_that_came_back_meets_those_that_torchrun_has_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(meeting, "START_S", 5.0)
    first, second = two()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    first.decide(lambda: 7)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert second.decide(pytest.fail) == 7


def test_machines_that_share_no_folder_go_on_from_rank_zeros_checkpoint(workspace: Workspaces) -> None:
    undisturbed, cut, other = (workspace() for _ in range(3))
    for machine in two_machines((undisturbed, undisturbed), free_port(), *TWO):
        machine.succeed()
    machines = two_machines((cut, other), free_port(), *TWO)
    machines[0].at_step(23)
    for machine in machines:
        machine.signal(signal.SIGTERM)
    # The others end without an error.
    assert [machine.wait() for machine in machines] == [INTERRUPTED, 0], machines[0].output
    assert not (other / "runs").exists()
    for _ in range(2):  # to the end, and once more when nothing is left
        for machine in two_machines((cut, other), free_port(), *TWO):
            machine.succeed()
    assert_same_training(cut, undisturbed)


def test_a_machine_with_other_data_is_refused_on_both(workspace: Workspaces) -> None:
    roots = (workspace(), workspace())
    shutil.rmtree(roots[1] / "data")
    machines = two_machines(roots, free_port(), *TWO)
    assert [machine.wait() for machine in machines] == [USER_ERROR, USER_ERROR]
    for machine in machines:
        assert f"{roots[1]}/data/store/digits" in machine.output and "Traceback" not in machine.output
    assert "rank 1 on " in machines[0].output


def test_a_machine_without_a_gpu_is_refused_on_both_if_rank_zero_has_one(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, (first, second) = workspace(), two()
    config, store = composed(root, *TINY), root / "data/store/digits"
    run = identify(config, store, track=False)
    monkeypatch.setattr(begin, "uses_cuda", lambda _: True)
    first.decide(lambda: begin._told(begin.Beginning(run, Attempt(run), None, None, 0)))
    monkeypatch.setattr(begin, "uses_cuda", lambda _: False)
    sentence = r"would train on its CPU, and rank zero trains on its GPU; .*override: trainer\.accelerator=cpu"
    with pytest.raises(PipelineError, match=f"^{sentence}"):
        begin._follow(config, store, Launched(meeting=second))
    with pytest.raises(PipelineError, match=f"^rank 1 on .* {sentence}"):
        first.gather(first.connect())


def test_a_run_in_use_is_refused_on_all_ranks_at_once(workspace: Workspaces) -> None:
    root = workspace()
    user = Command(root, "train", *TINY, "recipe.max_steps=100000").at_step(1)
    machines = two_machines((root, root), free_port(), *TWO, "recipe.max_steps=100000")
    assert [machine.wait(60) for machine in machines] == [USER_ERROR, 0]
    assert f"is being written by process {user.pid}" in machines[0].output
    user.signal(signal.SIGTERM)
    until(lambda: not user.running, "the first training's end")
    assert run_folder(root)
