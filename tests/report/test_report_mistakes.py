"""The gallery of mistakes and the reliability diagram."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pages import figures, is_picture
from samples import make_mistakes, make_sample

from pipeline.report.mistakes import COLUMNS, NARROW_COLUMNS, confidence, gallery, mistakes
from pipeline.report.theme import DARK, LIGHT


@pytest.mark.parametrize(("colours", "count"), [(3, 12), (1, 12), (3, 1)])
def test_each_mistake_is_a_picture_with_both_classes(colours, count):
    found = make_mistakes(["automobile of a long name", "猫"], colours)[:count]
    (figure,) = figures(mistakes(replace(make_sample(), mistakes=found)))
    assert figure.alt.startswith("Surest mistakes: automobile of a long name taken for 猫, 100%")
    for theme, columns in ((DARK, COLUMNS), (LIGHT.narrowed(), NARROW_COLUMNS)):
        axes = figure.draw(theme).axes
        shown = [one for one in axes if one.images]
        assert len(shown) == count and len(axes) == max(count, columns if theme.narrow else 0)
        assert shown[0].get_title().startswith("automobi") and "(100%)" in shown[0].get_title()
        assert is_picture(figure.draw, theme)


def test_pictures_show_the_pixels_as_they_are():
    (first, *_) = [axes for axes in gallery(make_mistakes(["a", "b"]))(LIGHT).axes if axes.images]
    assert np.asarray(first.images[0].get_array()).shape == (32, 32, 3)
    assert first.images[0].get_interpolation() == "nearest"


def test_the_diagram_has_accuracy_over_confidence_and_the_share_of_images():
    inputs = make_sample()
    (figure,) = figures(confidence(inputs))
    assert "4.0% apart" in figure.caption and figure.alt.startswith("Reliability: sure 56%, right 52%")
    axes, strip = figure.draw(LIGHT).axes
    (line,) = [line for line in axes.lines if line.get_marker() == "o"]
    bins = inputs.evaluation["calibration"]["bins"]
    assert list(line.get_xdata()) == [100 * one["confidence"] for one in bins]
    assert list(line.get_ydata()) == [100 * one["accuracy"] for one in bins]
    assert sum(bar.get_height() for bar in strip.patches) == pytest.approx(100)
    assert is_picture(figure.draw, DARK.narrowed())


def test_what_was_not_kept_becomes_a_sentence():
    inputs = make_sample()
    evaluation = {key: value for key, value in inputs.evaluation.items() if key != "calibration"}
    without = replace(inputs, evaluation=evaluation, mistakes=())
    assert "No mistakes to show" in mistakes(without)[0] and "holds no confidence" in confidence(without)[0]
