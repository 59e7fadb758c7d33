"""A Slurm of Debian's packages on this machine: a controller, two nodes of two CPUs and the authentication between them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import PATIENCE_S, free_port, until

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={port}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={socket},cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP MaxTime=INFINITE PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL State=UP MaxTime=INFINITE PriorityTier=2 PreemptMode=OFF
"""


@dataclass(frozen=True)
class Slurm:
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def ask(self, *command: str) -> str:
        done = subprocess.run(command, check=False, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, directory: Path, *command: str, **environment: str) -> Job:
        """`sbatch` with its options, the script and its arguments, from this directory."""
        done = subprocess.run(
            ["sbatch", "--parsable", "--output=job.out", *command],
            check=False,
            cwd=directory,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return Job(self, done.stdout.strip(), directory / "job.out")


@dataclass(frozen=True)
class Job:
    slurm: Slurm
    number: str
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def field(self, name: str) -> str:
        """One of `scontrol show job`, JobState or Restarts for example."""
        shown = self.slurm.ask("scontrol", "--oneliner", "show", "job", self.number)
        return dict(part.partition("=")[::2] for part in shown.split())[name]

    @property
    def restarts(self) -> int:
        return int(self.field("Restarts"))

    def ends(self, patience_s: float = PATIENCE_S) -> str:
        """Its last state, after all restarts. Between them Slurm pauses until a job's credential has expired."""

        def ended() -> str:
            time.sleep(0.2)
            state = self.field("JobState")
            return state if state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED") else ""

        return until(ended, f"the end of the job:\n{self.output}", patience_s)


def require_slurm() -> None:
    if missing := [command for command in NEEDED if not shutil.which(command)]:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: slurmctld slurmd slurm-client munge)")


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Slurm, ready for jobs; skips the test where Debian's packages are not installed."""
    require_slurm()
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a short path, since a socket lies there
    folder.chmod(0o755)
    (folder / "state").mkdir()
    names, cluster = ("n1", "n2"), Slurm(folder)
    nodes = [
        f"NodeName={n} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={free_port()} CPUs=2" for n in names
    ]
    values = {
        "host": f"{socket.gethostname()}(127.0.0.1)",
        "socket": folder / "munge.socket",
        "port": free_port(),
        "user": "root",
        "folder": folder,
        "nodes": "\n".join(nodes),
    }
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
    try:
        with ExitStack() as stack:
            stack.enter_context(_running(folder / "munged.out", *munged(new_key(folder), folder)))
            until((folder / "munge.socket").exists, "munged")
            conf = ("-f", str(folder / "slurm.conf"))
            stack.enter_context(_running(folder / "slurmctld.out", "slurmctld", "-D", *conf))
            for name in names:
                stack.enter_context(_running(folder / f"{name}.out", "slurmd", "-D", "-N", name, *conf))

            def idle() -> bool:
                asked = subprocess.run(
                    ["sinfo", "-h", "-o", "%T %D"], check=False, env=cluster.environment, capture_output=True, text=True
                )
                return asked.stdout.strip() == "idle 2"

            until(idle, "two idle nodes", patience_s=60)
            yield cluster
            subprocess.run(["scancel", "--user=root"], env=cluster.environment, check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_key(folder: Path) -> Path:
    """That all of a cluster's munged share."""
    key = folder / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(os.urandom(1024))
    return key


def munged(key: Path, folder: Path) -> list[str]:
    """The command of a munged with its files in `folder`."""
    files = {"key-file": key, **{f"{name}-file": folder / f"munge.{name}" for name in ("pid", "log", "seed")}}
    options = [f"--{name}={path}" for name, path in files.items()]
    return ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *options]


@contextmanager
def _running(log: Path, *command: str) -> Iterator[None]:
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
