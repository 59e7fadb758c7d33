"""The command line: quick help, one sentence a mistake, exit codes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import timeit
from pathlib import Path

import pytest
import yaml
from imports import ROOT

from pipeline import entry
from pipeline.cli import _words, main
from pipeline.compose import compose
from pipeline.config import from_dict
from pipeline.verbs import VERBS


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from pipeline.cli import main; main(['--help']); "
        "print(sorted({'torch', 'hydra', 'omegaconf', 'ray', 'mlflow', 'numpy', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"
    assert all(verb in printed for verb in VERBS)
    assert "data=boxes|cifar10|cifar100|" in printed and "ensemble=best_per_depth|" in printed


def test_cfg_job_prints_the_composed_configuration(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["train", "data=cifar10", "model.depth=56", "--cfg", "job"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["data"]["name"], printed["model"]["depth"]) == ("cifar10", 56)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "model.depth=21"], "model.depth=21 is not 6n+2"),
        (["train", "--fast"], "unknown option --fast"),
        (
            ["train", "--multirun", "model.depth=20,32", "seed=1"],
            "run `pipeline sweep 'sweep.space={model.depth:[20,32]}' seed=1`",
        ),
        (
            ["train", "-m", "model.depth=20,32", "paths.runs=~/größe"],
            "run `pipeline sweep 'sweep.space={model.depth:[20,32]}' 'paths.runs=~/größe'`",
        ),
        (["train", "model.depth=20,32"], "or run `pipeline sweep 'sweep.space={model.depth:[20,32]}'`"),
        (["train", "--info"], "--info is Hydra's; here `pipeline keys` explains each key"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml is missing; `pipeline compose` writes composed.yaml"),
        (["train", "--config", "params.yaml", "seed=1"], "takes no overrides"),
        (["preprocess"], "data"),
        (["train", "--config", "conf"], "conf is no file"),
        (["train", "--config", "broken.yaml"], "broken.yaml is no YAML: "),
        (["train", "--config", "list.yaml"], "list.yaml holds a list instead of keys and values"),
        (["train", "seed=["], "seed=["),
        (["train", "seed"], "seed is no override; write key=value"),
        (["train", "+=seed"], "+=seed is no override; write key=value"),
        (["sweep", "stauts"], "`pipeline sweep stauts`: after sweep comes one of status, stop, retry, with a name"),
        (["sweep", "stop", "sweep-a", "sweep-b"], "after sweep comes one of status, stop, retry"),
        (
            ["sweep", "status", "data=digits"],
            "does not hold a sweep of digits; `pipeline sweep data=digits` starts one",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, sentence, monkeypatch, capsys, workspace):
    root: Path = workspace()
    (root / "data").rename(root / "elsewhere")
    (root / "broken.yaml").write_text("seed: [")
    (root / "list.yaml").write_text("- seed")
    monkeypatch.chdir(root)
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"pipeline {arguments[0]}: ") and sentence in printed
    assert "Traceback" not in printed and len(printed.strip().splitlines()) == 1


def test_outside_a_clone_it_says_so(tmp_path, capsys):
    assert main(["train"]) == 2
    assert "no conf/config.yaml in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name", "path"),
    [
        (["data=folder", "data.path=/x/flowers"], "flowers", "/x/flowers"),
        (["data=folder", r"data.path='/x/it\'s, or: a #1'", "data.name=roses"], "roses", "/x/it's, or: a #1"),
        (["data=folder", "data.path=/home/o'brien/blüten"], "blüten", "/home/o'brien/blüten"),
        (["data=cifar10", "data.name=c10b"], "c10b", ""),
    ],
)
def test_compose_refuses_a_data_set_that_dvc_would_call_otherwise_and_its_remedy_works(
    words, name, path, monkeypatch, workspace, capsys
):
    root: Path = workspace()
    monkeypatch.chdir(root)
    assert main(["compose", *words]) == 2
    lines = re.findall(r'"([^"]+)"', capsys.readouterr().err)
    (root / "conf" / "data" / f"{name}.yaml").write_text("\n".join(lines), encoding="utf-8")
    (root / "params.yaml").write_text(f"data: {name}", encoding="utf-8")
    for chosen in ([f"data={name}"], []):
        assert main(["compose", *chosen]) == 0
        composed = yaml.safe_load((root / "composed.yaml").read_text(encoding="utf-8"))
        assert (composed["data"]["name"], composed["data"]["path"]) == (name, path)


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_a_mistake_leaves_no_traceback_in_a_real_process_unless_asked_for(workspace):
    done = run(workspace(), "train", "model.depth=21")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pipeline train: model.depth=21 is not 6n+2") and done.stderr.count("\n") == 1
    debugged = run(workspace(), "train", "model.depth=21", "--debug")
    assert debugged.returncode == 1 and "Traceback" in debugged.stderr


@pytest.mark.parametrize(("closed", "printed"), [(">&-", ["", "no conf/config.yaml in"]), ("2>&-", ["", ""])])
def test_an_output_that_the_caller_closed_changes_nothing_else(closed, printed, tmp_path):
    command = f"exec {shlex.quote(sys.executable)} -m pipeline train {closed}"
    ended = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    outputs = [ended.stdout, ended.stderr.removeprefix("pipeline train: ")[: len(printed[1])]]
    assert (ended.returncode, outputs, "Traceback" in ended.stderr) == (2, printed, False)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_another_system_than_linux_is_refused_before_anything_is_imported(system, monkeypatch, capsys):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(sys, "platform", system)
        elsewhere.setattr("pipeline.cli.main", None)
        assert entry.main() == 2
    assert capsys.readouterr().err == "pipeline: Linux is needed; on Windows use WSL2, on macOS docker compose\n"


def test_help_answers_at_once(workspace):
    root = workspace()
    fastest = min(timeit.repeat(lambda: run(root, "--help"), number=1, repeat=3))
    assert fastest < 2  # torch alone takes longer to import; usually a fifth of a second


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), ([], 2)])
def test_help_is_there_for_all_verbs(arguments, code, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(arguments) == code
    printed = capsys.readouterr().out
    assert printed.startswith("usage: pipeline VERB") and "--cfg job" in printed and "choices:" in printed


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_help_of_its_own(verb, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main([verb, "-h"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: pipeline {verb}") and VERBS[verb].about in printed
    assert all(len(line) <= 120 for line in printed.splitlines() if "=" not in line)
    for example in VERBS[verb].examples:  # what it shows is understood
        words = shlex.split(example)
        if words[0] == "pipeline":
            assert words[1] == verb
            _, overrides = _words(verb, words[2:])
            from_dict(compose(ROOT, overrides))


def test_a_verbs_help_explains_its_keys(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    main(["serve", "--help"])
    printed = capsys.readouterr().out
    assert "serve.max_images" in printed and "sweep.space" not in printed and "sweep=" not in printed
    main(["sweep", "--help"])
    printed = capsys.readouterr().out
    assert "usage: pipeline sweep [status [NAME] | stop [NAME] | retry [NAME]]" in printed and "cluster=" in printed


def test_an_unknown_verb_is_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["trian"])
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and [verb for verb in VERBS if f"'{verb}'" not in printed] == []


def test_compose_writes_what_the_stages_read_and_take_as_it_is(monkeypatch, capsys, workspace):
    root: Path = workspace()
    monkeypatch.chdir(root / "conf" / "data")  # a folder inside the repository is enough
    assert main(["compose", "seed=5"]) == 0
    monkeypatch.chdir(root)
    (root / "params.yaml").write_text("set: {seed: 6}")
    capsys.readouterr()
    assert main(["train", "--config", "composed.yaml", "--cfg", "job"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["seed"] == 5


EARLY = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.cli":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
from pipeline.entry import main
main()
"""


def test_an_interruption_while_the_command_is_imported_ends_it_without_a_traceback():
    ended = subprocess.run([sys.executable, "-c", EARLY], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGINT and not ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_verb_from_outside_leaves_nothing_half_made(number, workspace, monkeypatch, capsys):
    root: Path = workspace()
    monkeypatch.chdir(root)
    signal.signal(number, lambda *_: None)  # the default would end the tests
    monkeypatch.setattr("pipeline.data.preprocess.write_json", lambda *_: signal.raise_signal(number))
    assert main(["preprocess"]) == 75
    assert capsys.readouterr().err.splitlines()[-1].startswith("pipeline preprocess: interrupted")
    assert os.listdir(root / "data" / "store") == ["digits"]
    assert (root / "data" / "store" / "digits" / "manifest.json").exists()


def test_a_workspace_with_code_of_its_own_runs_that_and_no_other(workspace):
    root: Path = workspace()
    shutil.copytree(ROOT / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    cli = root / "pipeline" / "cli.py"
    cli.write_text(cli.read_text().replace("    _quiet()\n", '    print("my own")\n    _quiet()\n', 1))
    (root / "conf" / "below").mkdir()
    command = [sys.executable, "-c", "from pipeline.entry import main; raise SystemExit(main())", "sync", "seed=1"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(words: list[str] | str, cwd: Path) -> subprocess.CompletedProcess[str]:
        shell = isinstance(words, str)
        return subprocess.run(words, cwd=cwd, env=environment, shell=shell, capture_output=True, text=True, check=False)

    # Python puts the current folder first for `-c` and `-m`, and not for the installed script.
    refused = run(command, root / "conf" / "below")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    (remedy,) = re.findall("`(.*)`", refused.stderr)
    done = run(remedy, Path("/"))
    assert done.returncode == 0 and done.stdout.startswith("my own\n"), done.stderr
    assert remedy.endswith("python -m pipeline sync seed=1")
