"""serve: answers requests with the registered ensemble until a signal ends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.config import Config
from pipeline.ensemble import server
from pipeline.ensemble.register import model_name
from pipeline.learn.training.precision import uses_cuda
from pipeline.tracking import models
from pipeline.tracking.location import locate, require_answer
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    serve(config, server.classifier)


def serve(config: Config, served: Callable[[Any], server.Served]) -> None:
    """Prints the address once requests can arrive.

    Args:
        served: of the model that MLflow loads.
    """
    location, name = locate(config.tracking.uri, config.paths.mlruns), model_name(config.data.name)
    require_answer(location, "the registered ensemble is in MLflow")
    device = "cuda" if uses_cuda(config.trainer.accelerator) else "cpu"
    model, version = models.load(location, name, device)
    listening, host = server.listening(config.serve), config.serve.host
    address = f"[{host}]" if ":" in host else host  # of IPv6
    print(f"{name} version {version} at http://{address}:{config.serve.port}/invocations", flush=True)
    server.server(served(model), f"{name} version {version}", config.serve).run(sockets=[listening])
