"""What the charts share: rows as Vega-Lite takes them, axes of days, bars, and lines. Colours are the site's names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

Spec = dict[str, Any]
Chart = Any  # Altair's charts share no public base class that has the methods used here
HEIGHT = 240
# Of what draws: with another version of it a browser's copy of a chart is out of date, though its rows are the same.
_SOURCES = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
DRAWING = hashlib.sha256(_SOURCES + alt.__version__.encode()).hexdigest()[:8]
DAY_TIP = alt.Tooltip("date:T", title="Day", format="%-d %b %Y")


@dataclass(frozen=True, slots=True)
class ChartDef:
    """A chart of a report: `name` in its address, what it shows in words, and how it is made.

    by_day: it has a column `date`, so that a person may look at the last months only.
    """

    name: str
    title: str
    about: str
    make: Callable[[pd.DataFrame], Chart]
    wide: bool = False
    by_day: bool = False


def spec_of(chart: ChartDef, frame: pd.DataFrame) -> Spec:
    """The specification with its rows; `usermeta.empty` says that there is nothing to draw."""
    if frame.empty:
        return {"usermeta": {"empty": True}}
    spec: Spec = chart.make(frame).to_dict()
    spec.pop("config", None)  # the site has its own
    spec["description"] = f"{chart.title}. {chart.about}"  # the name of the picture, for those who do not see it
    return spec


def rows(frame: pd.DataFrame) -> Any:
    """Rows as Vega-Lite takes them: days as text, nulls as null."""
    plain = frame.copy()
    for column in plain.select_dtypes("datetime"):
        plain[column] = plain[column].dt.strftime("%Y-%m-%dT00:00:00Z")
    records = plain.astype(object).where(plain.notna(), None).to_dict("records")
    return alt.Data(values=records)  # type: ignore[no-untyped-call]


def days() -> alt.X:
    """The axis of days, in UTC."""
    return alt.X("date:T", title=None, scale=alt.Scale(type="utc"))


def daily(column: str, title: str, colour: str, *, form: str = ",.0f") -> Callable[[pd.DataFrame], Chart]:
    """A figure by day as steps, and its 7-day mean as a line."""

    def make(frame: pd.DataFrame) -> Chart:
        some = frame[["date", column]].assign(mean=frame[column].astype(float).rolling(7, min_periods=7).mean())
        tips = [
            DAY_TIP,
            alt.Tooltip(f"{column}:Q", title=title, format=form),
            alt.Tooltip("mean:Q", title="7-day mean", format=form if "%" in form else ",.1f"),
        ]
        axis = alt.Axis(format=".0%" if "%" in form else ",d")
        base = alt.Chart(rows(some)).encode(x=days(), tooltip=tips)
        steps = base.mark_area(opacity=0.22, color=colour, interpolate="step-after", line=False)
        mean = base.mark_line(color=colour, strokeWidth=2.5).encode(y="mean:Q")
        return _with_nearest(
            alt.layer(steps.encode(y=alt.Y(f"{column}:Q", title=title, axis=axis)), mean), base, "mean:Q"
        )

    return make


def lines(columns: dict[str, str], title: str) -> Callable[[pd.DataFrame], Chart]:
    """Lines by day, one a column; `columns` names them for people."""

    def make(frame: pd.DataFrame) -> Chart:
        some = frame[["date", *columns]]
        tips = [DAY_TIP, *(alt.Tooltip(f"{c}:Q", title=said, format=",") for c, said in columns.items())]
        base = alt.Chart(rows(some)).encode(x=days(), tooltip=tips)
        order = list(columns.values())
        drawn = [
            base.transform_calculate(figure=f"'{said}'")
            .mark_line(strokeWidth=2)
            .encode(y=alt.Y(f"{column}:Q", title=title, axis=alt.Axis(format=",d")), color=_figure(order))
            for column, said in columns.items()
        ]
        return _with_nearest(alt.layer(*drawn), base, f"{list(columns)[-1]}:Q")

    return make


def _figure(order: list[str]) -> alt.Color:
    return alt.Color("figure:N", scale=alt.Scale(domain=order), legend=alt.Legend() if len(order) > 1 else None)


def _with_nearest(chart: Chart, base: Chart, y: str) -> Chart:
    """A dot on the day that is nearest to the pointer, with all that is known of the day."""
    nearest = alt.selection_point(nearest=True, on="pointerover", clear="pointerout", fields=["date"], empty=False)
    dot = base.mark_point(size=90, filled=True).encode(
        y=y, opacity=alt.condition(nearest, alt.value(1), alt.value(0)), color=alt.value("$ink")
    )
    return alt.layer(chart, dot.add_params(nearest)).properties(height=HEIGHT)


def bars(frame: pd.DataFrame, name: str, value: str, title: str) -> Chart:
    """Lying bars, in the order of the rows."""
    return (
        alt.Chart(rows(frame))
        .mark_bar(cornerRadiusEnd=3, color="$blue")
        .encode(
            y=alt.Y(f"{name}:N", title=None, sort=None),
            x=alt.X(f"{value}:Q", title=title, axis=alt.Axis(format=",d")),
            tooltip=[alt.Tooltip(f"{name}:N", title=name), alt.Tooltip(f"{value}:Q", title=title, format=",")],
        )
        .properties(height=HEIGHT)
    )


def shades(column: str, title: str, form: str = ",d") -> alt.Color:
    """A scale from pale to strong, for tables of cells."""
    scale = alt.Scale(range=["$heat-0", "$heat-1"])
    return alt.Color(column, scale=scale, legend=alt.Legend(title=title, format=form, gradientLength=160))
