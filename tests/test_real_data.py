"""Where tests of real data look for it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from imports import ROOT


def test_tests_of_real_data_are_skipped_until_the_folder_that_the_environment_names_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_TEST_DATA", str(tmp_path))
    made = runpy.run_path(str(ROOT / "tests" / "published.py"))
    skip = made["needs"]("cifar10.tgz")
    assert (
        skip.args == (True,)
        and str(tmp_path) in skip.kwargs["reason"]
        and "PIPELINE_TEST_DATA" in skip.kwargs["reason"]
    )
    (tmp_path / "cifar10.tgz").touch()
    assert made["needs"]("cifar10.tgz").args == (False,)
    monkeypatch.delenv("PIPELINE_TEST_DATA")
    assert runpy.run_path(str(ROOT / "tests" / "published.py"))["SHARED"] == ROOT.parent / "shared" / "data"
