"""Numbers, days and instants as people read them. All times are UTC and say so."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import humanize

from tasks.contracts import Column

NONE = "–"
MINUS = "−"
_SHARES = ("share",)


def whole(value: float | None) -> str:
    """1,234,567"""
    return NONE if value is None else f"{value:,.0f}".replace("-", MINUS)


def decimal(value: float | None, digits: int = 2) -> str:
    """1,234.5; 0.0123 keeps three digits that say something."""
    if value is None or math.isnan(value):
        return NONE
    if value != 0 and abs(value) < 0.1:
        return f"{value:.3g}".replace("-", MINUS)
    text = f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """12.3 %"""
    if share is None or math.isnan(share):
        return NONE
    if 0 < abs(share) < 10 ** -(digits + 2):
        return f"< {10**-digits:.{digits}f} %"
    return f"{100 * share:.{digits}f} %".replace("-", MINUS)


def day(value: date) -> str:
    """24 Nov 2026"""
    return f"{value.day} {value:%b %Y}"


def instant(value: datetime) -> str:
    """24 Nov 2026, 06:21 UTC"""
    at = value.astimezone(UTC)
    return f"{day(at.date())}, {at:%H:%M} UTC"


def ago(value: datetime, now: datetime | None = None) -> str:
    """3 hours ago"""
    return humanize.naturaltime(value, when=now or datetime.now(UTC))


def day_words(value: date, today: date) -> str:
    """today, yesterday, or 24 November 2026"""
    words = {0: "today", 1: "yesterday"}.get((today - value).days)
    return words or f"{value.day} {value:%B %Y}"


def duration(seconds: float | None) -> str:
    """42 s, 3 min 5 s, 1 h 12 min"""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def value(column: Column, given: Any) -> str | None:
    """A cell; None for a null."""
    if given is None or (isinstance(given, float) and math.isnan(given)):
        return None
    if isinstance(given, str):  # also of an earlier run, in which the column was of text
        return given
    if column.kind == "date":
        return day(given) if column.unit != "month" else f"{given:%b %Y}"
    if column.kind == "timestamptz":
        return f"{day(given.date())}, {given:%H:%M}"
    if column.unit in _SHARES:
        return percent(given, 2)
    if column.kind == "bigint":  # a key: no amount, and of 19 digits, which no float holds
        return str(given)
    if column.kind == "int":
        return whole(given)
    if column.kind == "float":
        return decimal(given)
    if column.kind == "bool":
        return "yes" if given else "no"
    return str(given)


def css(column: Column) -> str:
    """The class of a column's cells."""
    kinds = {"int": "number", "float": "number", "date": "date", "timestamptz": "date"}
    return "mono" if column.kind in ("uuid", "bigint") else kinds.get(column.kind, "")


def title(name: str) -> str:
    """daily_activity → Daily activity"""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def change(old: float | None, new: float | None, *, points: bool = False) -> tuple[str, str]:
    """The change in words and its direction (up, down, same); `points`: both are shares."""
    if old is None or new is None or math.isnan(old) or math.isnan(new):
        return NONE, "same"
    moved = new - old
    if abs(moved) < 1e-12:
        return "no change", "same"
    sign, direction = ("+", "up") if moved > 0 else (MINUS, "down")
    if points:
        return f"{sign}{decimal(abs(100 * moved))} points", direction
    text = f"{sign}{whole(abs(moved)) if float(moved).is_integer() else decimal(abs(moved))}"
    share = f"{100 * abs(moved / old):.1f}" if old else "0.0"
    return (f"{text} ({sign}{share} %)" if float(share) else text), direction
