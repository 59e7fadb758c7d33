"""Who may import whom."""

from __future__ import annotations

import subprocess
import sys

import pytest
from imports import ROOT, imported

FILES = {str(p.relative_to(ROOT / "pipeline")): imported(p) for p in (ROOT / "pipeline").rglob("*.py")}
OWNERS = {
    "ray": ("tuning/",),
    "optuna": ("tuning/",),
    "mlflow": ("tracking/", "ensemble/model.py", "detection/model.py"),
    "hydra": ("compose/",),
    "omegaconf": ("compose/",),
    "dvc": (),
    "matplotlib": ("report/",),
    "markdown_it": ("report/",),
    "jinja2": ("report/",),
    "pyarrow": ("data/", "storage/"),
    "cv2": ("data/", "learn/input/"),
    "simplejpeg": ("data/", "learn/input/"),
    "pycocotools": ("evaluation/",),
}


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_has_one_owner(library):
    users = {file for file, names in FILES.items() if any(name.split(".")[0] == library for name in names)}
    assert all(file.startswith(OWNERS[library]) for file in users) if OWNERS[library] else not users
    assert users or not OWNERS[library]


@pytest.mark.parametrize(
    ("package", "above"),
    [
        ("data", ("learn", "fast", "run", "tracking", "tuning", "ensemble", "evaluation", "report", "stages")),
        ("learn/models", ("learn.input", "learn.training", "data", "fast", "run", "evaluation")),
        ("learn/input", ("learn.training", "fast", "run", "evaluation")),
        ("learn", ("run", "tracking", "tuning", "ensemble", "report", "stages")),
        ("fast", ("learn", "run", "tracking", "tuning", "ensemble", "evaluation", "report", "stages")),
        ("storage", ("learn", "fast", "run", "tuning", "ensemble", "evaluation", "report", "stages")),
        ("tracking", ("learn", "fast", "run", "storage", "tuning", "ensemble", "evaluation", "report", "stages")),
        ("evaluation", ("learn", "run", "tuning", "ensemble", "report", "stages")),
        ("run", ("tuning", "ensemble", "evaluation", "report", "stages")),
        ("report", ("run", "tuning", "ensemble", "stages")),
    ],
)
def test_arrows_go_down_only(package, above):
    for file, names in FILES.items():
        if file.startswith(f"{package}/"):
            assert not {name for name in names if name.startswith(tuple(f"pipeline.{other}" for other in above))}, file


def test_only_the_command_line_knows_the_stages():
    for file, names in FILES.items():
        if file != "cli.py" and not file.startswith("stages/"):
            assert not {name for name in names if name.startswith("pipeline.stages")}, file


def test_no_room_is_a_lumber_room():
    assert not [
        file
        for file in FILES
        if file.rsplit("/", 1)[-1] in ("utils.py", "helpers.py", "common.py", "base.py", "misc.py")
    ]


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(name + " is blocked", name=name)
sys.meta_path.insert(0, Blocker())
import {module}
"""


WITHOUT = {
    "pipeline.run.fit": {"ray", "mlflow", "dvc", "hydra", "omegaconf", "pydantic", "pyarrow", "psutil"},
    "pipeline.learn.models.resnet": {"pytorch_lightning", "torchvision", "rich", "yaml"},
    "pipeline.ensemble.predictions": {"pytorch_lightning", "lightning_fabric", "mlflow", "torchvision", "cv2"},
    "pipeline.predict": {
        *("pytorch_lightning", "lightning_fabric", "torchvision", "cv2", "simplejpeg", "PIL", "pandas", "pyarrow"),
        *("mlflow", "ray", "hydra", "omegaconf", "dvc", "pydantic", "yaml", "rich", "pycocotools"),
    },
    # Of what a detector's model carries, these are imported by functions that it never calls.
    "pipeline.detection.model": {"cv2", "simplejpeg", "rich", "ray", "pytorch_lightning", "hydra"},
    "pipeline.ensemble.selection": {"torch", "mlflow"},
    "pipeline.config": {"torch", "numpy", "yaml", "pydantic"},
    "pipeline.stages.sweep": {"torch", "pytorch_lightning", "lightning_fabric", "ray", "optuna", "mlflow"},
    "pipeline.stages.pretrain": {"torch", "pytorch_lightning", "ray", "optuna", "mlflow", "sklearn", "numpy", "PIL"},
    "pipeline.tuning.trial": {"torch", "pytorch_lightning", "lightning_fabric", "ray", "optuna", "mlflow"},
    # The process of a trial that only waits for its ranks, on the head node.
    "pipeline.tuning.ranks": {"pytorch_lightning", "lightning_fabric", "torchvision", "ray", "optuna", "mlflow"},
    "pipeline.stages.watch": {"torch", "pytorch_lightning", "ray", "optuna", "mlflow"},
}


@pytest.fixture(scope="module")
def importing() -> dict[str, subprocess.Popen[str]]:
    """All at once: they take seconds each."""
    started = {}
    for module, blocked in WITHOUT.items():
        code = BLOCKED.format(blocked=blocked, module=module)
        started[module] = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    return started


@pytest.mark.parametrize("module", WITHOUT)
def test_it_imports_without(module, importing):
    _, error = importing[module].communicate()
    assert importing[module].returncode == 0, error


def test_no_two_modules_of_the_tests_share_a_name():
    """pytest imports them by their bare names, so the second of a name would get the first one's content."""
    apart = [path for path in (ROOT / "tests").rglob("*.py") if not (path.parent / "__init__.py").exists()]
    names = [path.stem for path in apart if path.name != "conftest.py"]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})
