"""A training by srun on two hosts with a Slurm of their own, one of which is cut off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosts import Host, Process, machines, wait_for
from processes import until
from ray_cluster import BIN, EVERY, TRAINING
from runs import Workspaces, assert_same_training, last_step
from slurm_cluster import CONFIGURATION, munged, new_key, require_slurm

pytestmark = pytest.mark.cluster
TIMEOUT_S = 10
SHORT = (*TRAINING, "recipe.max_steps=600", f"trainer.timeout_s={TIMEOUT_S}")
PORT = 6817


@pytest.fixture
def nodes(workspace: Workspaces) -> Iterator[tuple[dict[str, Host], dict[str, str]]]:
    """Two hosts that share all workspaces, and the environment of Slurm's commands on them."""
    require_slurm()
    root = workspace()
    with machines(["n0", "n1"], root.parent) as hosts:
        configuration = root / "slurm.conf"
        lines = [f"NodeName={name} NodeAddr={host.address} CPUs=1" for name, host in hosts.items()]
        values = {"host": f"n0({hosts['n0'].address})", "port": PORT, "user": "root", "folder": root}
        values |= {"socket": "/tmp/munge.socket", "nodes": "\n".join(lines)}
        (root / "state").mkdir()
        configuration.write_text(CONFIGURATION.format(**values))
        key, environment = new_key(root), {"SLURM_CONF": str(configuration), "OMP_NUM_THREADS": "1"}
        for host in hosts.values():
            host.start(*munged(key, Path("/tmp")), cwd=root)
        hosts["n0"].start("slurmctld", "-D", cwd=root, environment=environment)
        for name, host in hosts.items():
            host.start("slurmd", "-D", "-N", name, cwd=root, environment=environment)
        idle = ("sh", "-c", "until [ \"$(sinfo -h -o '%T %D')\" = 'idle 2' ]; do sleep 1; done")
        hosts["n0"].start(*idle, cwd=root, environment=environment).succeed(60)
        yield hosts, environment


def test_srun_on_two_hosts_one_of_which_is_cut_off(nodes, workspace: Workspaces, figures: Callable) -> None:
    (hosts, environment), root, undisturbed = nodes, workspace(), workspace()

    def srun(root: Path) -> Process:
        ranks = ("--nodes=2", "--ntasks-per-node=1", "--kill-on-bad-exit=0", "--label")
        train = (str(BIN / "pipeline"), "train", *SHORT, "trainer.launcher=slurm", "trainer.num_nodes=2")
        return hosts["n0"].start("srun", *ranks, *train, cwd=root, environment=environment)

    srun(undisturbed).succeed()
    job = srun(root)
    wait_for(job, lambda: last_step(root) > 2 * EVERY, "steps")
    hosts["n1"].cut()
    start = time.monotonic()
    until(lambda: "rank 1 on n1 fell silent" in job.output, "a line that names the lost rank", 6 * TIMEOUT_S)
    seconds = time.monotonic() - start
    hosts["n1"].join()
    job.wait()
    srun(root).succeed()
    assert_same_training(root, undisturbed)
    figures(f"rank 0 ends after {seconds:.0f} s and names the other; the same command ends as undisturbed")
    assert seconds < 4 * TIMEOUT_S
