"""data.limits.*: what a data set may take of memory and disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.config.section import Amount, Positive, Section


@dataclass(frozen=True, kw_only=True)
class LimitsConfig(Section):
    """Data beyond these limits is refused before it uses memory or disk. ImageNet is within them.

    Archives in an archive are read one deep, where a published format has them (ImageNet's tar of tars).
    """

    section: ClassVar[str] = "data.limits"

    total_gb: Amount = 1000.0  # 1e9 bytes: a download, or all files of a folder or archive, unpacked
    entries: Positive = 5_000_000  # files and folders of a folder or archive
    entry_mb: Amount = 256.0  # 1e6 bytes: one image file, or one batch of CIFAR
    ratio: Amount = 200.0  # bytes unpacked for each byte of a .tgz or .zip; photographs reach 1.1
    megapixels: Amount = 100.0  # 1e6 pixels of one image, which take 4 bytes each while they are decoded
