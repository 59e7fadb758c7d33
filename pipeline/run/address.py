"""Whether ranks on several machines can reach this one by the addresses that they are given."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address

from pipeline.errors import PipelineError, printable

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def agent_store() -> bool:
    """Whether torchrun serves the store where ranks meet, so that their machines have met there already."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def require_reachable(machines: int, gloo: bool) -> None:
    """Called on each machine before its ranks meet.

    Debian's /etc/hosts gives a machine's own name the address 127.0.1.1. Gloo listens at the address of that name, and other
    machines are told to connect to it. NCCL looks at the interfaces instead. Where one of INTERFACES is lo, several
    "machines" are meant to be this one.

    Args:
        machines: of the training.
        gloo: whether ranks exchange gradients by gloo, as on CPUs.
    Raises:
        PipelineError: MASTER_ADDR, or this machine's name, leads to the loopback.
    """
    chosen = [name for name in INTERFACES if os.environ.get(name)]
    if machines == 1 or "lo" in map(os.environ.get, chosen):
        return
    first, name = os.environ.get("MASTER_ADDR", ""), socket.gethostname()
    if not agent_store() and first and (address := _loopback(first)):
        raise PipelineError(
            f"MASTER_ADDR={printable(first)} is {address} here, which the other machines of trainer.num_nodes={machines} cannot "
            "reach; set it to the first machine's address in the network that they share (`hostname -I` prints it there; torchrun: --local-addr)"
        )
    if gloo and INTERFACES[0] not in chosen and (address := _loopback(name)):
        raise PipelineError(
            f"this machine's name, {printable(name)}, is {address} here, where the other machines of trainer.num_nodes={machines} "
            f"cannot reach it; name the interface of the network that they share ({INTERFACES[0]}=eth0; `ip -brief address` "
            "lists them), or give the name the machine's own address in /etc/hosts"
        )


def _loopback(host: str) -> str:
    """The address that a host's name has here, if it is one of the loopback or, as gloo then takes that, none; else ""."""
    try:
        address = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return "unknown"
    return address if ip_address(address.partition("%")[0]).is_loopback else ""
