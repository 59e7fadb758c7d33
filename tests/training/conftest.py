from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Command
from runs import TINY


@pytest.fixture(scope="session")
def reference(workspace: Callable[[], Path]) -> Path:
    """The workspace of an uninterrupted training of `TINY` on one process, followed in MLflow."""
    root = workspace()
    Command(root, "train", *TINY).succeed()
    return root
