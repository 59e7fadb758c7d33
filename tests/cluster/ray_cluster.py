"""A Ray cluster over test hosts, with MLflow on PostgreSQL beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hosts import LOOK_S, SWITCH_ADDRESS, Host, Process
from processes import free_port, until

from benchmarks.servers import mlflow_server, postgres_serving
from pipeline.atomic import read_json

BIN = Path(sys.executable).parent
RATES = (0.1, 0.05, 0.02)
EVERY = 100  # steps between checkpoints
TRAINING = (
    *("model.depth=8", "recipe.max_steps=1000", "trainer.accelerator=cpu", "trainer.threads=1"),
    *("trainer.log_every_steps=10", "trainer.val_every_epochs=5", f"trainer.checkpoint_every_steps={EVERY}"),
    "tracking.system_metrics_every_s=0",
    "trainer.compile=false",  # auto goes by how busy the machine is, and a compiled net differs in the last bits
)
SPACE = f"sweep.space={{recipe.lr:[{','.join(map(str, RATES))}]}}"
# By default Ray waits about a minute for a node that does not answer.
RAY = {"RAY_health_check_timeout_ms": "5000", "RAY_health_check_failure_threshold": "3"}
PASSWORD = "mlflow"
EMPTY = "empty"  # an MLflow database with its tables and nothing in them, which cases copy: making one takes seconds


@dataclass
class Database:
    """A PostgreSQL, which can be killed and started again."""

    folder: Path  # see `postgres_folder`
    port: int = field(default_factory=free_port)
    _open: ExitStack = field(default_factory=ExitStack)
    _process: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        self._process = self._open.enter_context(postgres_serving(self.folder, self.port))

    def uri(self, name: str) -> str:
        return f"postgresql+psycopg://mlflow:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def make_empty(self) -> None:
        self.run(f"CREATE DATABASE {EMPTY}")
        code = "import sys; from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as S; S(*sys.argv[1:])"
        command = [sys.executable, "-c", code, self.uri(EMPTY), str(self.folder)]
        subprocess.run(command, check=True, capture_output=True)

    def run(self, *statements: str) -> None:
        import psycopg

        address = self.uri("postgres").replace("+psycopg", "")
        with psycopg.connect(address, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[arg-type]

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self.close()

    def close(self) -> None:
        self._open.close()


@dataclass
class Servers:
    """MLflow and its database on the switch, reachable from all hosts. Both can be away for a while."""

    database: Database
    folder: Path
    port: int = field(default_factory=free_port)
    _open: ExitStack = field(default_factory=ExitStack)

    @property
    def uri(self) -> str:
        return f"http://{SWITCH_ADDRESS}:{self.port}"

    def on(self) -> None:
        self._open.enter_context(mlflow_server(SWITCH_ADDRESS, self.port, self.database.uri("mlflow"), self.folder))

    def off(self) -> None:
        self._open.close()


@dataclass
class Cluster:
    """Hosts with a Ray node each, the head without CPUs, and a workspace that all see."""

    root: Path
    hosts: dict[str, Host]
    servers: Servers

    @property
    def workers(self) -> dict[str, Host]:
        return {name: host for name, host in self.hosts.items() if name != "head"}

    @property
    def address(self) -> str:
        return f"{self.hosts['head'].address}:6379"

    def ray(self) -> None:
        """A head and its workers, which have joined."""
        self.ray_head()
        for node in [self.ray_worker(name) for name in self.workers]:
            until(lambda node=node: "--block" in node.output, "a worker", 120, LOOK_S)

    def ray_head(self) -> Process:
        options = ["--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false"]
        head = self._node("head", *options)
        until(lambda: "--block" in head.output, "Ray's head", 120, LOOK_S)
        return head

    def ray_worker(self, name: str) -> Process:
        return self._node(name, f"--address={self.address}", "--num-cpus=1")

    def _node(self, name: str, *options: str) -> Process:
        common = [f"--node-ip-address={self.hosts[name].address}", "--object-store-memory=100000000", "--block"]
        environment = {**RAY, "OMP_NUM_THREADS": "1"}
        return self.hosts[name].start(
            str(BIN / "ray"), "start", *options, *common, cwd=self.root, environment=environment
        )

    def command(
        self,
        verb: str,
        *overrides: str,
        on: str = "head",
        environment: dict[str, str] | None = None,
        training: Sequence[str] = TRAINING,
    ) -> Process:
        words = [sys.executable, "-m", "pipeline", *verb.split(), *training, "tracking=server", *overrides]
        server = {"MLFLOW_TRACKING_URI": self.servers.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
        return self.hosts[on].start(*words, cwd=self.root, environment={**server, **(environment or {})})

    def sweep(self, *overrides: str, on: str = "head") -> Process:
        return self.command(
            "sweep", SPACE, "sweep.reduction_factor=0", f"cluster.address={self.address}", *overrides, on=on
        )

    def training(self, beyond: int = 0, on: str = "") -> tuple[str, str] | None:
        """Key and host of a run that trains, and has made more than `beyond` steps."""
        for path in (self.root / "runs").glob("*/run.json"):
            with suppress(ValueError, FileNotFoundError):
                run = read_json(path)
                if run["status"] == "running" and self.step(run["key"]) > beyond and on in ("", run["host"]):
                    return run["key"], run["host"]
        return None

    def events(self, key: str) -> list[dict[str, Any]]:
        whole, _, _ = (self.root / "runs" / key / "journal.jsonl").read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def step(self, key: str) -> int:
        return max((event.get("step", -1) for event in self.events(key)), default=-1)

    def host(self, key: str) -> str:
        """Of the run's newest attempt."""
        return read_json(self.root / "runs" / key / "run.json")["host"]

    def attempts(self, key: str) -> int:
        return sum(event["event"] == "begin" for event in self.events(key))


@contextmanager
def mlflow_servers(database: Database, folder: Path) -> Iterator[Servers]:
    database.run("DROP DATABASE IF EXISTS mlflow WITH (FORCE)", f"CREATE DATABASE mlflow TEMPLATE {EMPTY}")
    servers = Servers(database, folder)
    servers.on()
    try:
        yield servers
    finally:
        servers.off()
