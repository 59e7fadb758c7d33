"""Secrets planted where they could leak from: the configuration, the environment, ~/.netrc.

Afterwards every file, MLflow's database, Ray's logs and all output are searched for them.
"""

from __future__ import annotations

import base64
import io
import os
import random
import shutil
import sys
import tarfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from reliability import Outcome, child
from reliability.server import Request, Server, head, served

ROOT = Path(__file__).resolve().parents[1]
REFUSED, KEPT_OUT = "secrets in the configuration", "secrets in the environment"
PROMISE = {
    REFUSED: "in no file, database, log or output; refused, and the sentence names another way to give it",
    KEPT_OUT: "in no file, database, log or output",
}
OTHER_WAYS = {"data.mirror": "~/.netrc", "tracking.uri": "MLFLOW_TRACKING_PASSWORD"}  # of other keys, the environment
TRIALS = 120
KEYS = ("data.mirror", "+data.path", "+start.weights", "tracking.uri", "paths.runs", "paths.mlruns", "cluster.address")
VERBS = ("compose", "fetch", "preprocess", "train", "sweep", "ensemble", "report", "serve", "sync", "adopt", "summary")
SMALL = (
    *("data=folder", "data.name=planted", "data.num_val=12", "data.image_size=32", "data.workers=1", "model.depth=8"),
    *(
        "recipe.max_steps=8",
        "recipe.batch_size=8",
        "recipe.milestones=[]",
        "trainer.accelerator=cpu",
        "trainer.compile=false",
    ),
    *("tracking.system_metrics_every_s=0", "ensemble=top_k", "ensemble.size=1"),
)
SWEEP = ("sweep.space={model.depth:[8]}", "sweep.reduction_factor=0")


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    import pipeline.stages.compose
    import pipeline.stages.evaluate
    import pipeline.stages.preprocess
    import pipeline.stages.report
    import pipeline.stages.train  # noqa: F401 (the children need them)

    rng = random.Random(seed)
    for name in ("conf", "params.yaml"):
        source = ROOT / name
        shutil.copytree(source, scratch / name) if source.is_dir() else shutil.copy(source, scratch / name)
    for _ in range(TRIALS):
        yield _in_the_configuration(rng, scratch)
    yield from _in_the_environment(rng, scratch)


def _secret(rng: random.Random) -> str:
    """20 characters, of those that a URL's password may hold."""
    return "".join(rng.choice("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMN23456789-_.~!*") for _ in range(20)) + "Zz9"


def _in_the_configuration(rng: random.Random, root: Path) -> Outcome:
    secret, host = _secret(rng), rng.choice(("host", "127.0.0.1:9", "mlflow.example.org"))
    scheme = rng.choice(("https", "http", "HTTPS"))
    url = rng.choice(
        (
            f"{scheme}://user:{secret}@{host}/data",
            f"{scheme}://{secret}@{host}",
            f"{scheme}://user:{secret}/@/@{host}/data.tgz",
            f"{scheme}://{host}/data?token={secret}",
            f"{scheme}://{host}/data?X-Amz-Credential=a&X-Amz-Signature={secret}",
            f"{scheme}://{host}/?{secret}",
            f"{scheme}://{host}/#{secret}",
            f"postgresql://mlflow:{secret}@{host}/mlflow",
            f"postgresql://{host}/mlflow?user=mlflow&password={secret}",
            f"s3://key:{secret}@bucket/net.pt",
            f"ftp://user:{secret}@{host}/data.tar",
        )
    )
    verb, key = rng.choice(VERBS), rng.choice(KEYS)
    form = rng.choice(
        (
            "{key}='{url}'",
            '{key}="{url}"',
            "{key}={url}",
            "{key}=[{url}]",
            "{key}x='{url}'",
            "sweep.space={{a: '{url}'}}",
        )
    )
    override = form.format(key=key, url=url)
    ended = child.pipeline(verb, "data=cifar10", override, cwd=root, timeout_s=60)
    name = f"pipeline {verb} {override.replace(secret, 'SECRET')}"
    leaks = _leaks([secret], root, ended.output)
    another = OTHER_WAYS.get(override.partition("=")[0].lstrip("+"), "environment")
    ok = not leaks and ended.refused() and another in ended.last_line
    return Outcome(name, ok, f"{leaks or ended.summary()}".replace(secret, "SECRET"), REFUSED)


def _in_the_environment(rng: random.Random, root: Path) -> Iterator[Outcome]:
    """Every stage, with a mirror that asks for a password and secrets in the environment."""
    home, ray, archive = root / "home", Path("/tmp") / f"rel-{os.getpid()}", _archive()
    home.mkdir()
    ray.mkdir(mode=0o700)
    user, password = "planted-user", _secret(rng)
    names = (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
    )
    environment = {name: _secret(rng) for name in names}
    secrets = [password, *environment.values()]
    environment |= {"HOME": str(home), "RAY_TMPDIR": str(ray), "MLFLOW_TRACKING_USERNAME": user}
    login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def script(request: Request) -> Iterator[bytes]:
        right = request.headers.get("authorization") == login
        yield served(request, archive) if right else head("401 Who", Content_Length=0)

    with Server(script) as mirror:
        small = (*SMALL, f"data.mirror={mirror.url}")
        netrc = home / ".netrc"
        yield _stage("fetch", small, root, environment, secrets, "fetch without a login", fails=True)
        netrc.write_text(f"machine 127.0.0.1 login {user} password {password}\n", encoding="utf-8")
        netrc.chmod(0o600)
        for verb in ("fetch", "preprocess", "train", "sweep", "ensemble", "evaluate", "report", "sync"):
            yield _stage(verb, small, root, environment, secrets, verb)
    netrc.unlink()
    dead = ("tracking.uri=http://127.0.0.1:9",)
    yield _stage("ensemble", (*small, *dead), root, environment, secrets, "a tracking server that is away", fails=True)
    yield Outcome("Ray's logs and sockets", not (leaks := _leaks(secrets, ray, "")), leaks, KEPT_OUT)
    modes = [path.stat().st_mode & 0o077 for path in ray.iterdir()]
    yield Outcome("the folder of Ray's logs is closed to others", modes == [0], str(modes), KEPT_OUT)
    shutil.rmtree(ray, ignore_errors=True)


def _stage(
    verb: str,
    overrides: tuple[str, ...],
    root: Path,
    environment: dict[str, str],
    secrets: list[str],
    name: str,
    *,
    fails: bool = False,
) -> Outcome:
    if verb == "sweep":  # Ray must not find what a fork inherits
        ended = _afresh(verb, *overrides, *SWEEP, cwd=root, timeout_s=240, environment=environment)
    else:
        ended = child.pipeline(verb, *overrides, cwd=root, timeout_s=240, environment=environment)
    leaks = _leaks(secrets, root, ended.output, apart=".netrc")
    as_promised = ended.refused() if fails else ended.code == 0
    return Outcome(name, as_promised and not leaks, leaks or ended.summary(), KEPT_OUT)


def _afresh(*arguments: str, cwd: Path, timeout_s: float, environment: dict[str, str]) -> child.Ended:
    """`pipeline` in a new Python."""
    command = [sys.executable, "-m", "pipeline", *arguments]

    def start() -> None:
        os.execv(sys.executable, command)

    return child.call(start, cwd=cwd, timeout_s=timeout_s, environment={"PYTHONPATH": str(ROOT), **environment})


def _leaks(secrets: list[str], root: Path, output: str, apart: str = "") -> str:
    """Where a secret is, as it is or in the forms that HTTP gives it."""
    forms = [form for secret in secrets for form in {secret, urllib.parse.quote(secret, safe="")}]
    for path in root.rglob("*"):
        if path.is_file() and path.name != apart and any(form.encode() in path.read_bytes() for form in forms):
            return f"a secret is in {path.relative_to(root)}"
    return "a secret is in the output" if any(form in output for form in forms) else ""


def _archive() -> bytes:
    """planted.tgz: 2 classes of 30 training and 6 test images."""
    stream, rng = io.BytesIO(), np.random.default_rng(0)
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for split, count in (("train", 30), ("test", 6)):
            for label in ("light", "dark"):
                for number in range(count):
                    pixels = rng.integers(0, 128, (32, 32, 3), np.uint8) + (127 if label == "light" else 0)
                    encoded = io.BytesIO()
                    Image.fromarray(pixels.astype(np.uint8)).save(encoded, "PNG")
                    entry = tarfile.TarInfo(f"planted/{split}/{label}/{number}.png")
                    entry.size = len(encoded.getvalue())
                    archive.addfile(entry, io.BytesIO(encoded.getvalue()))
    return stream.getvalue()
