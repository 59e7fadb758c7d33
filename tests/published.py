"""Published archives, for the few tests of real data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = "PIPELINE_TEST_DATA"  # environment variable; by default the folder shared/data beside the checkout
SHARED = Path(os.environ.get(FOLDER) or Path(__file__).parents[2] / "shared" / "data").resolve()


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test where the archive is not there."""
    return pytest.mark.skipif(
        not (SHARED / name).exists(), reason=f"{name} is not in {SHARED}; {FOLDER} names a folder"
    )
