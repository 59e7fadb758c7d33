"""ensemble, for detectors: joins the best runs in MLflow, which then share the regions that they propose; registers them as a model."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.detection.build import build_ensemble
from pipeline.record import Net
from pipeline.stages.ensemble import make
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    made = make(build_ensemble, config, workspace)
    for net in made.members:
        print(f"member {net.name} {net.key}: validation {_shown(net, net.val_err1)}")
    print(
        f"ensemble of {made.size} ({made.selection}): validation {_shown(made.members[0], made.val_err1)}, registered as "
        f"{made.registered['name']} version {made.registered['version']} (champion)"
    )


def _shown(net: Net, error: float | None) -> str:
    return "AP not measured" if error is None else net.model.score(error)
