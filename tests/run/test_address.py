"""Ranks of other machines are given no address that leads them to themselves."""

from __future__ import annotations

import socket

import pytest

from pipeline.errors import PipelineError
from pipeline.run.address import INTERFACES, require_reachable

ELSEWHERE = "192.0.2.7"  # of a network that nobody has


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine whose name has an address of its own."""
    for name in (*INTERFACES, "MASTER_ADDR", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "gethostname", lambda: ELSEWHERE)
    return monkeypatch


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.1.1", "localhost", "::1", "no-such-host.invalid"])
def test_a_first_machine_that_each_takes_for_itself_is_refused(address: str, machine: pytest.MonkeyPatch) -> None:
    machine.setenv("MASTER_ADDR", address)
    with pytest.raises(PipelineError, match=r"^MASTER_ADDR=.* is .* trainer\.num_nodes=2 cannot reach; set it to"):
        require_reachable(2, gloo=False)
    require_reachable(1, gloo=True)
    machine.setenv("MASTER_ADDR", ELSEWHERE)
    require_reachable(2, gloo=True)


@pytest.mark.parametrize("name", ["localhost", "no-such-host.invalid"])
def test_a_name_that_leads_to_the_loopback_matters_to_gloo_unless_an_interface_is_named(
    name: str, machine: pytest.MonkeyPatch
) -> None:
    machine.setenv("MASTER_ADDR", ELSEWHERE)
    machine.setattr(socket, "gethostname", lambda: name)
    with pytest.raises(PipelineError, match=r"^this machine's name, .*GLOO_SOCKET_IFNAME=eth0.*/etc/hosts$"):
        require_reachable(2, gloo=True)
    require_reachable(2, gloo=False)
    machine.setenv("GLOO_SOCKET_IFNAME", "eth0")
    require_reachable(2, gloo=True)


def test_several_machines_that_are_this_one_say_so(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("MASTER_ADDR", "127.0.0.1")
    machine.setenv("GLOO_SOCKET_IFNAME", "lo")
    require_reachable(2, gloo=True)


def test_ranks_that_have_met_at_torchruns_own_store_need_no_address(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("MASTER_ADDR", "127.0.1.1")  # the first machine's name, as it sees it
    machine.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    require_reachable(2, gloo=True)
