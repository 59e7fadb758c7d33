from __future__ import annotations

from pipeline.report.lettering import FONT, lettering


def test_letters_that_no_font_has_are_escaped_and_a_font_that_has_them_is_used():
    labels, options = lettering(["cat", "x\U0010fffd", "\ue000"], 14)
    assert labels == ["cat", r"x\U0010fffd", r"\ue000"]
    assert options["parse_math"] is False and options["fontfamily"] == [FONT]
    labels, options = lettering(["\u20dd cat"], 14)  # which STIX has, and matplotlib brings it
    assert labels == ["\u20dd cat"] and len(options["fontfamily"]) == 2


def test_long_names_are_cut_and_those_that_then_look_alike_are_numbered():
    assert lettering(["a" * 50 + "1", "b", "a" * 50 + "2"], 5)[0] == ["0: aaaa…", "b", "2: aaaa…"]
