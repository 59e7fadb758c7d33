"""Machines for tests: Linux namespaces with a network, a host name, processes, /tmp, /dev/shm and HOME of their own.

They share the disk, as the nodes of a cluster share a folder, and a switch whose cables can be pulled.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from processes import until

ROOT = Path(__file__).resolve().parents[2]
SWITCH = f"sw{os.getpid()}"
NETWORK = f"10.77.{os.getpid() % 250}"
LOOK_S = 0.2  # a case that looked all the time would take a core from its hosts
SWITCH_ADDRESS = f"{NETWORK}.1"  # where this machine's own servers are reached, whatever cables are pulled

# Folders below /tmp that all machines see stay where they are; the rest of it is each machine's own.
_BOOT = """
hostname "$1"; mount --bind "$2" /etc/hosts; shift 2
mount -t tmpfs tmpfs /mnt; n=0
for path in "$@"; do n=$((n + 1)); mkdir /mnt/$n; mount --bind "$path" /mnt/$n; done
mount -t tmpfs -o size=256m tmpfs /tmp; chmod 1777 /tmp; mkdir /tmp/home; n=0
for path in "$@"; do n=$((n + 1)); mkdir -p "$path"; mount --bind /mnt/$n "$path"; done
mount -t tmpfs -o size=2g tmpfs /dev/shm
ip link set lo up; echo up; exec sleep infinity
"""

# libfaketime 0.9.10 refuses Python's sleep, which is until a time of the monotonic clock.
_SLEEP = """
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    return syscall(SYS_clock_nanosleep, clock, flags, until, left) ? errno : 0;
}
"""


class Process:
    """A command on a host, its output in a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def pids(self) -> list[int]:
        """Of the command and its children, without the one that entered the host."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self._process.pid).children(recursive=True)]
        return []

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError, IndexError):
            os.kill(self.pids[0], number)

    def kill(self) -> None:
        """With all that it started."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, patience_s: float = 300) -> int:
        try:
            return self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {patience_s:.0f} s:\n{self.output}") from None

    def succeed(self, patience_s: float = 300) -> Process:
        code = self.wait(patience_s)
        assert code == 0, f"exit code {code}:\n{self.output}"
        return self


class Host:
    """A machine that is on. `cut` pulls its cable, `stop` freezes all its processes, `off` is a power cut.

    `fill` leaves its own disk, /tmp, no free byte, `spoil` makes its cable a bad one.
    """

    def __init__(self, name: str, number: int, folder: Path, hosts_file: Path) -> None:
        self.name, self.address = name, f"{NETWORK}.{number}"
        self._cable, self._folder, self._hosts_file = f"{SWITCH}p{number}", folder, hosts_file
        self._entered: list[subprocess.Popen[bytes]] = []
        self.environment: dict[str, str] = {}  # of all its commands
        self.on()

    def on(self) -> None:
        kept = sorted({str(path) for path in (self._folder, ROOT, Path(sys.prefix)) if path.is_relative_to("/tmp")})
        spaces = shlex.split("--net --uts --mount --ipc --pid --fork --kill-child --mount-proc")
        boot = ["sh", "-ec", _BOOT, "sh", self.name, str(self._hosts_file), *kept]
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}  # it complains when its host is switched off
        self._holder = subprocess.Popen(["unshare", *spaces, *boot], **quiet)
        assert self._holder.stdout and self._holder.stdout.readline() == b"up\n", f"{self.name} does not boot"
        (self._init,) = (child.pid for child in psutil.Process(self._holder.pid).children())
        _ip(f"link add {self._cable} type veth peer name eth0 netns {self._init}")
        _ip(f"link set {self._cable} master {SWITCH} up")
        for command in (f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
            self._enter(["ip", *command.split()])

    def start(self, *command: str, cwd: Path, environment: Mapping[str, str] | None = None) -> Process:
        log = cwd / f"{self.name}-{len(list(cwd.glob(f'{self.name}-*.log')))}.log"
        home = {"HOME": "/tmp/home", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        words = ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *command]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*self._entering(), *words],
                env={**os.environ, **home, **self.environment, **(environment or {})},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._entered.append(process)
        return Process(process, log)

    def hide(self, folder: Path) -> None:
        """An empty folder, this host's own, in place of one that all see."""
        self._enter(["mount", "-t", "tmpfs", "tmpfs", str(folder)])

    def set_clock(self, ahead_s: int) -> None:
        """Of all that starts here from now on. Files keep the time of the disk, as those of a server of files do."""
        library, sleep = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None), self._folder / "sleep.so"
        if library is None or shutil.which("cc") is None:
            pytest.skip("no clock can be set here without libfaketime and a C compiler (Debian: faketime, gcc)")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", sleep, "-x", "c", "-"], input=_SLEEP.encode(), check=True)
        self.environment |= {"LD_PRELOAD": f"{sleep} {library}", "FAKETIME": f"{ahead_s:+d}", "NO_FAKE_STAT": "1"}
        self.environment["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"

    def fill(self) -> None:
        self._enter(["sh", "-c", "cat /dev/zero > /tmp/full; ! echo > /tmp/no-room"], stderr=subprocess.DEVNULL)

    def free(self) -> None:
        self._enter(["rm", "/tmp/full"])

    def spoil(self, lost_percent: int, rate: str) -> None:
        """The cable carries `rate` (tc's words) each way and loses packets."""
        if shutil.which("nft") is None:
            pytest.skip("packets cannot be lost here without nft (Debian: nftables)")
        lost = f"numgen random mod 100 < {lost_percent} drop"
        chains = [
            f"chain {way} {{ type filter hook {way} priority 0; {end} eth0 {lost}; }};"
            for way, end in (("input", "iifname"), ("output", "oifname"))
        ]
        self._enter(["nft", f"table inet cable {{ {' '.join(chains)} }}"])
        slow = f"root tbf rate {rate} burst 16kb latency 400ms"
        self._enter(["tc", *f"qdisc add dev eth0 {slow}".split()])
        subprocess.run(["tc", *f"qdisc add dev {self._cable} {slow}".split()], check=True)

    def cut(self) -> None:
        _ip(f"link set {self._cable} down")

    def join(self) -> None:
        _ip(f"link set {self._cable} up")

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)
        for process in self._entered:  # nsenter stops with the command that it waits for
            process.send_signal(signal.SIGCONT)

    def off(self) -> None:
        self.go_on()
        with suppress(ProcessLookupError):
            os.kill(self._init, signal.SIGKILL)  # with the first process of its namespace all others end
        self._holder.wait()
        # The system removes a dead host's network some time later.
        subprocess.run(["ip", "link", "del", self._cable], stderr=subprocess.DEVNULL, check=False)

    def _signal(self, number: int) -> None:
        try:
            space = os.readlink(f"/proc/{self._init}/ns/pid")
        except FileNotFoundError:  # switched off
            return
        for pid in psutil.pids():
            with suppress(OSError):
                if pid != self._init and os.readlink(f"/proc/{pid}/ns/pid") == space:
                    os.kill(pid, number)

    def _enter(self, command: Sequence[str], stderr: int | None = None) -> None:
        subprocess.run([*self._entering(), *command], check=True, stderr=stderr)

    def _entering(self) -> list[str]:
        return ["nsenter", f"--target={self._init}", *shlex.split("--net --uts --mount --ipc --pid --")]


@contextmanager
def machines(names: Sequence[str], folder: Path) -> Iterator[dict[str, Host]]:
    """Hosts by name that all see `folder`; skips the test where namespaces cannot be made."""
    if os.getuid() != 0:
        pytest.skip("only root can make network namespaces")
    addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, 2)}
    hosts_file = folder / "hosts"
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
    hosts_file.write_text("\n".join(lines) + "\n")
    hosts: dict[str, Host] = {}
    made = subprocess.run(["ip", "link", "add", SWITCH, "type", "bridge"], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"network namespaces cannot be made here ({made.stderr.strip()})")
    try:
        _ip(f"addr add {SWITCH_ADDRESS}/24 dev {SWITCH}")
        _ip(f"link set {SWITCH} up")
        for number, name in enumerate(names, 2):
            hosts[name] = Host(name, number, folder, hosts_file)
        yield hosts
    finally:
        for host in hosts.values():
            host.off()
        _ip(f"link del {SWITCH}")


def wait_for(process: Process, holds, what: str, patience_s: float = 300):  # type: ignore[no-untyped-def]
    """The first true value of `holds()`, which must come before the process ends."""
    value = until(lambda: holds() or (not process.running and "ended"), what, patience_s, LOOK_S)
    assert value != "ended", f"ended before {what}:\n{process.output}"
    return value


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)
