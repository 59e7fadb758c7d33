"""Errors by class and confusions."""

from __future__ import annotations

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


def test_many_classes_get_a_list_of_confusions():
    figure, pairs = classes(make_sample(classes=[f"class {i}" for i in range(100)]))
    assert isinstance(figure, Figure) and "The 30 classes with the highest error of 100" in figure.caption
    images = [int(line.split("|")[3]) for line in pairs.splitlines()[4:]]
    assert images == sorted(images, reverse=True) and len(images) == MOST_PAIRS
