"""The sweep of the RayJob on a real Ray cluster that is started, guarded and encrypted as the manifests say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from manifests import KUBERAY, built, only
from processes import PATIENCE_S, free_port, until
from runs import Workspaces
from test_certificates import certificate

from pipeline.atomic import read_json

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
TINY = (
    *("data=digits", "recipe.max_steps=680", "trainer.accelerator=cpu", "trainer.val_every_epochs=1"),
    *("sweep.space={model.depth:[8],recipe.lr:[0.1,0.05]}", "tracking.system_metrics_every_s=0"),
)


@contextmanager
def node(root: Path, log: Path, environment: dict[str, str], *options: str) -> Iterator[subprocess.Popen]:
    """A Ray node whose current folder is the workspace, as `workingDir` makes it the image's."""
    with log.open("wb") as stream:
        command = [BIN / "ray", "start", "--block", *options]
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def test_the_entrypoint_runs_and_resumes_as_a_job_of_a_cluster_with_token_and_tls(
    workspace: Workspaces, authority: Path, tmp_path: Path
) -> None:
    import ray.util

    root, spec = workspace(), only("RayCluster", built(KUBERAY / "overlays" / "gpu-spot"))["spec"]
    entrypoint = only("RayJob", built(KUBERAY / "sweep"))["spec"]["entrypoint"]
    ip, port, dashboard = ray.util.get_node_ip_address(), free_port(), free_port()
    made = certificate(authority, tmp_path / "tls", ip)
    variables = {v["name"]: v["value"] for v in spec["autoscalerOptions"]["env"]}  # of TLS alone
    tls = {name: value.replace("/etc/ray/tls", str(made)) for name, value in variables.items()}
    assert tls.pop("RAY_USE_TLS") == "1" and all(Path(path).is_file() for path in tls.values())
    environment = {**os.environ, **tls, "RAY_USE_TLS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment |= {"RAY_AUTH_MODE": spec["authOptions"]["mode"], "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlruns/mlflow.db", "PIPELINE_RUNS": str(root / "runs")}
    container = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    environment |= {v["name"]: v["value"] for v in container["env"] if v["name"].startswith("RAY_JOB_")}
    head_options = [f"--{key}={value}" for key, value in spec["headGroupSpec"]["rayStartParams"].items()]

    def ask(*command: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "ray", *command],
            check=False,
            env={**environment, **changed},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def job(verb: str, *words: str) -> str:
        done = ask("job", verb, "--address", f"http://127.0.0.1:{dashboard}", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    words = [word for word in entrypoint.split() if not word.startswith("data=")]
    with TemporaryDirectory(dir="/tmp") as folder:
        head = ("--head", f"--port={port}", f"--temp-dir={folder}", f"--dashboard-port={dashboard}")
        head += (f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}")
        worker = (f"--address={ip}:{port}", "--num-cpus=2", f"--dashboard-agent-listen-port={free_port()}")
        with node(root, tmp_path / "head.log", environment, *head, *head_options) as process:

            def serves() -> bool:
                assert process.poll() is None, (tmp_path / "head.log").read_text()
                return ask("job", "list", "--address", f"http://127.0.0.1:{dashboard}").returncode == 0

            until(serves, "the head")
            with node(root, tmp_path / "worker.log", environment, *worker):
                until(lambda: "2.0 CPU" in ask("status", "--address", f"{ip}:{port}").stdout, "the worker")
                job("submit", "--no-wait", "--submission-id=first", "--", *words, *TINY)
                until(lambda: any((root / "runs").glob("*/last.ckpt")), "a checkpoint of a trial")
                job("stop", "first")
                assert "stopped with 2 of 2 trials unfinished" in job("logs", "first")
                again = job("submit", "--", *words, *TINY)
                assert "resuming sweep-" in again and "succeeded" in again
                # Without TLS, and with another token, nobody gets in.
                assert ask("status", "--address", f"{ip}:{port}", RAY_AUTH_TOKEN="f" * 64).returncode != 0
                assert ask("status", "--address", f"{ip}:{port}", RAY_USE_TLS="0").returncode != 0
    trials = read_json(root / "experiments" / "digits" / "leaderboard.json")["trials"]
    assert [trial["status"] for trial in trials] == ["finished"] * 2
