"""Ranks of two hosts whose names lead nowhere, by torchrun: two network namespaces with a network between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import PATIENCE_S
from runs import TINY, Workspaces, metrics, run_folder

from pipeline.atomic import read_json

pytestmark = pytest.mark.slow

HOSTS = {"pipeline-test-1": "10.77.5.1", "pipeline-test-2": "10.77.5.2"}
INTERFACE = "ranks0"


def ip(*arguments: str, may_fail: bool = False) -> None:
    subprocess.run(["ip", *arguments], check=not may_fail, capture_output=may_fail)


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Addresses of the namespaces, by name."""
    if os.getuid() or not shutil.which("ip") or subprocess.run(["unshare", "--net", "true"], check=False).returncode:
        pytest.skip("network namespaces need root and iproute2")
    one, two = HOSTS
    try:
        for name in HOSTS:
            ip("netns", "add", name)
        ip("link", "add", INTERFACE, "netns", one, "type", "veth", "peer", "name", INTERFACE, "netns", two)
        for name, address in HOSTS.items():
            ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            for interface in ("lo", INTERFACE):
                ip("-n", name, "link", "set", interface, "up")
        yield HOSTS
    finally:
        for name in HOSTS:
            ip("netns", "delete", name, may_fail=True)


def torchrun(name: str, address: str, root: Path) -> subprocess.Popen[str]:
    """The command of docs/deploy.md on one of the hosts."""
    first = next(iter(HOSTS.values()))
    rendezvous = f"--rdzv-backend=c10d --rdzv-endpoint={first}:29500 --rdzv-conf=is_host={address == first}"
    command = ["ip", "netns", "exec", name, str(Path(sys.executable).with_name("torchrun"))]
    command += f"--nnodes=2 --nproc-per-node=1 {rendezvous} --local-addr={address} -m pipeline train".split()
    command += [*TINY, "recipe.max_steps=5", "trainer.num_nodes=2", "trainer.launcher=torchrun"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": INTERFACE}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=root, env=environment, **pipes)


def test_ranks_meet_on_the_interface_that_is_named(workspace: Workspaces, hosts: dict[str, str]) -> None:
    root = workspace()
    started = [torchrun(*host, root) for host in hosts.items()]
    for process in started:
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, output
    assert read_json(run_folder(root) / "run.json")["processors"] == ["2 ranks of 1 thread"]
    assert len(metrics(root, "train/loss")) == 5
