"""Joining the Ray cluster, and checking what its machines have. `nodes` holds a machine's resources each."""

from __future__ import annotations

import logging
import os
import signal
import stat
import tempfile
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import PipelineError, printable
from pipeline.run.signals import on_termination
from pipeline.tracking.location import Location
from pipeline.tuning.head import watch_head

_LONGEST_SOCKET = "/ray/session_2026-11-28_20-02-25_123456_1234567/sockets/plasma_store"  # below Ray's folder
_MOST_BYTES = 107  # of a socket's name


def join(config: Config, **options: Any) -> bool:
    """Joins the cluster of cluster.address or RAY_ADDRESS, or starts Ray on this machine. False inside a Ray worker.

    From then on SIGTERM and SIGHUP act as SIGINT, on which Tune saves the sweep's state and Train stops; on SIGTERM Ray aborts.
    Import ray only after this call, because ray reads at import whether tokens are in use.

    Args:
        options: for ray.init.
    Raises:
        PipelineError: no cluster answers at the address, it refuses this machine's token, or it has no dashboard to show; or Ray
            does not start here in time, or cannot write its token.
    """
    address = config.cluster.address or os.environ.get("RAY_ADDRESS", "")
    if address and "RAY_AUTH_MODE" not in os.environ and _has_token():
        # `ray start` protects a cluster with a token wherever one exists; ray.init uses one only in this mode.
        os.environ["RAY_AUTH_MODE"] = "token"
    import ray

    if ray.is_initialized():
        return False
    _pass_no_secrets()
    _keep_traces()
    if address and config.cluster.dashboard:
        raise PipelineError(
            f"cluster.dashboard=true is for a Ray that starts on this machine; the cluster at {address} has its own pages at port "
            "8265 of its head, if that was started with them (override: cluster.dashboard=false)"
        )
    if not address:
        options["_temp_dir"] = str(_private_folder() / "ray")
    try:
        # "local": without it ray.init joins whatever cluster this machine last ran, even a dead one.
        made = ray.init(
            address=address or "local",
            include_dashboard=config.cluster.dashboard,
            logging_level=logging.ERROR,
            **options,
        )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise PipelineError(
            f"cannot join the Ray cluster at {address} ({error}); check cluster.address, that `ray start --head` runs there, "
            "and that this machine has its token (RAY_AUTH_TOKEN_PATH)"
        ) from error
    except Exception as error:  # Ray has no class for this
        token = Path(os.path.expanduser("~/.ray/auth_token"))
        if isinstance(error, OSError) and Path(str(error.filename)) in (token, *token.parents):
            raise PipelineError(
                f"Ray cannot write its token, {token} ({error.strerror}); name a folder that you may write to in HOME, or in "
                "RAY_AUTH_TOKEN_PATH a file that holds a token"
            ) from error
        if "timed out" not in str(error).lower():
            raise
        raise PipelineError(
            f"Ray did not start on this machine in time ({printable(error)}); end programs that keep it busy and run the same command "
            "again"
        ) from error
    if config.cluster.dashboard:
        print(_dashboard(made.dashboard_url, ray.get_runtime_context().gcs_address))
    watch_head(ray.get_runtime_context().gcs_address)
    on_termination(lambda *_: os.kill(os.getpid(), signal.SIGINT))
    return True


def _dashboard(url: str | None, head: str) -> str:
    """The lines about Ray's pages and its own command; raises PipelineError where Ray lacks the packages for them."""
    if not url:
        raise PipelineError(
            'cluster.dashboard=true, and Ray has no pages to show; install them (pip install "ray[default]"), or do without '
            "(override: cluster.dashboard=false)"
        )
    secret = os.environ.get("RAY_AUTH_MODE") == "token"
    token, mode = (" (its token: ray get-auth-token)", "RAY_AUTH_MODE=token ") if secret else ("", "")
    return f"Ray's dashboard: http://{url}{token}\nRay's own account: {mode}ray status --address {head}"


def _private_folder() -> Path:
    """Where a Ray that starts on this machine keeps its logs and sockets, in a folder that Ray itself opens to all users.

    Raises:
        PipelineError: another user has, or may enter, the folder, or its name is too long.
    """
    folder = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / f"ray-{os.getuid()}"
    if (over := len(os.fsencode(f"{folder}{_LONGEST_SOCKET}")) - _MOST_BYTES) > 0:
        raise PipelineError(
            f"{folder}, where Ray keeps its sockets, has {over} bytes too many for the names of sockets; name a place with a "
            "shorter name (RAY_TMPDIR=/tmp)"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise PipelineError(
            f"{folder}, where Ray keeps its logs, must be a folder that you alone may enter (chmod 700); mend that, or name "
            "another place in RAY_TMPDIR"
        )
    return folder


def _keep_traces() -> None:
    """Keeps the stack traces of lost trials and of other machines' processes in Ray's logs.

    The user reads a line for each, see `console.TrialLines`. Ray has no setting for the second kind.
    """
    import ray._private.worker

    logging.getLogger("ray.tune.execution.tune_controller").setLevel(logging.CRITICAL)
    ray._private.worker.listen_error_messages = lambda worker, threads_stopped: None


def _pass_no_secrets() -> None:
    """Keeps Tune from copying AWS keys into each trial's runtime environment, which Ray logs and keeps in its store.

    Workers of a local Ray inherit the environment anyway; nodes of a cluster have their own.
    """
    from ray.tune.execution import class_cache

    class_cache.ENV_VARS_TO_PROPAGATE = {n for n in class_cache.ENV_VARS_TO_PROPAGATE if not n.startswith("AWS_")}


def check_tracking(location: Location) -> None:
    """Raises PipelineError if other machines of the cluster would write runs to databases of their own."""
    import ray

    machines = len({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]})
    if machines > 1 and location.uri.startswith("sqlite:"):
        raise PipelineError(
            f"the Ray cluster has {machines} machines and runs would be tracked in {location.uri}, which only one of them "
            "writes; name an MLflow server that all reach: tracking=server with MLFLOW_TRACKING_URI"
        )


def live_nodes() -> list[dict[str, float]]:
    """What each machine of the cluster has, by resource."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def load() -> dict[str, list[float]]:
    """What of the cluster is in use, and what it has: CPUs, GPUs, machines."""
    import ray

    have, free, machines = ray.cluster_resources(), ray.available_resources(), float(len(live_nodes()))
    used = {kind: [have[kind] - free.get(kind, 0.0), have[kind]] for kind in ("CPU", "GPU") if have.get(kind)}
    return {**used, "machines": [machines, machines]}


def on_gpus(config: Config, nodes: list[dict[str, float]]) -> bool:
    """Whether ranks take GPUs."""
    accelerator = config.trainer.accelerator
    return accelerator == "gpu" or (accelerator == "auto" and any(node.get("GPU", 0) > 0 for node in nodes))


def check_precision(config: Config, nodes: list[dict[str, float]]) -> None:
    """Raises PipelineError if every rank would refuse recipe.precision."""
    if config.recipe.precision == "tf32" and not on_gpus(config, nodes):
        from pipeline.learn.training.precision import resolve  # needs torch, without which a sweep starts sooner

        resolve(config.recipe.precision, "cpu")


def side_by_side(config: Config, nodes: list[dict[str, float]]) -> int:
    """How many trainings of trainer.devices x trainer.num_nodes ranks, each on a CPU or a GPU, fit at the same time.

    Elastic ones take all that is there, one after another.

    Raises:
        PipelineError: none fits.
    """
    resource, ranks = "GPU" if on_gpus(config, nodes) else "CPU", config.trainer.world_sizes[0]
    available = sum(int(node.get(resource, 0)) for node in nodes)
    if ranks > available:
        raise PipelineError(
            f"{ranks} ranks need {ranks} {resource}s, the Ray cluster has {available}; "
            "lower trainer.devices or trainer.num_nodes, or name a larger cluster in cluster.address"
        )
    return 1 if config.trainer.elastic else available // ranks


def _has_token() -> bool:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token")
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(path).is_file()
