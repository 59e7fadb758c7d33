"""What all tests share: isolation from the caller's environment, and temporary clones of the repository with real data."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stopwatch import Stopwatch, function_of

ROOT = Path(__file__).resolve().parents[1]

# Before torch and MLflow are imported, here or in a child: one thread each, and the tree under test.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", LITLOGGER_DISABLED="1")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

# Nothing of the caller's ranks, folders and servers.
for _name in (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID"),
    *("PIPELINE_RUNS", "PIPELINE_MLRUNS", "DVC_STAGE", "DVC_ROOT", "RAY_ADDRESS"),
    *("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"),
):
    os.environ.pop(_name, None)

# Hundreds of commands, and this process, would compile the code anew where the environment forbids to keep it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# Shells let background jobs ignore the one, nohup the other, which every process that a test starts would do, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder is the test's own; its commands, and what it tells MLflow, torch and the system's signals, end with it."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    yield
    if "processes" in sys.modules:
        sys.modules["processes"].end_commands()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)
        sys.modules["mlflow"].set_registry_uri(None)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[], Path]) -> Path:
    """The path that `make` returned in the process of this test run that needed it first; to be read only."""
    base = factory.getbasetemp()
    with ((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if not (path := file.read()):
            path = str(make())
            file.write(path)
    return Path(path)


# More training images than conf/data/digits.yaml has: epochs of 17 steps of 32 images.
DRAWN = {"num_test": 960, "num_val": 287}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ with scikit-learn's digits, fetched and preprocessed as the stages do it."""

    def make() -> Path:
        from pipeline.config import DataConfig
        from pipeline.data.preprocess import preprocess
        from pipeline.data.sources import fetch

        folder = tmp_path_factory.mktemp("digits") / "data"
        data = DataConfig(name="digits", source="digits", image_size=8, workers=1, **DRAWN)
        fetch(data, folder / "raw" / "digits", folder.parent)
        preprocess(data, folder / "raw" / "digits", folder / "store" / "digits")
        return folder

    return made_once(tmp_path_factory, "digits.path", make)


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them; making one takes seconds."""

    def make() -> Path:
        from pipeline.tracking import location

        folder = tmp_path_factory.mktemp("mlflow")
        location.client(location.locate("", folder)).search_experiments(max_results=1)
        return folder / "mlflow.db"

    return made_once(tmp_path_factory, "mlflow.path", make)


@pytest.fixture
def location(tmp_path: Path, mlflow_database: Path) -> Any:
    """Of an MLflow database with nothing in it."""
    from pipeline.tracking.location import locate

    (tmp_path / "mlruns").mkdir()
    shutil.copy(mlflow_database, tmp_path / "mlruns" / "mlflow.db")
    return locate("", tmp_path / "mlruns")


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory, digits: Path, mlflow_database: Path) -> Callable[[], Path]:
    """Makes roots of a repository: conf/, params.yaml, the digits' store, an empty MLflow database."""

    def make() -> Path:
        from runs import configure_stored

        root = tmp_path_factory.mktemp("root")
        shutil.copytree(ROOT / "conf", root / "conf")
        configure_stored(root, "digits", **DRAWN)
        shutil.copy(ROOT / "params.yaml", root)
        shutil.copytree(digits, root / "data")
        (root / "mlruns").mkdir()
        shutil.copy(mlflow_database, root / "mlruns" / "mlflow.db")
        return root

    return make


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, workspace: Callable[[], Path]) -> Path:
    """The workspace of an uninterrupted training of `runs.TINY` on one process, followed in MLflow."""

    def make() -> Path:
        from processes import Command
        from runs import TINY

        root = workspace()
        Command(root, "train", *TINY).succeed()
        return root

    made = made_once(tmp_path_factory, "reference.path", make)
    return shutil.copytree(made, tmp_path_factory.mktemp("reference") / "root")


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that refuses connections, and that no other process gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


LONG = Path(__file__).with_name("long.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--measure", type=Path, help="write the names of tests that take long")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--measure"):
        config.pluginmanager.register(Stopwatch(path))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what tests/long.txt lists. Sweeps come first: at the end one process would run them while the others wait."""
    long = set(LONG.read_text().split())
    for item in items:
        if function_of(item) in long:
            item.add_marker("long")
    items.sort(key=lambda item: item.path.parent.name != "tuning")
