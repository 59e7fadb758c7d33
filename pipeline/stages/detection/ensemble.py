"""ensemble, for detectors: joins the best runs in MLflow, which then share the regions that they propose; registers them as a model."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.detection.build import build_ensemble
from pipeline.ensemble.card import NAME as CARD
from pipeline.ensemble.members import Source
from pipeline.record import Net
from pipeline.tracking.lineage import lineage
from pipeline.tracking.location import require_answer
from pipeline.tracking.models import describe
from pipeline.tracking.sync import sync
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    source = Source.configured(config, workspace.store(config.data.name))
    require_answer(source.location, "ensemble members are runs in MLflow")
    sync(source.runs, source.location)
    made = build_ensemble(source, config.ensemble, workspace.ensemble, lineage(workspace.root))
    model = made.registered
    describe(source.location, model["name"], model["version"], (workspace.ensemble / CARD).read_text())
    for net in made.members:
        print(f"member {net.name} {net.key}: validation {_shown(net, net.val_err1)}")
    print(
        f"ensemble of {made.size} ({made.selection}): validation {_shown(made.members[0], made.val_err1)}, registered as "
        f"{model['name']} version {model['version']} (champion)"
    )


def _shown(net: Net, error: float | None) -> str:
    return "AP not measured" if error is None else net.model.score(error)
