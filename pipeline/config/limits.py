"""data.limits.*: what a data set may take of memory and disk."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

from pipeline.config.section import Section, require


@dataclass(frozen=True, kw_only=True)
class LimitsConfig(Section):
    """What goes beyond is refused before memory or disk is spent on it. ImageNet takes less than a third of each.

    Archives in an archive are read one deep, where a published format has them (ImageNet's tar of tars).
    """

    total_gb: float = 1000.0  # 1e9 bytes: a download, or all files of a folder or archive, unpacked
    entries: int = 5_000_000  # files and folders of a folder or archive
    entry_mb: float = 256.0  # 1e6 bytes: one image file, or one batch of CIFAR
    ratio: float = 200.0  # bytes unpacked for each byte of a .tgz or .zip; photographs reach 1.1
    megapixels: float = 250.0  # 1e6 pixels of one image

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(
                isfinite(value) and value > 0, f"data.limits.{field.name}={value}; it must be a number greater than 0"
            )
