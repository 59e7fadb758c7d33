"""A process is the rank that trainer.launcher makes it, whatever else its environment holds."""

from __future__ import annotations

import os
import re

import pytest
import torch
from processes import Command, free_port
from runs import TINY, Workspaces, metrics, run_folder, train

from pipeline.atomic import read_json
from pipeline.config import TrainerConfig
from pipeline.errors import PipelineError
from pipeline.run.launch import join_ranks, present, rank, set_rank

TORCHRUN = {"TORCHELASTIC_RUN_ID": "r", "RANK": "3", "GROUP_RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}
SLURM = {"SLURM_PROCID": "3", "SLURM_NODEID": "1", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4"}
SLURM |= {"SLURM_JOB_ID": "712345", "SLURM_JOB_NODELIST": "gpu[07-08]"}
MACHINE = {"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch):
    """Sets these variables; they, the ones that joining sets and the rank end with the test."""
    before = dict(os.environ)
    yield lambda values: [monkeypatch.setenv(*item) for item in values.items()]
    monkeypatch.undo()
    os.environ.clear()
    os.environ.update(before)
    set_rank(0)


def four(launcher: str) -> TrainerConfig:
    return TrainerConfig(devices=2, num_nodes=2, launcher=launcher)


@pytest.mark.parametrize(
    ("values", "trainer", "expected"),
    [
        (TORCHRUN, four("torchrun"), 3),
        (SLURM, four("slurm"), 3),
        (MACHINE, four("lightning"), 2),
        ({}, TrainerConfig(), 0),
        (SLURM, TrainerConfig(), 0),  # a trial of Ray inside a job
        ({**MACHINE, "LOCAL_RANK": "1", "RANK": "1"}, TrainerConfig(), 0),  # left over
    ],
)
def test_the_rank_is_what_the_launcher_says(values, trainer, expected, environment) -> None:
    environment(values)
    made = join_ranks(trainer)
    assert rank() == expected
    assert made.creates_processes_externally == (trainer.launcher != "lightning")


def test_elastic_ranks_are_as_many_as_torchrun_has_and_must_not_meet_at_its_store(environment) -> None:
    trainer = TrainerConfig(devices=2, num_nodes=3, launcher="torchrun", elastic=True)
    environment({**TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE": "False"})
    assert present(trainer).num_nodes == 2
    environment({"TORCHELASTIC_USE_AGENT_STORE": "True"})
    with pytest.raises(PipelineError, match="start torchrun with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        present(trainer)


def test_ranks_of_slurm_meet_on_the_jobs_first_machine_at_the_jobs_own_port(environment) -> None:
    environment(SLURM)
    made = join_ranks(four("slurm"))
    assert (made.main_address, made.main_port, made.node_rank(), made.local_rank()) == ("gpu07", 17345, 1, 1)


@pytest.mark.parametrize(
    ("values", "trainer", "sentence"),
    [
        (TORCHRUN, four("lightning"), "torchrun started this process.*override: trainer.launcher=torchrun"),
        ({}, four("torchrun"), "torchrun did not start this process"),
        (TORCHRUN, four("slurm"), "srun did not start this process"),
        (TORCHRUN, TrainerConfig(launcher="torchrun"), "torchrun started 4 ranks.*trainer.devices=1"),
        ({**SLURM, "SLURM_LOCALID": "2"}, four("slurm"), "at least 3 on this machine"),
        ({"MASTER_PORT": "1"}, four("lightning"), "needs NODE_RANK, MASTER_ADDR in the environment"),
        (
            {**SLURM, "SLURM_NTASKS": "4(x2)"},
            four("slurm"),
            r"SLURM_NTASKS=4\(x2\) in the environment; it must be a number",
        ),
    ],
)
def test_ranks_that_do_not_fit_are_refused_in_one_sentence(values, trainer, sentence, environment) -> None:
    environment(values)
    with pytest.raises(PipelineError) as error:
        join_ranks(trainer)
    assert re.search(sentence, str(error.value)) and "\n" not in str(error.value)


def test_more_ranks_than_gpus_are_refused_before_anything_is_written(
    workspace: Workspaces, environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment({"CUDA_VISIBLE_DEVICES": "0"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    root = workspace()
    sees = r"sees 1 of its machine's GPUs \(CUDA_VISIBLE_DEVICES: 0\)"
    remedy = r".*--gpus-per-task.*\(override: trainer\.devices=1\)$"
    with pytest.raises(PipelineError, match=rf"^trainer\.devices=2, and this process {sees}{remedy}"):
        train(root, "trainer.accelerator=auto", "trainer.devices=2")
    assert not (root / "runs").exists()


def test_a_training_inside_a_job_of_slurm_that_is_not_its_rank_keeps_its_result(workspace: Workspaces) -> None:
    root = workspace()
    Command(root, "train", *TINY, "recipe.max_steps=5", environment=SLURM).succeed()
    assert read_json(run_folder(root) / "run.json")["status"] == "finished"
    assert len(metrics(root, "train/loss")) == 5


@pytest.mark.slow
def test_ranks_of_srun_train_one_net(workspace: Workspaces) -> None:
    root, shared = workspace(), {"SLURM_NTASKS": "2", "SLURM_NODEID": "0", "MASTER_PORT": str(free_port())}
    shared["SLURM_JOB_NODELIST"] = "127.0.0.1"
    commands = [
        Command(
            root,
            *("train", *TINY, "recipe.max_steps=5", "trainer.devices=2", "trainer.launcher=slurm"),
            environment={**shared, "SLURM_PROCID": str(at), "SLURM_LOCALID": str(at)},
        )
        for at in range(2)
    ]
    for command in commands:
        command.succeed()
    assert read_json(run_folder(root) / "run.json")["processors"] == ["2 ranks of 1 thread"]
