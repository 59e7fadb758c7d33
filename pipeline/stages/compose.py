"""compose: one resolved configuration for all stages, so that plain `dvc repro` honours every edit of conf/."""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.atomic import replacing
from pipeline.workspace import Workspace


def run(values: dict[str, Any], workspace: Workspace) -> None:
    """Writes composed.yaml; `values` are already checked."""
    with replacing(workspace.composed) as part:
        part.write_text(yaml.safe_dump(values, sort_keys=False))
    print(
        f"composed.yaml: {values['data']['name']}, {values['model']['family']} net of {values['model']['depth']} layers"
    )
