"""Machines that go: with Ray's notice (spot machines, `ray drain-node`, autoscalers), and without."""

from __future__ import annotations

import re
import time

LOOK_S = 1.0  # between questions to the cluster


class Preempted(Exception):  # noqa: N818 (the trial did nothing wrong)
    """A trial left a machine that is drained; Tune starts it again on another one."""


def is_lost(error: str) -> bool:
    """Whether Ray's text says that a machine was lost, and whatever ran there did nothing wrong."""
    return (
        re.search(r"its node has died|node was terminated|NodeDiedError|ActorUnavailableError|[Pp]reempted", error)
        is not None
    )


class Draining:
    """Whether the machine of this Ray worker is drained; it is called at each step of a training.

    Ray gives such a machine no new work, and leaves what runs there alone until the machine goes.

    Attributes:
        why: a sentence once the machine is drained; "" before.
    """

    def __init__(self) -> None:
        import ray

        self._looked, self.why = -LOOK_S, ""
        self._node = ray.get_runtime_context().get_node_id()

    def __call__(self) -> bool:
        if not self.why and time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            if (deadline := _draining().get(self._node)) is not None:
                left = f" in {max(0.0, deadline / 1000 - time.time()):.0f} s" if deadline else ""
                self.why = f"{_address()} is drained and goes{left}"
        return bool(self.why)


def _draining() -> dict[str, int]:
    """Deadlines of the machines that are drained, by node id, in milliseconds since 1970; 0 for none.

    Ray Train asks in the same way; there is no public function. A cluster that does not answer has drained nothing.
    """
    import ray._private.state

    try:
        return ray._private.state.state.get_draining_nodes()
    except Exception:  # Ray raises many kinds; the next question may be answered
        return {}


def _address() -> str:
    import ray.util

    return ray.util.get_node_ip_address()
