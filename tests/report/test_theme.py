"""The palettes, and figures rendered alike everywhere."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image
from samples import make_sample
from test_report_population import TOLD

from pipeline.report.classes import by_class, confusion
from pipeline.report.gain import by_members
from pipeline.report.mistakes import reliability
from pipeline.report.population import population_figure
from pipeline.report.theme import DARK, DPI, LIGHT, NARROW, render

# Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ rgb / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_palette_stays_apart_in_every_colour_blindness_and_off_the_background(theme):
    for matrix in BLINDNESS.values():
        seen = [lab(np.clip(np.array(matrix) @ linear(colour), 0, 1)) for colour in theme.palette]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 20
    luminance = np.array([0.2126, 0.7152, 0.0722])
    for colour in theme.palette:
        low, high = sorted([luminance @ linear(colour), luminance @ linear(theme.background)])
        assert (high + 0.05) / (low + 0.05) >= 3


def test_a_depth_has_one_colour_and_any_number_of_depths_has_different_ones():
    for n in (1, 6, 7, 20):
        depths = list(range(8, 8 + 6 * n, 6))
        assert len({str(LIGHT.colour(depth, depths)) for depth in depths}) == n
    assert LIGHT.colour(20, [14, 20]) == LIGHT.palette[1]
    assert LIGHT.colour(None, [14, 20]) == LIGHT.text


COLOURLESS = {
    "by class": by_class([("a", 0.1, 0.05, 0.2), ("b", 0.2, 0.1, 0.3)], 0.15),
    "confusion": confusion([[9, 1], [3, 7]], ["a", "b"]),
    "by members": by_members([{"size": n, "val_err1": 0.1, "test_err1": 0.2 / n, "ci95": [0.1, 0.3]} for n in (1, 2)]),
    "reliability": reliability(make_sample().evaluation["calibration"]["bins"]),
    "population": population_figure(TOLD),
}


@pytest.mark.parametrize("theme", [LIGHT, DARK, DARK.narrowed()], ids=lambda theme: f"{theme.name} {theme.narrow}")
@pytest.mark.parametrize("name", COLOURLESS)
def test_a_colour_is_a_depth_so_that_other_figures_are_grey(name, theme):
    pixels = np.asarray(Image.open(io.BytesIO(render(COLOURLESS[name], theme))).convert("RGB")).astype(int)
    depths = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in theme.palette]
    assert np.ptp(pixels, axis=2).max() < 32 < min(max(rgb) - min(rgb) for rgb in depths)


def test_a_narrow_figure_fits_a_phone_with_letters_of_the_same_size():
    wide, narrow = (Image.open(io.BytesIO(render(COLOURLESS["by class"], t))) for t in (LIGHT, LIGHT.narrowed()))
    assert narrow.width == round(NARROW * DPI) < wide.width


def test_rendering_ignores_the_users_matplotlib_settings():
    import matplotlib

    draw = by_class([("a", 0.1, 0.05, 0.2)], 0.1)
    expected = render(draw, LIGHT)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "figure.dpi": 30}):
        assert render(draw, LIGHT) == expected
        assert matplotlib.rcParams["font.size"] == 30
