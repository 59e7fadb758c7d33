"""A trial leaves a machine that Ray drains, with a checkpoint, and goes on elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from processes import Command, execute, until
from runs import events, last_step, metrics_in, run_folder

from pipeline.atomic import read_json
from pipeline.tuning import draining
from pipeline.tuning.console import failure

PATIENCE_S = 300


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray whose head has no room for trials; short paths, since it makes sockets there."""
    from ray.cluster_utils import Cluster

    with TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # whatever token its user has for other clusters
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            yield made
        finally:
            made.shutdown()


def drain(cluster: Any, node: Any) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    words = [ray, "drain-node", "--address", cluster.address, "--node-id", node.node_id]
    words += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "test"]
    words += ["--deadline-remaining-seconds", "120"]
    subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE_S)


def test_a_machine_is_drained_once_the_cluster_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    told: dict[str, int] = {}
    now = [1_000.0]
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "own"))
    monkeypatch.setattr(draining, "_draining", lambda: dict(told))
    monkeypatch.setattr(draining, "_address", lambda: "10.0.0.2")
    monkeypatch.setattr(draining.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(draining.time, "time", lambda: 5_000.0)
    asked = draining.Draining()
    told["another"] = 0
    assert not asked() and not asked.why
    told["own"] = 5_030_000
    assert not asked()  # it does not look at each step
    now[0] += draining.LOOK_S
    assert asked() and asked.why == "10.0.0.2 is drained and goes in 30 s"
    told.clear()
    assert asked()


def test_a_trial_that_left_is_told_apart_from_one_that_failed(tmp_path: Path) -> None:
    def last(text: str) -> Any:
        (tmp_path / "error.txt").write_text(text)
        return failure(SimpleNamespace(error_file=str(tmp_path / "error.txt"), last_result={}))

    left = last("Traceback\npipeline.tuning.draining.Preempted: 10.0.0.2 is drained; stopped at step 9\n")
    assert left == ("10.0.0.2 is drained; stopped at step 9", "", True, True)
    failed = last("Traceback\nValueError: no\n")
    assert (failed.lost, failed.drained) == (False, False)


@pytest.mark.slow
def test_a_trial_moves_from_a_drained_machine_and_makes_no_step_twice(workspace: Any, cluster: Any) -> None:
    root, spot = workspace(), cluster.add_node(num_cpus=1)
    sweep = Command(
        root,
        *("-m", "pipeline", "sweep", "sweep.space={model.depth:[8]}", "sweep.reduction_factor=0"),
        *("recipe.max_steps=2000", "trainer.accelerator=cpu", "trainer.log_every_steps=1"),
        *("trainer.val_every_epochs=50", "tracking.system_metrics_every_s=0"),
        *("cluster.max_failures=1", f"cluster.address={cluster.address}"),
        target=execute,
    )
    until(lambda: list((root / "runs").glob("*/last.ckpt")) or not sweep.running, "a checkpoint", PATIENCE_S)
    assert sweep.running, sweep.output
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    drain(cluster, spot)
    assert sweep.wait(PATIENCE_S) == 0, sweep.output
    assert "was moved from its machine" in sweep.output and "is drained and goes in" in sweep.output, sweep.output
    (folder,) = {path.parent for path in (root / "runs").glob("*/last.ckpt")}
    run, steps = read_json(folder / "run.json"), sorted(metrics_in(folder)["train/loss"])
    assert (run["status"], run["step"]) == ("finished", 2000) and steps == list(range(1, 2001))
    begun = [json.loads(line)["event"] for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert begun.count("begin") == 2


@pytest.mark.slow
def test_ranks_leave_a_drained_machine_which_is_no_failure(workspace: Any, cluster: Any) -> None:
    root, spot = workspace(), cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    training = Command(
        root,
        *("-m", "pipeline", "train", "model.depth=8", "recipe.max_steps=1000", "trainer.accelerator=cpu"),
        *("trainer.launcher=ray", "trainer.num_nodes=2", "trainer.threads=1", "trainer.log_every_steps=1"),
        *("trainer.val_every_epochs=50", "tracking.system_metrics_every_s=0"),
        *("cluster.max_failures=0", f"cluster.address={cluster.address}"),
        target=execute,
    )
    until(lambda: last_step(root) > 50 or not training.running, "steps", PATIENCE_S)
    assert training.running, training.output
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    drain(cluster, spot)
    assert training.wait(PATIENCE_S) == 0, training.output
    assert "drained" in training.output and "it goes on on other machines" in training.output, training.output
    folder = run_folder(root)
    run, steps = read_json(folder / "run.json"), sorted(metrics_in(folder)["train/loss"])
    assert (run["status"], run["step"]) == ("finished", 1000) and steps == list(range(1, 1001))
    assert [event["event"] for event in events(root)].count("begin") == 2
