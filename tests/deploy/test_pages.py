"""What the pages on clusters tell people to type is understood."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from imports import ROOT

DEPLOY = ROOT / "deploy"
PAGES = [ROOT / "docs" / "deploy.md", *sorted(DEPLOY.glob("*/README.md"))]
TEXTS = {path: path.read_text().replace("\\\n", " ") for path in [*PAGES, *sorted(DEPLOY.rglob("*.sbatch"))]}
COMMAND = r"(?:\bpipeline |deploy/slurm/)(\w+)(?:\.sbatch)?((?: +[\w.]+=[^\s'`&]+)+)"
COMMANDS = sorted({verb + words for text in TEXTS.values() for verb, words in re.findall(COMMAND, text)})
ENTRYPOINT = yaml.safe_load((DEPLOY / "kuberay" / "sweep" / "rayjob.yaml").read_text())["spec"][
    "entrypoint"
].removeprefix("pipeline ")


@pytest.mark.parametrize("command", [*COMMANDS, ENTRYPOINT], ids=str)
def test_its_commands_compose(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    from pipeline.compose import compose
    from pipeline.config import from_dict
    from pipeline.verbs import VERBS

    verb, *overrides = command.split()
    assert verb in VERBS
    from_dict(compose(ROOT, overrides))


def test_commands_of_each_kind_were_found() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"train", "sweep", "fetch", "preprocess"}


def test_the_sweep_in_short_on_kubernetes_makes_the_data_and_needs_no_secret_but_the_token() -> None:
    folders = re.findall(r"kubectl \w+ -k deploy/kuberay/([\w/-]+)", TEXTS[ROOT / "docs" / "deploy.md"])
    assert folders == ["overlays/gpu", "data", "sweep"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_it_names_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", TEXTS[page]):
        assert (page.parent / link).exists(), link
    for name in re.findall(r"\b(?:deploy|docs|docker)/[\w./-]*\w", TEXTS[page]):
        assert name.startswith("docker/secrets") or (ROOT / name).exists(), name


def test_its_components_and_overlays_are_those_that_are_there() -> None:
    page = TEXTS[DEPLOY / "kuberay" / "README.md"]
    listed = re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in (DEPLOY / "kuberay" / "components").iterdir())
    assert set(re.findall(r"overlays/([\w-]+)", page)) == {
        path.name for path in (DEPLOY / "kuberay" / "overlays").iterdir()
    }
