"""`pipeline export` of a run's net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runs import run_folder

from pipeline.cli import USER_ERROR, main

CPU = "trainer.accelerator=cpu"


def test_a_run_becomes_a_file_in_the_current_folder(
    reference: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    key = run_folder(reference).name
    monkeypatch.chdir(reference)
    assert (
        main(["export", f"export.weights=run:{key}", "export.format=pt2", f"export.path={tmp_path}/net.pt2", CPU]) == 0
    )
    out = capsys.readouterr().out
    assert "takes images (N, 1, 8, 8) uint8, gives probabilities (N, 10)" in out and (tmp_path / "net.pt2").is_file()


def test_without_an_ensemble_the_sentence_says_how_to_make_one(reference: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(reference)
    assert main(["export", CPU]) == USER_ERROR
    assert "`pipeline ensemble" in capsys.readouterr().err
