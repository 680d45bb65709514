"""What stands where in a chart, of the marks that were drawn as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from tasks.charts.marks import Labels
from tasks.charts.style import save


def labels(axes: Axes) -> list[str]:
    return [text for drawn in axes.collections if isinstance(drawn, Labels) for text in drawn.texts]


def placed(axes: Axes) -> list[list[tuple[float, float, str]]]:
    """The texts of each group of labels, with their points."""
    return [
        [(float(x), float(y), text) for (x, y), text in zip(np.asarray(drawn.get_offsets()), drawn.texts, strict=True)]
        for drawn in axes.collections
        if isinstance(drawn, Labels)
    ]


def light(axes: Axes, group: int) -> list[str]:
    """The texts of a group of labels that are written in white."""
    drawn = [drawn for drawn in axes.collections if isinstance(drawn, Labels)][group]
    return [
        text for text, colour in zip(drawn.texts, np.asarray(drawn.get_facecolor()), strict=True) if colour.min() == 1
    ]


def bars(axes: Axes) -> tuple[list[float], list[float], list[float], list[float]]:
    """Left, lower, right and upper edges of the bars."""
    (drawn,) = [drawn for drawn in axes.collections if type(drawn) is PolyCollection]
    boxes = [path.get_extents() for path in drawn.get_paths()]
    return [b.x0 for b in boxes], [b.y0 for b in boxes], [b.x1 for b in boxes], [b.y1 for b in boxes]


def line(axes: Axes) -> list[float]:
    return [round(float(y), 6) for y in np.asarray(axes.lines[0].get_ydata(), float)]


def _texts(figure: Figure) -> str:
    texts = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        texts += [*labels(axes), *(text.get_text() for text in axes.texts)]
        texts += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
        texts += [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    return "\n".join(texts)


def drawn(figure: Figure) -> str:
    save(figure, Path("/dev/null"))
    return _texts(figure)
