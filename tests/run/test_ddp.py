"""Several ranks on one machine train the same net as one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from processes import PATIENCE_S, Command, free_port, ranks, train_on_ranks, two_machines
from runs import TINY, Workspaces, checkpoint, composed, events, metrics, run_folder, tracked

from pipeline.atomic import read_json
from pipeline.learn.input.module import ImageData
from pipeline.learn.models import build_model
from pipeline.run.weights import load_weights

SHORT = (*TINY, "recipe.max_steps=20")


@pytest.fixture(scope="module")
def alone(workspace: Workspaces) -> Path:
    root = workspace()
    Command(root, "train", *SHORT).succeed()
    return root


@pytest.fixture(scope="module")
def together(workspace: Workspaces) -> Path:
    root = workspace()
    processes = ranks(root, "train", *SHORT)
    heard = listening(processes[0].at_step(1)) | listening(processes[1])
    for process in processes:
        process.succeed()
    assert heard == {"127.0.0.1"}
    return root


def listening(process: Command) -> set[str]:
    """Addresses at which a process and its children can be reached."""
    every = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    sockets = [entry for each in every for entry in each.net_connections("tcp")]
    return {entry.laddr.ip for entry in sockets if entry.status == psutil.CONN_LISTEN}


def assert_close(root: Path, other: Path, tolerance: float = 1e-4) -> None:
    one, two = checkpoint(root), checkpoint(other)
    assert one["global_step"] == two["global_step"] == 20
    for name, values in one["state_dict"].items():
        torch.testing.assert_close(values, two["state_dict"][name], rtol=0, atol=tolerance, msg=f"{name} differs")


def test_two_ranks_reach_the_weights_of_one_write_its_metrics_and_make_one_run(alone: Path, together: Path) -> None:
    assert_close(alone, together)
    one, two = (
        {(e["step"], key): value for e in events(root) for key, value in e.get("values", {}).items()}
        for root in (alone, together)
    )
    assert one.keys() == two.keys()
    timeless = [point for point in one if point[1] not in ("seconds", "images_per_s")]
    assert [one[point] for point in timeless] == pytest.approx([two[point] for point in timeless], abs=1e-4)
    (run,) = tracked(together)
    assert (run.status, run.params["trainer.devices"]) == ("FINISHED", "2")
    (processors,) = read_json(run_folder(together) / "run.json")["net"]["processors"]
    assert processors.startswith("2 ranks of ")


@pytest.fixture(scope="module")
def statistics_per_rank(workspace: Workspaces) -> Path:
    root = workspace()
    train_on_ranks(root, *SHORT, "trainer.sync_batchnorm=false")
    return root


@pytest.mark.parametrize("ranks", ["together", "statistics_per_rank"])
def test_the_validation_of_two_ranks_is_that_of_the_saved_weights(ranks: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(ranks)
    state, net = load_weights(run_folder(root) / "best.safetensors")
    model = build_model(net.model, net.num_classes, net.in_channels)
    model.load_state_dict(state)
    config = composed(root, *SHORT)
    data = ImageData(root / "data/store/digits", "holdout", config.recipe, config.seed, 1)
    wrong = count = loss = 0
    with torch.no_grad():
        for batch in data.val_dataloader():
            images, labels = data.on_after_batch_transfer(batch, 0)
            logits = model.eval()(images)
            loss += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            wrong += int((logits.argmax(1) != labels).sum())
            count += len(labels)
    assert count == 287
    assert metrics(root, "val/err1")[net.step] == wrong / count
    assert metrics(root, "val/loss")[net.step] == pytest.approx(loss / count, rel=1e-5)


def test_lightning_starts_the_ranks_that_the_configuration_asks_for(workspace: Workspaces, alone: Path) -> None:
    root = workspace()
    command = Command(root, "train", *SHORT, "trainer.devices=2").succeed()
    assert_close(alone, root)
    assert len(tracked(root)) == 1
    assert command.output.count("validation error") == 1


@pytest.mark.slow
def test_torchruns_ranks_are_used(workspace: Workspaces, alone: Path) -> None:
    root = workspace()
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pipeline")
    command = [sys.executable, "-m", *torchrun, "train", *SHORT, "trainer.devices=2", "trainer.launcher=torchrun"]
    subprocess.run(command, cwd=root, check=True, timeout=PATIENCE_S)
    assert_close(alone, root)
    assert len(tracked(root)) == 1


def test_two_machines_make_one_run(workspace: Workspaces, alone: Path) -> None:
    """As Lightning's own cluster environment tells them apart: by NODE_RANK."""
    root = workspace()
    for machine in two_machines((root, root), free_port(), *SHORT):
        machine.succeed()
    assert_close(alone, root)
    assert len(tracked(root)) == 1
