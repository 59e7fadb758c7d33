"""What README.md and the pages of docs/ tell people to type exists and is understood."""

from __future__ import annotations

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from imports import ROOT

README = ROOT / "README.md"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text().replace("\\\n", " ")  # a command on two lines is one
    for path in (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
LINES = 200  # of README.md
WALK, STEPS = "From a clone to a served prediction", 8
PLACEHOLDER = re.compile(r"<|\.\.\.|…|\b[A-Z]{3,}\b")  # such as <name>: the command is no whole one
FOLDERS = "benchmarks|conf|deploy|docker|docs|pipeline|reliability|results|tests"
ROOMS = "config|data|ensemble|evaluation|fast|learn|predict|report|run|stages|storage|tracking|tuning"
MADE_BY_THE_USER = ("docker/secrets", "conf/data/flowers.yaml")


def indented(page: str) -> list[str]:
    """Commands of the indented blocks."""
    return [line.strip().split("  #")[0] for line in PAGES[page].splitlines() if line.startswith("    ")]


def whole_commands(page: str) -> list[str]:
    """Commands of the indented blocks, and those in the text that leave nothing to fill in."""
    inline = [" ".join(code.split()) for code in re.findall(r"`((?:pipeline|dvc exp run) [^`]+)`", PAGES[page])]
    return [*indented(page), *(code for code in inline if not PLACEHOLDER.search(code))]


def section(page: str, title: str) -> list[str]:
    """Commands of the indented block under a heading."""
    text = re.search(rf"^## {title}\n(.*?)^## ", PAGES[page], re.MULTILINE | re.DOTALL)
    assert text, title
    return [line.strip() for line in text[1].splitlines() if line.startswith("    ")]


def overrides(words: list[str]) -> list[str]:
    return [word for word in words if "=" in word and not word.startswith("-")]


# `pipeline ...`, or whatever starts `-m pipeline ...`
PIPELINE = sorted(
    {
        command.strip()
        for page in PAGES
        for line in whole_commands(page)
        for command in re.findall(r"(?:^|&& |-m )(pipeline [^&]+)", line)
    }
)
EXPERIMENTS = sorted(
    {
        part.strip()
        for page in PAGES
        for line in whole_commands(page)
        for part in line.split(";")
        if part.startswith("dvc exp run")
    }
)

IN_A_ROW = [
    pytest.param(block, id=f"{page}-{index}")
    for page, text in PAGES.items()
    for index, block in enumerate(re.findall(r"(?:^    .*\n)+", text, re.M))
    if block.count("dvc exp run") > 1
]


def test_the_first_commands_are_the_two_that_do_everything():
    assert [line.split()[:2] for line in indented("README.md")[:2]] == [["make", "repro"], ["make", "test"]]


def test_the_readme_is_a_page():
    assert len(README.read_text().splitlines()) <= LINES


def test_the_walk_to_a_served_prediction_is_short():
    commands = section("README.md", WALK)
    assert commands[0] == "make repro" and any(command.startswith("curl ") for command in commands)
    assert len(commands) <= STEPS


@pytest.mark.parametrize("page", PAGES)
def test_its_make_targets_exist(page: str):
    targets = set(" ".join(re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.M)).split())
    assert set(re.findall(r"(?:`|^    )make ([a-z][\w-]*)", PAGES[page], re.M)) <= targets


@pytest.mark.parametrize("command", PIPELINE)
def test_pipeline_commands_compose(command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    from pipeline.compose import compose
    from pipeline.config import from_dict
    from pipeline.verbs import VERBS

    words = shlex.split(command)
    assert words[1] in VERBS
    from_dict(compose(ROOT, overrides(words)))


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_experiments_are_choices_that_compose(command: str, tmp_path: Path):
    from pipeline.compose import compose
    from pipeline.config import from_dict

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key, value in (word.split("=", 1) for word in overrides(shlex.split(command))):
        *parents, leaf = key.lstrip("+").split(".")
        assert parents or leaf in params, f"-S {key} needs a + that the page forgets"
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = yaml.safe_load(value)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    from_dict(compose(tmp_path, []))


@pytest.mark.parametrize("block", IN_A_ROW)
def test_experiments_in_a_row_choose_what_each_chooses_alone(block: str, tmp_path: Path):
    """DVC leaves in params.yaml what -S sets, until git restores it."""
    from dvc.utils.hydra import apply_overrides

    params, alone = tmp_path / "params.yaml", tmp_path / "alone.yaml"
    shutil.copy(ROOT / "params.yaml", params)
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if words == ["git", "restore", "params.yaml"]:
            shutil.copy(ROOT / "params.yaml", params)
        elif words[:3] == ["dvc", "exp", "run"]:
            shutil.copy(ROOT / "params.yaml", alone)
            for path in (params, alone):
                apply_overrides(str(path), [word for flag, word in pairwise(words) if flag == "-S"])
            assert yaml.safe_load(params.read_text()) == yaml.safe_load(alone.read_text()), line


@pytest.mark.parametrize("page", ["docs/data.md", "docs/extending.md"])
def test_the_file_of_a_data_set_that_it_shows_composes(page: str, tmp_path: Path):
    from pipeline.compose import compose
    from pipeline.config import from_dict

    parts = ("# @package _global_", r"defaults: \[folder, _self_\]", r"data: \{path: (.+?)\}")
    lines = [re.search(part, PAGES[page]) for part in parts]
    assert all(lines), page
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "flowers.yaml").write_text("\n".join(line[0] for line in lines))
    assert from_dict(compose(ROOT, ["data=flowers"], tmp_path)).data.path == lines[-1][1]


def test_commands_were_found():
    assert len(PIPELINE) > 50 and len(EXPERIMENTS) > 9 and len(IN_A_ROW) > 2


@pytest.mark.parametrize("page", PAGES)
def test_files_it_names_exist(page: str):
    for path in re.findall(rf"(?<![\w/])(?:{FOLDERS})/[\w./-]*", PAGES[page]):
        start = path.rstrip("./-")  # the rest of a name may be left open: conf/data/<name>.yaml
        assert path.startswith(MADE_BY_THE_USER) or any(ROOT.glob(f"{start}*")), path
    if page in ("docs/architecture.md", "docs/extending.md"):
        for path in re.findall(rf"(?<![\w/])(?:{ROOMS})/[\w/]+\.py", PAGES[page]):
            assert (ROOT / "pipeline" / path).is_file(), path
