"""The scales of charts over days: a name and a mark for each tick, and none beyond the axes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.markers import TICKDOWN

from tasks.charts.lines import activity, growth
from tasks.charts.marks import Labels
from tasks.charts.style import drawing
from tests.publish.builders import AS_OF

FIGURES = {"new_users": 1, "posts": 17, "total_users": 90, "total_posts": 800}
SHARES = {"authors_7d": 3, "authors_28d": 7, "stickiness": 0.3}


@pytest.mark.parametrize("days", [1, 7, 8, 120, 4_000])
def test_each_tick_within_the_axes_has_its_name_and_there_is_none_beyond(days: int) -> None:
    daily = pd.DataFrame({"date": pd.date_range(end="2026-01-31", periods=days), **FIGURES, **SHARES})
    with drawing():
        for axes in (*growth(daily, as_of=AS_OF).axes, *activity(daily, as_of=AS_OF).axes):
            (across,) = (drawn for drawn in axes.collections if isinstance(drawn, LineCollection))
            (along,) = (drawn for drawn in axes.lines if drawn.get_marker() == TICKDOWN)
            lines, marks = [line[0][1] for line in across.get_segments()], [*np.asarray(along.get_xdata(), float)]
            names = [np.asarray(drawn.get_offsets()).T for drawn in axes.collections if isinstance(drawn, Labels)]
            assert any([*x] == marks for x, _ in names)
            assert any([*y] == lines for _, y in names)
            for ticks, (low, high) in ((lines, axes.get_ylim()), (marks, axes.get_xlim())):
                assert low <= min(ticks) <= max(ticks) <= high
            assert days > 7 or len(marks) == days
