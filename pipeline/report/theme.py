"""Two themes for page and figures, and the figures' common style. matplotlib is imported when something is drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

DPI = 160
NARROW = 3.7  # inches of a narrow figure: a phone's screen of 390 pixels less the page's margins, at 96 pixels an inch


@dataclass(frozen=True)
class Theme:
    """Colours, and whether figures are for a phone.

    In all figures of a report a colour of the palette is a depth. Everything else is black, white or grey: the ensemble
    has the text's colour, what others published has `muted`. Palettes have a contrast of 3:1 to the background and stay
    distinct in all colour blindnesses.
    """

    name: str
    background: str
    text: str
    muted: str
    grid: str
    soft: str  # ground of boxes on the page
    link: str
    holds: str
    fails: str
    palette: tuple[str, ...]
    narrow: bool = False  # figures are NARROW wide, with their panels below each other

    def narrowed(self) -> Theme:
        return replace(self, narrow=True)

    def tint(self, colour: str, share: float) -> Any:
        """`colour` over the background with this opacity."""
        from matplotlib.colors import to_rgb

        pairs = zip(to_rgb(colour), to_rgb(self.background), strict=True)
        return tuple(share * over + (1 - share) * under for over, under in pairs)

    def colour(self, depth: int | None, depths: Sequence[int]) -> Any:
        """The depth's colour in every figure of a report; from a colour map if the palette is too short."""
        if depth is None or depth not in depths:
            return self.text
        if len(depths) <= len(self.palette):
            return self.palette[depths.index(depth)]
        from matplotlib import colormaps

        share = depths.index(depth) / (len(depths) - 1)
        return colormaps["plasma"](0.7 * share if self.name == "light" else 0.2 + 0.8 * share)


LIGHT = Theme(
    name="light",
    background="#ffffff",
    text="#1b1f24",
    muted="#5b6470",
    grid="#e4e7eb",
    soft="#f5f7f9",
    link="#1b5cc4",
    holds="#0b6b4b",
    fails="#a83a0c",
    palette=("#1F66D6", "#C65D10", "#15A678", "#B565B0", "#5A2A18", "#35127A"),
)
DARK = Theme(
    name="dark",
    background="#14171c",
    text="#e6e9ee",
    muted="#9aa4b1",
    grid="#2b313a",
    soft="#1b2027",
    link="#8db4ff",
    holds="#35e0c0",
    fails="#f0a05a",
    palette=("#8DB4FF", "#D98A2B", "#35E0C0", "#F0437F", "#FFE27A", "#A06BF5"),
)


Draw = Callable[[Theme], Any]  # theme -> matplotlib Figure


def render(draw: Draw, theme: Theme) -> bytes:
    """A PNG, the same bytes for the same values under any matplotlib settings of the user."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        params: Any = matplotlib.rcParams
        params.update(_style(theme))
        buffer = io.BytesIO()
        draw(theme).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _style(theme: Theme) -> dict[str, Any]:
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor")
    return {
        **dict.fromkeys(inks, theme.text),
        **dict.fromkeys(("xtick.color", "ytick.color"), theme.muted),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme.background),
        **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
        **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9),
        "axes.edgecolor": theme.muted,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.labelsize": 10,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "legend.edgecolor": "none",
        "legend.framealpha": 0.85,
        "font.size": 10,
        "hatch.color": theme.muted,
        "hatch.linewidth": 0.6,
    }


def new_figure(theme: Theme, width: float, height: float, narrow_height: float = 0.0) -> Any:
    """An empty figure, in inches, whose layout never cuts labels.

    Args:
        narrow_height: of a narrow figure; 0 for `height`.
    """
    from matplotlib.figure import Figure

    size = (min(width, NARROW), narrow_height or height) if theme.narrow else (width, height)
    return Figure(figsize=size, layout="constrained")


def panels(theme: Theme, figure: Any, count: int, **how: Any) -> Any:
    """`count` axes side by side, in a narrow figure below each other."""
    return figure.subplots(*((count, 1) if theme.narrow else (1, count)), squeeze=False, **how).ravel()


def name_lines(theme: Theme, axes: Any, names: Sequence[str]) -> None:
    """Names the horizontal lines at 0, 1, ... from the top: beside them, in a narrow figure above them."""
    if theme.narrow:
        axes.set_yticks([])
        for y, name in enumerate(names):
            axes.text(0, y - 0.3, name, transform=axes.get_yaxis_transform(), fontsize=8.5)
    else:
        axes.set_yticks(range(len(names)), names, color=theme.text)
    axes.set_ylim(len(names) - 0.4, -0.9 if theme.narrow else -0.6)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def legend_above(theme: Theme, axes: Any, columns: int = 4) -> None:
    """A legend over the axes, where it covers nothing."""
    columns = 2 if theme.narrow else columns
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.3)


def letters_for(theme: Theme, cells: int, size: float) -> float:
    """Font size, in points, of numbers of three digits in a row of `cells` cells; at most `size`."""
    return min(size, 110 / cells) if theme.narrow else size
