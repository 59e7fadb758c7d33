"""The page in a headless Chromium: on a wide screen and on a phone nothing is cut off, and text is large enough to read."""

from __future__ import annotations

import pytest
from browser import CHROMIUM, measured
from samples import make_sample

from pipeline.report.page import build_report

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed: apt-get install chromium")
SMALLEST = 12  # CSS pixels of letters on a phone


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    inputs = make_sample(classes=["a class of a longer name", *(f"class {at}" for at in range(9))])
    return build_report(inputs, tmp_path_factory.mktemp("report") / "report")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off(page, width):
    facts = measured(page, width)
    assert facts["wide"] == facts["room"] == width
    assert {"table", "td", "img", "pre", "p"} <= {part["name"] for part in facts["parts"]}
    assert not [part for part in facts["parts"] if part["hidden"] > 1 or part["right"] > width]


def test_a_phone_gets_letters_that_can_be_read_and_figures_of_its_own(page):
    wide, narrow = (measured(page, width) for width in (1280, 390))
    assert min(part["letters"] for part in narrow["parts"]) >= SMALLEST
    for facts, natural in ((wide, 700), (narrow, 355)):
        shown = [part["shown"] for part in facts["parts"] if part["name"] == "img"]
        assert len(shown) > 10 and max(shown) >= natural - 1
    assert max(part["shown"] for part in narrow["parts"] if part["name"] == "img") <= 356
