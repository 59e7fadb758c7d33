"""`pipeline` commands as processes of their own, to be killed and signalled.

They are forked from a server that has imported everything heavy, once; a start then takes no time. Every process leads
a session, so that a signal can go to it alone or to its whole group.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from runs import last_step

from benchmarks.servers import free_port

PATIENCE_S = 180.0  # of a test on a busy machine; nothing waits this long when all is well

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "mlflow.store.tracking.sqlalchemy_store",
        "mlflow.tracking",
        "pipeline.compose",
        "hydra",
        "pydantic",
        "safetensors.torch",
        "pipeline.stages.train",
    ]
)


def until(holds: Callable[[], Any], what: str, patience_s: float = PATIENCE_S, pause_s: float = 0.001) -> Any:
    """The first true value of `holds()`; the test fails when there is none in time."""
    end = time.monotonic() + patience_s
    while not (value := holds()):
        assert time.monotonic() < end, f"waited {patience_s:.0f} s for {what}"
        time.sleep(pause_s)
    return value


def ended(pid: int) -> bool:
    """Whether a process is gone, or a corpse that nobody has collected yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


_STARTED: list[Command] = []


def end_commands() -> None:
    """Kills the commands that still run, as after a failure: pytest would wait for ever for the end of one that SIGSTOP stopped."""
    while _STARTED:
        command = _STARTED.pop()
        if command.running:
            command.signal(signal.SIGKILL, group=True)
            command.signal(signal.SIGKILL)  # which may not lead a group yet
            command.wait()


class Command:
    """A running `pipeline` command; it ends with its test.

    Args:
        root: the workspace it runs in.
        environment: added to the tests' own.
        target: what the process runs instead of the command line, called with `arguments`.
    """

    def __init__(
        self,
        root: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        target: Callable[..., Any] | None = None,
    ) -> None:
        self.root = root
        self._log = root / f"output-{time.monotonic_ns()}.txt"
        values = {**os.environ, **(environment or {})}
        self._process = FORKS.Process(
            target=_run, args=(target or pipeline, arguments, str(root), values, str(self._log)), daemon=True
        )
        self._process.start()
        _STARTED.append(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def running(self) -> bool:
        return self._process.exitcode is None

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Exit code, that of a signal being negative."""
        self._process.join(patience_s)
        if self._process.exitcode is None:
            self.signal(signal.SIGKILL)
            raise AssertionError(f"still running after {patience_s:.0f} s:\n{self.output}")
        return self._process.exitcode

    def succeed(self) -> Command:
        code = self.wait()
        assert code == 0, f"exit code {code}:\n{self.output}"
        return self

    def signal(self, number: int, group: bool = False) -> None:
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def at_step(self, step: int) -> Command:
        """Returns as soon as the training has written down this step."""
        try:
            until(lambda: last_step(self.root) >= step or not self.running, f"step {step}")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.output}") from None
        assert self.running, f"ended before step {step}:\n{self.output}"
        return self


def _run(target: Callable[..., Any], arguments: tuple[str, ...], cwd: str, environment: dict, log: str) -> None:
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    target(*arguments)


def pipeline(*arguments: str) -> None:
    """The command line, as its script runs it."""
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    from pipeline.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Lightning reads the rank when it is imported, which was in the server.
    rank_zero_only.rank = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
    sys.argv = [str(Path(sys.executable).with_name("pipeline")), *arguments]
    sys.exit(main())


def train_on_ranks(root: Path, *arguments: str) -> None:
    """Trains to the end on two ranks, as torchrun starts them."""
    for rank in ranks(root, "train", *arguments):
        rank.succeed()


def execute(*arguments: str) -> None:
    """Target of a command that is no fork: Python with these arguments, started afresh."""
    os.execv(sys.executable, [sys.executable, *arguments])


def ranks(root: Path, *arguments: str, count: int = 2, environment: Mapping[str, str] | None = None) -> list[Command]:
    """The processes of one training, in the environment that torchrun gives them."""
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        **(environment or {}),
    }
    arguments = (*arguments, f"trainer.devices={count}", "trainer.launcher=torchrun")
    return [
        Command(root, *arguments, environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]


def two_machines(roots: Sequence[Path], port: int, *arguments: str) -> list[Command]:
    """One training on two ranks, each started as the only one of its machine, in its own or the same folder."""
    return [
        Command(
            roots[node],
            *("train", *arguments, "trainer.num_nodes=2"),
            environment={
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "NODE_RANK": str(node),
                "GLOO_SOCKET_IFNAME": "lo",  # else this machine's own addresses are refused
            },
        )
        for node in range(2)
    ]
