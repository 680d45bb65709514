"""The chart of data quality: what each rule met, run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from tasks.charts.style import HEAT, QUIET, bare, card, ink_on, nothing, percent, plural, top_of
from tasks.files.layout import instant

RUNS = 12
LEAST, MOST = 1e-4, 0.3  # shares where the colours begin and end: they part orders of magnitude


def data_quality(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Share of rows that each rule rejected, changed or flagged, over the last runs.

    runs: `{"as_of", "rules": [{"table", "rule", "share"}]}` in any order; the later of two of one as_of counts.
    """
    shares = _shares(runs)
    if shares.empty or shares.iloc[:, -1].isna().all():
        return nothing(card("Data quality", "Share of rows that each rule met, run by run"), "No row was checked yet.")
    latest = shares.iloc[:, -1]
    table, rule = latest.index[int(latest.argmax())]
    figure = card(
        f"Data quality: {rule} met most rows, {percent(latest.max())} of {table}"
        if latest.max()
        else "Data quality: no rule met a row",
        "Share of rows that each rule rejected, changed or flagged, by the as_of (UTC) of "
        f"the last {plural(shares.shape[1], 'run')}",
        height=1.93 + 0.31 * len(shares),
    )
    bottom = 0.68 / figure.get_figheight()
    axes = figure.add_axes((0.245, bottom, 0.73, top_of(figure, gap=1.0) - bottom))
    _draw(axes, shares)
    return figure


def _shares(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rules (table, rule) as rows in their order, runs as columns, earliest first."""
    columns = {
        instant(run["as_of"]): {(rule["table"], rule["rule"]): rule["share"] for rule in run["rules"]} for run in runs
    }
    order = list(dict.fromkeys(key for rules in reversed(columns.values()) for key in rules))
    frame = pd.DataFrame({at: columns[at] for at in sorted(columns)[-RUNS:]}, dtype=float)
    return frame.reindex(sorted(order, key=lambda key: (key[0] != "users", key[0])))


def _draw(axes: Axes, shares: pd.DataFrame) -> None:
    values = shares.to_numpy(dtype=float)
    norm = LogNorm(LEAST, MOST, clip=True)
    tint = np.where(values > 0, norm(np.maximum(values, LEAST)) * 0.85 + 0.15, 0.0)
    axes.imshow(np.ma.masked_where(np.isnan(values), tint), cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else percent(value).replace(" %", "") if value else "0"
        colour = QUIET if np.isnan(value) or value == 0 else ink_on(float(tint[row, column]))
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(shares.columns)), _labels(shares.columns))
    axes.set_yticks(range(len(shares)), [f"{table} · {rule}" for table, rule in shares.index])
    axes.set_xlabel("run · cells in % of the rows that reached the rule")
    bare(axes, values.shape)
    _part_tables(axes, [table for table, _ in shares.index])


def _labels(runs: pd.Index[Any]) -> list[str]:
    """Days; with the time of the day when the runs are not all for midnight."""
    form = "{:%-d %b}" if all(at == at.normalize() for at in runs) else "{:%-d %b}\n{:%H:%M}"
    return [form.format(at, at) for at in runs]


def _part_tables(axes: Axes, tables: list[str]) -> None:
    for row in range(1, len(tables)):
        if tables[row] != tables[row - 1]:
            axes.axhline(row - 0.5, color=QUIET, linewidth=1)
