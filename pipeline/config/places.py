"""tracking.* and paths.*: where runs are kept."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.section import Section


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Section):
    """MLflow."""

    uri: str  # "" for the SQLite store below paths.mlruns
    system_metrics_every_s: int  # 0 for none


@dataclass(frozen=True, kw_only=True)
class PathsConfig(Section):
    """Folders that outlive one workspace; relative ones start at the repository's root."""

    runs: str
    mlruns: str
