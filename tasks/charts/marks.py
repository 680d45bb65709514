"""Many marks as one artist: an artist for every text, cell and bar was most of the time that a chart takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection, QuadMesh
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D, ScaledTranslation, Transform

from tasks.charts.style import CARD, FONT, HEAT, LABEL_SIZE, QUIET

_DIGIT_HEIGHT = 0.729  # of a letter's size
_GAP, _LINE = 3.5, 12.0  # points: between a map and its names, and from a line of names to the next
Numbers = np.ndarray[Any, Any]
Label = tuple[float, float, str, str]  # x, y, text, colour


class Labels(PathCollection):
    """Short texts, each with its middle at a point of the axes' data.

    size: in points. align: the share of a text's width that is left of its point. pixels: how points become pixels.
    """

    def __init__(
        self,
        axes: Axes,
        labels: Iterable[Label],
        *,
        size: float,
        align: float = 0.5,
        pixels: Transform | None = None,
    ) -> None:
        labels = list(labels)
        self.texts = [text for _, _, text, _ in labels]
        super().__init__(
            [_outline(text, size, align) for text in self.texts],
            facecolors=[colour for *_, colour in labels],
            linewidths=0,
            offsets=np.array([place for *place, _, _ in labels], float).reshape(-1, 2),
            offset_transform=pixels or axes.transData,
            zorder=3,
        )
        self.set_transform(Affine2D().scale(axes.figure.dpi / 72))  # points to pixels
        axes.add_collection(self, autolim=False)
        self.set_clip_on(False)


def _outline(text: str, size: float, align: float) -> Path:
    """A text's outline in points: its point is in the middle of a digit's height."""
    letters = [_letter(letter) for letter in text]
    ends = np.cumsum([width for *_, width in letters])
    xs = np.concatenate([x + end - width for (x, _, _, width), end in zip(letters, ends, strict=True)])
    ys, codes = (np.concatenate([letter[of] for letter in letters]) for of in (1, 2))
    return Path(np.column_stack([xs - align * ends[-1], ys - _DIGIT_HEIGHT / 2]) * size, codes)


@cache
def _letter(letter: str) -> tuple[Numbers, Numbers, Numbers, float]:
    """The outline of a letter of size 1, x, y and codes, and how far from it the next one begins."""
    font = FontProperties(family=FONT)
    after, both = (TextPath((0, 0), text, size=1, prop=font) for text in ("0", f"{letter}0"))
    count = len(both.vertices) - len(after.vertices)
    width = both.vertices[count, 0] - after.vertices[0, 0]
    return *both.vertices[:count].T, both.codes[:count], float(width)


def heat_map(axes: Axes, values: Numbers, **scale: Any) -> QuadMesh:
    """Cells separated by thin lines of the card's colour, without a frame; the first row is at the top.

    values: NaN for an empty cell. scale: `norm`, or `vmin` and `vmax`. The middle of a cell is at whole numbers.
    """
    rows, columns = values.shape
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    mesh: QuadMesh = axes.pcolormesh(*edges, values, cmap=HEAT, edgecolors=CARD, linewidth=1.2, **scale)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return mesh


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """The names of a map's rows, at its left."""
    left = axes.get_yaxis_transform() + moved(axes, -_GAP, 0)
    Labels(axes, [(0, row, name, QUIET) for row, name in enumerate(names)], size=LABEL_SIZE, align=1, pixels=left)


def name_columns(axes: Axes, *lines: Mapping[int, str], unit: str) -> None:
    """The names of a map's columns, below it, by their number; and what they are."""
    for number, names in enumerate(lines):
        below = axes.get_xaxis_transform() + moved(axes, 0, -_GAP - LABEL_SIZE / 2 - number * _LINE)
        Labels(axes, [(at, 0, name, QUIET) for at, name in names.items()], size=LABEL_SIZE, pixels=below)
    axes.set_xlabel(unit, labelpad=2 + _GAP + len(lines) * _LINE)


def moved(axes: Axes, right: float, up: float) -> Transform:
    """A transform that moves by so many points."""
    return ScaledTranslation(right / 72, up / 72, axes.figure.dpi_scale_trans)


def bars(axes: Axes, at: Numbers, lengths: Numbers, width: float, *, across: bool = False, **look: Any) -> None:
    """Bars from zero, upwards or across. at: their middles, in the axes' data."""
    zeros, low, high = np.zeros(len(at)), at - width / 2, at + width / 2
    corners: Any = np.stack([[low, zeros], [low, lengths], [high, lengths], [high, zeros]]).transpose(2, 0, 1)
    axes.add_collection(PolyCollection(corners[..., ::-1] if across else corners, linewidth=0, **look))
