"""One look for all charts: an opaque light card that reads well on light and dark pages, text in sizes that survive
being shown at half width, and no state shared with whoever else draws in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

FONT = "DejaVu Sans"  # comes with matplotlib: the same letters everywhere
CARD, INK, QUIET, GRID = "#fbfbf9", "#1f2d38", "#5d6b76", "#dfe3e5"
BLUE, ORANGE, TEAL = "#2b6c9e", "#d0702a", "#2f8a78"
HEAT = LinearSegmentedColormap.from_list("heat", ["#eef3f6", "#b4d3e6", "#5b9cc6", "#2b6c9e", "#12395a"]).with_extremes(
    bad=CARD
)
WIDTH, DPI = 10.0, 144
_COMPRESSION = 3  # of zlib: half the time of its default for 8 % more bytes
LEFT, RIGHT = 0.075, 0.965
LABEL_SIZE = 9.5  # points, of what stands at an axis

_STYLE = {
    "font.family": FONT,
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": GRID,
    "axes.facecolor": CARD,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titlecolor": INK,
    "axes.titlepad": 8,
    "axes.titley": 1.0,  # nothing is above the axes that a title has to avoid, so none is measured
    "ytick.color": QUIET,
    "figure.facecolor": CARD,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Our look on top of matplotlib's defaults, whatever a machine's own configuration says."""
    with style.context(["default", _STYLE]):
        yield


def card(title: str, subtitle: str, *, height: float = 5.6) -> Figure:
    """An empty figure with its two lines of title; the axes go below `top_of(figure)`."""
    figure = Figure(figsize=(WIDTH, height))
    inch = 1 / height
    figure.text(0.025, 1 - 0.42 * inch, title, fontsize=15, fontweight="bold", va="center")
    figure.text(0.025, 1 - 0.74 * inch, subtitle, fontsize=10.5, color=QUIET, va="center")
    return figure


def top_of(figure: Figure, *, gap: float = 1.25) -> float:
    """Where axes may begin, `gap` inches below the upper edge, as a share of the figure's height."""
    return 1 - gap / float(figure.get_figheight())


def nothing(figure: Figure, message: str) -> Figure:
    """Say in the middle of the card why there is nothing to see."""
    figure.text(0.5, 0.45, message, ha="center", va="center", fontsize=13, color=QUIET)
    return figure


def short(value: float) -> str:
    """A number for an axis: 950, 12k, 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.10g}{letter}"
    return f"{value:.10g}"


def plural(number: float, noun: str) -> str:
    """A count with its noun: 1 user, 2,000 users."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A share as a percentage with two meaningful digits: 31 %, 4.2 %, 0.03 %."""
    value = share * 100
    if value == 0 or value >= 9.95:
        return f"{value:.0f} %"
    if value < 0.005:
        return "< 0.01 %"
    return f"{value:.1f} %" if value >= 0.95 else f"{value:.2f} %"


def tick_percent(share: float) -> str:
    """A round share at an axis: 8 %, 16 %, 2.5 %."""
    return f"{share * 100:.10g} %"


def ink_on(share: float) -> str:
    """The colour of text that reads on HEAT at a place from 0 to 1."""
    return INK if share < 0.5 else "#ffffff"


def save(figure: Figure, path: Path) -> None:
    """Write the PNG: drawn once, without the alpha of an opaque card, and nothing in it about the software."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    pixels.convert("RGB").save(path, format="PNG", compress_level=_COMPRESSION, dpi=(DPI, DPI))
