"""What makes a run another run."""

from __future__ import annotations

import ast
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from imports import ROOT, file_of, imported
from runs import composed

from pipeline.run import key
from pipeline.run.key import run_key


@pytest.mark.parametrize(
    "change",
    [
        *("recipe.lr=0.05", "seed=1", "model.depth=20", "data.split=full", "data.num_train=500"),
        *("recipe.augment.padding=2", "recipe.augment.mixup=0.2", "trainer.val_every_epochs=2"),
        "trainer.sync_batchnorm=false trainer.devices=2",
    ],
)
def test_what_decides_the_result_makes_another_run(workspace, change):
    root = workspace()
    assert run_key(composed(root), "hash", "fp32") != run_key(composed(root, *change.split()), "hash", "fp32")


@pytest.mark.parametrize(
    "change",
    [
        *("trainer.devices=2", "trainer.threads=2", "trainer.log_every_steps=7", "paths.runs=elsewhere"),
        *("trainer.sync_batchnorm=false", "data.workers=3", "ensemble.size=2"),  # of one rank
    ],
)
def test_what_does_not_leaves_it_the_same(workspace, change):
    root = workspace()
    assert run_key(composed(root), "hash", "fp32") == run_key(composed(root, change), "hash", "fp32")


def test_ranks_whose_net_drops_units_are_another_run(workspace):
    root, vgg = workspace(), ("data=cifar10", "model=vgg_bn_small")
    one, two = (composed(root, *vgg, f"trainer.devices={ranks}") for ranks in (1, 2))
    assert run_key(one, "hash", "fp32") != run_key(two, "hash", "fp32")


def test_other_data_or_arithmetic_make_another_run(workspace):
    config = composed(workspace())
    assert len({run_key(config, data, precision) for data in ("a", "b") for precision in ("fp32", "bf16")}) == 4


def test_code_counts_and_its_comments_do_not(tmp_path, monkeypatch):
    monkeypatch.setattr(key, "_ROOT", tmp_path)
    monkeypatch.setattr(key, "_CODE", ("a.py",))

    def version(text: str) -> str:
        (tmp_path / "a.py").write_text(text)
        return key.code_version.__wrapped__()

    module = [version(text) for text in ('"""Doc."""\nx = 1  # one\n', '"""Another."""\n\nx = 1\n', "x = 1\n")]
    function = [version(f"def f():\n{text}    return 1\n") for text in ('    """Doc."""\n', "", "    # A comment.\n")]
    assert len(set(module)) == len(set(function)) == 1
    changed = [version('"""Doc."""\nx = 2\n'), version("def f():\n    return 2\n")]
    assert len({module[0], function[0], *changed}) == 4


def test_code_of_boxes_and_of_ap_counts_for_detectors_alone(workspace, monkeypatch, tmp_path):
    configs = [composed(workspace(), f"data={name}") for name in ("digits", "digit_scenes")]
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(key, "_ROOT", tmp_path / "pipeline")
    monkeypatch.setattr(key, "code_version", key.code_version.__wrapped__)

    def keys() -> list[str]:
        return [run_key(config, "hash", "fp32") for config in configs]

    classifier, detector = keys()
    seen = {detector}
    for name in key._DETECTORS_CODE:
        with (tmp_path / "pipeline" / name).open("a") as source:
            source.write("ADDED = 2\n")
        again, other = keys()
        assert again == classifier and other not in seen
        seen.add(other)


def test_code_that_training_imports_counts_unless_it_decides_no_weight():
    sources = (ROOT / "pipeline/learn").rglob("*.py")
    needed = {path for source in sources for path in map(file_of, imported(source)) if path}
    names = {str(path.relative_to(ROOT / "pipeline")) for path in needed} - {"errors.py", "fast/graphs.py"}
    counted = (*key._CODE, *key._DETECTORS_CODE, "config")  # the configuration's values are in the key
    assert not {name for name in names if not name.startswith(counted)}


def test_code_that_another_python_parses_is_the_same_code(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("def f(x: int = 0) -> str:\n    return f'{x:>{2}}'\n")
    before = key._syntax(tmp_path / "a.py")
    # What Python 3.12 did: functions got a field, empty but for new syntax.
    monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "added"))
    monkeypatch.setattr(ast.FunctionDef, "added", [], raising=False)
    assert "added" in ast.dump(ast.parse((tmp_path / "a.py").read_text()))
    assert key._syntax(tmp_path / "a.py") == before


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_the_code_has_one_version_for_all_pythons(version):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip(f"no Python {version} on this machine")
    source = inspect.getsource(key)
    functions = source[source.index("def _syntax") : source.index("def _hash")]
    script = f"import ast, sys\nfrom pathlib import Path\n{functions}\nprint(_syntax(Path(sys.argv[1])))"
    path = key._ROOT / "learn" / "training" / "classifier.py"
    printed = subprocess.run([python, "-c", script, str(path)], check=True, capture_output=True, text=True).stdout
    assert printed == f"{key._syntax(path)}\n"


def test_a_locale_of_another_encoding_leaves_the_code_the_same(tmp_path):
    if shutil.which("localedef") is None or not Path("/usr/share/i18n/locales/POSIX").exists():
        pytest.skip("no localedef or no sources of locales (Debian: locales)")
    # It warns of categories that POSIX lacks, and ends with 1.
    make = ["localedef", "-c", "-f", "ISO-8859-1", "-i", "POSIX", str(tmp_path / "x.ISO-8859-1")]
    subprocess.run(make, check=False, capture_output=True)
    path = tmp_path / "a.py"
    path.write_text("TITLE = '8×8'\n", encoding="utf-8")
    code = "import locale, sys; from pathlib import Path; from pipeline.run.key import _syntax; "
    code += "print(locale.getencoding(), ascii(_syntax(Path(sys.argv[1]))))"
    environment = {**os.environ, "LOCPATH": str(tmp_path), "LC_ALL": "x.ISO-8859-1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", code, str(path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert printed == f"ISO-8859-1 {key._syntax(path)!a}\n"
