"""Answers batch by batch, and what is printed of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from imports import ROOT
from PIL import Image
from runs import composed

from pipeline.border import INTERRUPTED
from pipeline.cli import main
from pipeline.predict import answers as answering
from pipeline.predict.answers import answers
from pipeline.predict.source import Predictor
from pipeline.run.inputs import Resize
from pipeline.stages import predict

GREY = Resize(format="arrays", image_size=8, test_side=0, shape=(8, 8, 1))
LEVELS = (30, 200, 110, 0, 170, 90, 240)  # of the files' pixels; a file of 0 holds no image


@pytest.fixture
def files() -> list[Path]:
    """in/0.png and so on, below the current folder."""
    Path("in").mkdir()
    paths = [Path("in") / f"{at}.png" for at in range(len(LEVELS))]
    for path, level in zip(paths, LEVELS, strict=True):
        if level:
            Image.fromarray(np.full((8, 8), level, np.uint8)).save(path)
        else:
            path.write_text("no image")
    return paths


def whiteness(images: np.ndarray) -> np.ndarray:
    """(N, 2): how black and how white each image is."""
    white = images.mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - white, white], axis=1)


def test_each_image_has_its_own_answer_whatever_the_batch(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def looked(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return whiteness(images)

    monkeypatch.setattr(answering, "BATCH", 3)
    made = list(answers(files, Predictor("tiny", ("black", "white"), GREY, looked), composed(ROOT)))
    assert sizes == [3, 2, 1]  # one of the second three cannot be read
    good = [(file, level / 255) for file, level in zip(files, LEVELS, strict=True) if level]
    assert [answer.file for answer in made] == [file for file, _ in good]
    for answer, (_, white) in zip(made, good, strict=True):
        assert dict(answer.top) == pytest.approx({"black": 1 - white, "white": white}, abs=1e-6)
        assert answer.top[0][0] == ("white" if white > 0.5 else "black")


def test_what_was_answered_before_an_interruption_is_printed(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "conf", "conf")
    shutil.copy(ROOT / "params.yaml", ".")
    batches: list[int] = []

    def interrupted(images: np.ndarray) -> np.ndarray:
        batches.append(len(images))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return whiteness(images)

    monkeypatch.setattr(answering, "BATCH", 3)
    made = Predictor("tiny", ("black", "white"), GREY, interrupted)
    monkeypatch.setattr(predict, "predictor", lambda config, workspace: made)
    assert main(["predict", "in", "data=digits"]) == INTERRUPTED
    printed = capsys.readouterr()
    assert [f"in/{at}.png" in printed.out for at in range(len(LEVELS))] == [True] * 3 + [False] * 4
    assert "78.43 %" in printed.out  # 200 of 255
    assert printed.err.splitlines()[-1] == "pipeline predict: interrupted"
