"""Published archives beside the checkout, for the few tests of real data."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test where the archive is not there."""
    return pytest.mark.skipif(not (SHARED / name).exists(), reason=f"../shared/data/{name} is not here")
