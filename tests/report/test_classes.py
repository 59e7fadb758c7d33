"""Errors by class and confusions."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from pages import is_picture
from samples import make_sample

from pipeline.evaluation.intervals import wilson
from pipeline.report.classes import MOST_PAIRS, by_class, classes, confusion
from pipeline.report.markdown import (
    Figure,
)
from pipeline.report.theme import DARK


@pytest.mark.parametrize("K", [3, 20])
def test_class_figures_draw_any_number_of_classes(K):
    counts = np.random.default_rng(0).integers(0, 5, (K, K)).tolist()
    assert is_picture(confusion(counts, [f"a class of things {i}" for i in range(K)]), DARK)
    assert is_picture(by_class([(f"class {i}", i / 10 / K, *wilson(i, 10 * K)) for i in range(K)], 0.05))


ODD_NAMES = [
    "$",
    "$x_1^",
    r"\frac{",
    "a_b^c",
    "猫犬",
    "🐶",
    "क्षत्रिय",
    "e" * 500,
    "e" * 499 + "f",
    " ",
    "\u202eabc",
    "%",
    "{}",
    "&<b>",
]


def test_class_figures_draw_any_names_without_a_missing_glyph():
    """As many texts as classes reach the picture, since each is drawn as it is or escaped."""
    K = len(ODD_NAMES)
    counts = np.random.default_rng(0).integers(1, 5, (K, K)).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for draw in (confusion(counts, ODD_NAMES), by_class([(name, 0.1, 0.05, 0.2) for name in ODD_NAMES], 0.1)):
            assert is_picture(draw)
            (axes,) = draw(DARK).axes
            assert len(axes.get_yticklabels()) == K


@pytest.mark.parametrize("names", [["only"], [f"class {n} with a $ign and 猫" for n in range(1000)]])
def test_one_class_and_a_thousand_make_sections(names):
    K = len(names)
    inputs = make_sample(classes=["a", "b"])
    per_class = [{"class": name, "test_err1": 0.1, "count": 10} for name in names]
    counts = [[9 * (i == j) + (j == (i + 1) % K and K > 1) for j in range(K)] for i in range(K)]
    evaluation = {**inputs.evaluation, "per_class": per_class, "confusion": counts}
    figure, rest = classes(replace(inputs, data={**inputs.data, "classes": names}, evaluation=evaluation))
    assert is_picture(figure.draw) and ("No confusions" in rest) == (K == 1)


def test_an_image_is_taken_for_the_predicted_class():
    inputs = make_sample(classes=["a", "b"])

    def confusions(names, counts):
        evaluation = {**inputs.evaluation, "confusion": counts}
        return classes(replace(inputs, data={**inputs.data, "classes": names}, evaluation=evaluation))[1]

    figure = confusions(["cat", "dog"], [[7, 3], [1, 9]])
    assert figure.caption.endswith("Most frequent: cat taken for dog, 3 times.")
    (axes,) = figure.draw(DARK).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    cells = {text.get_position(): text.get_text() for text in axes.texts}  # by column and row
    assert cells == {(0, 0): "7", (1, 0): "3", (0, 1): "1", (1, 1): "9"}
    many = [[10 * (i == j) for j in range(21)] for i in range(21)]
    many[2][4] = 30
    assert "| class 2 | class 4 | 30 | 75.0% |" in confusions([f"class {i}" for i in range(21)], many)


def test_many_classes_get_a_list_of_confusions():
    figure, pairs = classes(make_sample(classes=[f"class {i}" for i in range(100)]))
    assert isinstance(figure, Figure) and "The 30 classes with the highest error of 100" in figure.caption
    images = [int(line.split("|")[3]) for line in pairs.splitlines()[4:]]
    assert images == sorted(images, reverse=True) and len(images) == MOST_PAIRS
