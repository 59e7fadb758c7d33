"""MLflow: kills while its database, a run or a registration is made; half-made and damaged databases; odd servers and runs."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.atomic import read_json
from pipeline.errors import PipelineError
from pipeline.tracking.location import NET_TAG
from pipeline.tracking.registry import net_of
from reliability import Outcome
from reliability.child import Ended, call, pipeline

ROOT = Path(__file__).resolve().parents[1]
TINY = ("model.depth=8", "recipe.max_steps=17", "trainer.accelerator=cpu", "tracking.system_metrics_every_s=0")
SEEDS = (0, 1)  # of the trainings
CREATIONS, PAIRS, REGISTRATIONS, CUTS, DAMAGES, RUNS = 20, 10, 20, 20, 40, 40
DATABASE = Path("mlruns") / "mlflow.db"
KILLS, HALF, DAMAGED = (
    "kills while MLflow's database or a registration is made",
    "half-made databases",
    "damaged databases",
)
SERVERS, ODD = "MLflow servers that fail, hang or answer nonsense", "odd runs in a shared MLflow"
PROMISE = {
    **dict.fromkeys(
        (KILLS, HALF, SERVERS),
        "the same command, or the remedy that the sentence names, leaves every training in MLflow once and ended, one "
        "version of an ensemble, and no temporary file",
    ),
    DAMAGED: "refused, and the remedy that the sentence names leaves every training in MLflow once and ended, and no "
    "temporary file; or read, since SQLite keeps no checksums",
    ODD: "the other run is used; the odd one is named, unless its oddity decides nothing",
}


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    import mlflow.pyfunc
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    import pipeline.stages.ensemble
    import pipeline.stages.train  # noqa: F401

    rng, trained = random.Random(seed), _trained(scratch / "trained")
    yield from _creations(rng, trained, scratch)
    yield from _registrations(rng, trained, scratch)
    yield from _half_made(rng, trained, scratch)
    yield from _damaged(rng, trained, scratch)
    yield from _servers(rng, trained, scratch)
    yield from _odd_runs(rng, trained, scratch)


def _trained(root: Path) -> Path:
    """A workspace with two trainings, whose journals MLflow has in full."""
    root.mkdir()
    shutil.copytree(ROOT / "conf", root / "conf")
    shutil.copy(ROOT / "params.yaml", root)
    for words in (("fetch",), ("preprocess",), *(("train", *TINY, f"seed={number}") for number in SEEDS)):
        ended = pipeline(*words, cwd=root, timeout_s=300)
        if ended.code:
            raise RuntimeError(f"pipeline {' '.join(words)}: {ended.output}")
    return root


def _copy(trained: Path, scratch: Path, database: bool = True) -> Path:
    """A workspace of its own for one case; without MLflow's files where these are to be made."""
    root = scratch / "case"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(trained, root)
    if not database:
        shutil.rmtree(root / "mlruns")
        for state in (root / "runs").glob("*/shipped.json"):
            state.unlink()
    return root


def _lacks(root: Path, versions: int | None = None, verb: str = "sync") -> str:
    """What the workspace lacks of the promise after `verb`; "" where it holds."""
    with closing(sqlite3.connect(root / DATABASE)) as database:
        keys = database.execute("select value from tags where key = 'pipeline.key' order by value").fetchall()
        statuses = {row[0] for row in database.execute("select status from runs")}
        made = database.execute("select count(*) from model_versions where status = 'READY'").fetchone()[0]
        champions = database.execute("select count(*) from registered_model_aliases").fetchone()[0]
    wanted = sorted(path.parent.name for path in (root / "runs").glob("*/journal.jsonl"))
    wanted = [key.removeprefix("ensemble-") for key in wanted if not key.startswith("tested-")]
    left = [file.relative_to(root) for file in root.rglob("*") if file.suffix in (".part", ".old", ".db-journal")]
    if verb == "sync":  # what an ensemble left is the next ensemble's to remove
        left = [file for file in left if file.parts[0] == DATABASE.parts[0]]
    return "; ".join(
        text
        for text, holds in (
            (f"runs {keys} instead of {wanted}", sorted(key for (key,) in keys) == sorted(wanted)),
            (f"statuses {statuses}", statuses == {"FINISHED"}),
            (f"{made} versions, {champions} champions", versions is None or (made, champions) == (versions, versions)),
            (f"left behind: {[*map(str, left)]}", not left),
        )
        if not holds
    )


def _healed(name: str, row: str, root: Path, verb: str, versions: int | None = None) -> Outcome:
    """The outcome of running `verb` once more."""
    ended = pipeline(verb, cwd=root, timeout_s=120)
    lacks = ended.summary() if ended.code else _lacks(root, versions, verb)
    return Outcome(name, not lacks, lacks, row)


def _creations(rng: random.Random, trained: Path, scratch: Path) -> Iterator[Outcome]:
    whole_s = pipeline("sync", cwd=_copy(trained, scratch, database=False)).seconds
    for number in range(CREATIONS + PAIRS):
        root, after_s = _copy(trained, scratch, database=False), rng.uniform(0, whole_s)
        other = threading.Thread(target=lambda root=root: pipeline("sync", cwd=root, timeout_s=120))
        if number >= CREATIONS:
            other.start()
        pipeline("sync", cwd=root, timeout_s=after_s)
        if number >= CREATIONS:
            other.join()
        together = ", while another goes on" if number >= CREATIONS else ""
        yield _healed(f"sync killed after {after_s:.2f} s{together}", KILLS, root, "sync")


def _registrations(rng: random.Random, trained: Path, scratch: Path) -> Iterator[Outcome]:
    whole_s = pipeline("ensemble", cwd=_copy(trained, scratch), timeout_s=120).seconds
    for _ in range(REGISTRATIONS):
        root, after_s = _copy(trained, scratch), rng.uniform(0.2, 1) * whole_s
        pipeline("ensemble", cwd=root, timeout_s=after_s)
        synced = _healed("", KILLS, root, "sync")
        outcome = _healed(f"ensemble killed after {after_s:.2f} s", KILLS, root, "ensemble", versions=1)
        yield outcome if synced.ok else Outcome(outcome.name, False, f"after sync: {synced.detail}", KILLS)


def _half_made(rng: random.Random, trained: Path, scratch: Path) -> Iterator[Outcome]:
    for _ in range(CUTS):
        root = _copy(trained, scratch, database=rng.random() < 0.5)
        path, share = root / DATABASE, rng.random()
        path.parent.mkdir(exist_ok=True)
        for file in path.parent.glob("mlflow.db*"):
            file.unlink()
        call(partial(_migrate, path, share), cwd=root)
        with closing(sqlite3.connect(path)) as database:
            tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
            lost = rng.sample(tables, rng.randrange(len(tables) // 4 + 1))
            for table in lost:
                database.execute(f'drop table "{table}"')
        if rng.random() < 0.3:
            path.with_name("mlflow.db-journal").write_bytes(rng.randbytes(2000))
        os.utime(path, (1e9, 1e9))  # long ago: nobody is at work on it
        yield _healed(f"{share:.0%} of the migrations, without {', '.join(lost) or 'no table'}", HALF, root, "sync")


def _migrate(path: Path, share: float) -> None:
    """MLflow's own migrations, up to a share of them."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    uri = f"sqlite:///{path}"
    config, engine = _get_alembic_config(uri), create_engine(uri)
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revisions[int(share * len(revisions))])


def _damaged(rng: random.Random, trained: Path, scratch: Path) -> Iterator[Outcome]:
    for _ in range(DAMAGES):
        root = _copy(trained, scratch)
        path = root / DATABASE
        content = bytearray(path.read_bytes())
        kind, at = rng.choice(("bit flipped", "page zeroed", "cut", "overwritten")), rng.randrange(len(content))
        if kind == "bit flipped":
            content[at] ^= 1 << rng.randrange(8)
        elif kind == "page zeroed":
            content[at // 4096 * 4096 : at // 4096 * 4096 + 4096] = bytes(4096)
        elif kind == "cut":
            del content[at:]
        else:
            content[at : at + 512] = rng.randbytes(min(512, len(content) - at))
        path.write_bytes(content)
        ended = pipeline("sync", cwd=root, timeout_s=120)
        name = f"{kind} at byte {at}"
        if ended.refused() and f"(mv {path}" in ended.output:
            path.rename(f"{path}.damaged")
            yield _healed(f"{name}, then the remedy", DAMAGED, root, "sync")
        else:  # SQLite has no checksum of what a cell holds, so that a changed text goes unnoticed
            yield Outcome(name, ended.code == 0, ended.summary(), DAMAGED)


ANSWERS: dict[str, Callable[[random.Random], bytes]] = {
    "500": lambda rng: b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    "404 with a page": lambda rng: b"HTTP/1.1 404 No\r\nContent-Length: 6\r\n\r\n<html>",
    "403": lambda rng: b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
    "no JSON": lambda rng: b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + rng.randbytes(40),
    "other JSON": lambda rng: b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + rng.choice((b"[{}]", b"null", b"1234")),
    "odd types": lambda rng: b'HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"experiments": 17}',
    "deep JSON": lambda rng: b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000,
    "a short answer": lambda rng: b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{",
    "no HTTP": lambda rng: rng.randbytes(200),
    "nothing": lambda rng: b"",
    "silence": lambda rng: b"wait",
    "itself, for ever": lambda rng: b"HTTP/1.1 302 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
}


def _servers(rng: random.Random, trained: Path, scratch: Path) -> Iterator[Outcome]:
    for name, answer in [*ANSWERS.items()] * 2:
        root = _copy(trained, scratch)
        with _server(answer(rng)) as address:
            uri, quick = f"tracking.uri={address}", {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}
            for verb in ("sync", "ensemble"):
                ended = pipeline(verb, uri, cwd=root, timeout_s=30, environment=quick)
                if not ended.refused():
                    break
        if ended.refused():
            yield _healed(f"{verb}, {name}; then without it", SERVERS, root, "sync")
        else:
            yield Outcome(f"{verb}, {name}", False, ended.summary(), SERVERS)


class _server:  # noqa: N801 (used as a function)
    """An address on the loopback that gives every request the same answer."""

    def __init__(self, answer: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.connection.recv(65536)
                if answer == b"wait":
                    time.sleep(5)
                else:
                    self.wfile.write(answer)
                self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


def _odd_runs(rng: random.Random, trained: Path, scratch: Path) -> Iterator[Outcome]:
    root = _copy(trained, scratch)
    first = pipeline("ensemble", cwd=root, timeout_s=120)
    with closing(sqlite3.connect(root / DATABASE)) as database:
        rows = database.execute("select run_uuid, value from tags where key = 'pipeline.net'").fetchall()
    nets = sorted(((run, json.loads(tag)) for run, tag in rows), key=lambda pair: _rank(pair[1]))
    (_, other), (run, net) = nets  # the worse one becomes odd, so that nothing odd makes it the one to take
    for _ in range(RUNS):
        value, what = _odd_tag(rng, deepcopy(net))
        with closing(sqlite3.connect(root / DATABASE)) as database:
            database.execute("update tags set value = ? where key = 'pipeline.net' and run_uuid = ?", (value, run))
            database.commit()
        ended = pipeline("ensemble", "ensemble.size=1", "ensemble=top_k", cwd=root, timeout_s=60)
        ok = not first.code and goes_on(ended, _members(root), other["key"], run, value)
        yield Outcome(what, ok, ended.summary(), ODD)


def _rank(net: dict[str, Any]) -> list[float]:
    """Sorts records, the best on validation first."""
    return [net[key] for key in ("val_err1", "val_err5", "seed")]


def _members(root: Path) -> list[str]:
    """Keys of the ensemble's members."""
    path = root / "experiments" / "digits" / "ensemble" / "members.json"
    return [member["key"] for member in read_json(path)["members"]] if path.exists() else []


def goes_on(ended: Ended, members: list[str], other: str, run: str, tag: str) -> bool:
    """Whether an ensemble of one net is that with the key `other`, and the run with the odd tag is named if it cannot be read."""
    goes = ended.code == 0 and "registered as" in ended.output and "Traceback" not in ended.output
    return goes and members == [other] and (run in ended.output or _is_record(tag))


def _is_record(tag: str) -> bool:
    """Whether the pipeline reads the value of a tag as the record of a net."""
    try:
        net_of(SimpleNamespace(info=SimpleNamespace(run_id=""), data=SimpleNamespace(tags={NET_TAG: tag})))
    except PipelineError:
        return False
    return True


def _odd_tag(rng: random.Random, net: dict[str, Any]) -> tuple[str, str]:
    """A broken value of the tag that holds a net's record, and what is odd about it."""
    text = json.dumps(net)
    if rng.random() < 0.2:
        cut = rng.randrange(len(text))
        return text[:cut], f"cut after {cut} characters"
    values: tuple[Any, ...] = (None, "", "\x1b[31m", -1, 1e308, [], {}, [[[]]], True, "../../../etc/passwd", 2**70)
    odd = rng.choice(values)
    holder = rng.choice((net, net["model"], net["recipe"], net["augment"]))
    key = rng.choice(list(holder))
    if rng.random() < 0.2:
        del holder[key]
        return json.dumps(net), f"without {key}"
    holder[key] = odd
    return json.dumps(net), f"{key}={odd!r}"
