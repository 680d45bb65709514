"""The chart of data quality: the rows that each rule affected, run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tasks.charts.marks import Label, Labels, heat_map, name_columns, name_rows
from tasks.charts.style import ORANGE, QUIET, card, ink_on, nothing, percent, top_of
from tasks.reports.figures import PastRun

RUNS = 12
LEAST, MOST = 1e-4, 0.3  # shares where the colours begin and end: they distinguish orders of magnitude
JUMP = 0.1  # a share that rose by ten points is marked


def data_quality(runs: Sequence[PastRun]) -> Figure:
    """Share of rows that each rule rejected, changed or flagged, over the last runs.

    runs: as they started, newest first; of those of one as_of the newest counts, as the one that was accepted after
    one that was held. What happened to a run is written over its column.
    """
    runs = runs[::-1]
    shares = _shares(runs)
    if shares.iloc[:, -1].isna().all():
        return nothing(
            card("Data quality", "Share of rows that each rule affected, run by run"), "No row was checked yet."
        )
    latest = shares.iloc[:, -1]
    table, rule = latest.index[int(latest.argmax())]
    figure = card(
        f"Data quality: {rule} affected most rows, {percent(latest.max())} of {table}"
        if latest.max()
        else "Data quality: no rule affected a row",
        "Share of rows that each rule rejected, changed or flagged, by the as_of (UTC) of "
        + (f"the last {shares.shape[1]:,} runs" if shares.shape[1] > 1 else "the only run"),
        height=2.05 + 0.31 * len(shares),
    )
    bottom = 0.68 / figure.get_figheight()
    axes = figure.add_axes((0.245, bottom, 0.73, top_of(figure, gap=1.12) - bottom))
    _draw(axes, shares)
    _mark_jumps(axes, shares)
    _mark_events(axes, shares, {run.as_of: run.event for run in runs})
    return figure


def _shares(runs: Sequence[PastRun]) -> pd.DataFrame:
    """Rules (table, rule) as rows in their order, runs as columns, earliest first. The last of one as_of counts."""
    columns = {run.as_of: dict(run.shares) for run in runs}
    order = list(dict.fromkeys(key for rules in reversed(columns.values()) for key in rules))
    frame = pd.DataFrame({at: columns[at] for at in sorted(columns)[-RUNS:]}, dtype=float)
    return frame.reindex(sorted(order, key=lambda key: (key[0] != "users", key[0])))


def _draw(axes: Axes, shares: pd.DataFrame) -> None:
    values = shares.to_numpy(dtype=float)
    norm = LogNorm(LEAST, MOST, clip=True)
    tint = np.where(values > 0, norm(values) * 0.85 + 0.15, 0.0)
    heat_map(axes, np.where(np.isnan(values), np.nan, tint), vmin=0, vmax=1)
    Labels(axes, [_cell(x, y, value, float(tint[y, x])) for (y, x), value in np.ndenumerate(values)], size=9)
    name_rows(axes, [f"{table} · {rule}" for table, rule in shares.index])
    unit = "run · cells in % of the rows that reached the rule · a frame marks a rise of ten points or more"
    name_columns(axes, *_names(shares.columns), unit=unit)
    _separate_tables(axes, [table for table, _ in shares.index])


def _cell(x: int, y: int, share: float, tint: float) -> Label:
    """A share in percent without its sign; a dash where the rule checked no row."""
    if np.isnan(share):
        return x, y, "–", QUIET
    return (x, y, percent(share).replace(" %", ""), ink_on(tint)) if share else (x, y, "0", QUIET)


def _mark_jumps(axes: Axes, shares: pd.DataFrame) -> None:
    """A frame around each cell whose share rose by ten points since the run before."""
    rise = shares.diff(axis=1).to_numpy(dtype=float)
    for row, column in np.argwhere(rise >= JUMP):
        frame = Rectangle((column - 0.47, row - 0.44), 0.94, 0.88, fill=False, edgecolor=ORANGE, linewidth=2)
        axes.add_patch(frame)


def _mark_events(axes: Axes, shares: pd.DataFrame, events: Mapping[Any, str]) -> None:
    """What happened to a run, over its column."""
    for column, at in enumerate(shares.columns):
        if event := events.get(at):
            axes.text(column, -0.62, event, ha="center", va="bottom", fontsize=8.5, color=ORANGE, fontweight="bold")


def _names(runs: pd.Index[Any]) -> list[dict[int, str]]:
    """Days; with the time of the day below when the runs are not all for midnight."""
    forms = ["%-d %b"] if all(at == at.normalize() for at in runs) else ["%-d %b", "%H:%M"]
    return [{number: f"{at:{form}}" for number, at in enumerate(runs)} for form in forms]


def _separate_tables(axes: Axes, tables: list[str]) -> None:
    for row in range(1, len(tables)):
        if tables[row] != tables[row - 1]:
            axes.axhline(row - 0.5, color=QUIET, linewidth=1)
