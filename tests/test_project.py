"""Files that hosts and editors read: they name this version, run the commands of this repository, and pin what they fetch."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_citation_and_changelog_name_this_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest.group(1) == VERSION


def test_the_workflow_runs_what_ci_runs_with_actions_pinned_by_commit() -> None:
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"} and os.access(ROOT / ".ci/run", os.X_OK)
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert actions and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in actions)


def test_hooks_run_the_locked_tools() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert all(hook["entry"].startswith(".venv/bin/") for hook in repository["hooks"])


def test_the_dev_container_is_pinned_and_installs_the_locked_environment() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert re.fullmatch(r"python:3\.11-bookworm@sha256:[0-9a-f]{64}", container["image"])
    assert container["postCreateCommand"] == "make .venv/.installed"


def test_every_long_test_exists() -> None:
    for name in (ROOT / "tests" / "long.txt").read_text().split():
        path, _, function = name.partition("::")
        assert re.search(rf"^ *def {re.escape(function.rpartition('::')[2])}\(", (ROOT / path).read_text(), re.M), name


def test_what_is_long_is_tested_by_ci() -> None:
    commands = (ROOT / ".ci/run").read_text().splitlines()
    assert commands.index("make test-long") == commands.index("make test") + 1
