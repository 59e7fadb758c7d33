"""Words that a shell completes, asked of real shells."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.errors import PipelineError
from pipeline.stages.completion import show

ROOT = Path(__file__).resolve().parents[2]
ASK = {
    "bash": 'source {script}; COMP_LINE="$1"; COMP_POINT=${{#1}}; _pipeline; echo "${{COMPREPLY[@]}}"',
    "fish": 'source {script}; complete -C "$argv[1]" | cut -f1',
}
LINES = [
    ("pipeline tr", "train"),
    ("pipeline sweep stat", "status"),
    ("pipeline train see", "seed="),
    ("pipeline train recipe.mom", "recipe.momentum="),
    ("pipeline train data=digits recipe=cifar_f", "cifar_fast"),
    ("pipeline train model.stride_on=", "1x1 3x3"),
    ("pipeline train --config-", "--config-dir"),
]


@pytest.mark.parametrize("shell", ASK)
def test_a_shell_completes(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    monkeypatch.chdir(ROOT)
    assert main(["completion", shell]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)
    for line, expected in LINES:
        ask = [shell, "-c", ASK[shell].format(script=script), *(["pipeline"] if shell == "bash" else []), line]
        words = subprocess.run(ask, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
        assert [word.split("=")[-1] or word for word in words] == expected.split(), line


def test_another_shell_is_refused() -> None:
    with pytest.raises(PipelineError, match="takes one of bash, zsh, fish, not tcsh"):
        show(["tcsh"], {}, {})
