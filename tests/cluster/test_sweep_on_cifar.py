"""A sweep on the real CIFAR-10 over three hosts that share no folder, one of which is cut off in the middle."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from apart import Apart
from hosts import wait_for
from outcome import assert_tracked
from processes import Command
from published import SHARED, needs
from runs import Workspaces, assert_same_run

from pipeline.atomic import read_json

pytestmark = [pytest.mark.cluster, pytest.mark.slow, needs("cifar10.tgz")]
EVERY = 25  # steps between checkpoints
DATA = ("data=cifar10", f"data.mirror={SHARED}")
TRAINING = (
    *(
        *DATA,
        "data.num_train=6400",
        "recipe.max_steps=200",
        "recipe.milestones=[100,150]",
        "trainer.accelerator=cpu",
        "trainer.threads=1",
    ),
    *("trainer.val_every_epochs=1", "trainer.log_every_steps=10", f"trainer.checkpoint_every_steps={EVERY}"),
    "trainer.compile=false",
)
SPACE = "sweep.space={model.depth:[8,14],recipe.lr:[0.2,0.1,0.05,0.02]}"
PATIENCE_S = 1800


def test_eight_trainings_on_cifar_with_object_storage_over_three_hosts_one_of_which_is_cut_off(
    apart: Apart, workspace: Workspaces, figures: Callable[[str], None]
) -> None:
    for verb in ("fetch", "preprocess"):
        apart.hosts["head"].start(sys.executable, "-m", "pipeline", verb, *DATA, cwd=apart.root).succeed()
    cluster = ("cluster=ray", f"cluster.address={apart.address}", "sweep.reduction_factor=0")
    driver = apart.command("sweep", SPACE, *cluster, training=TRAINING)
    key, name = wait_for(driver, lambda: apart.see() and apart.training(beyond=3 * EVERY), "a training", PATIENCE_S)
    before = apart.step(key)
    apart.hosts[name].cut()
    wait_for(driver, lambda: apart.see() and apart.host(key) != name, "another attempt at the trial", PATIENCE_S)
    apart.hosts[name].join()
    status = apart.command("sweep status", SPACE, *cluster, on="w1", training=TRAINING).succeed()
    assert "of 8 done" in status.output, status.output
    driver.succeed(PATIENCE_S)
    apart.bring()

    trials = read_json(apart.root / "experiments" / "cifar10" / "leaderboard.json")["trials"]
    assert [trial["status"] for trial in trials] == ["finished"] * 8
    assert_tracked(apart, {trial["key"] for trial in trials}, "cifar10")
    assert apart.attempts(key) == 2
    (lost,) = [trial["config"] for trial in trials if trial["key"] == key]
    alone = workspace()
    (alone / "data").rename(alone / "digits")
    (alone / "data").symlink_to(apart.root / "data")
    assert Command(alone, "train", *TRAINING, *(f"{k}={value}" for k, value in lost.items())).wait(PATIENCE_S) == 0
    assert_same_run(apart.root / "runs" / key, alone / "runs" / key)
    best = min(trial["val_err1"] for trial in trials)
    figures(
        f"cut off at step {before}; all eight end, weights of the lost one as alone; best validation error {best:.1%}"
    )
