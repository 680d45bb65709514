"""The instant that a run is as of, as it is asked for: a word, or an instant of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal, cast

from tasks.errors import DAY, INSTANT

AsOfMode = Literal["now", "midnight", "resume", "at"]
WORDS = ("midnight", "now", "resume")
_DAY = "2026-01-31"


@dataclass(frozen=True, slots=True)
class AsOf:
    """`now`: when reading begins. `midnight`: the start of today, UTC, or the instant `at`. `at`: the instant `at`.

    `resume`: that of the last run, when it failed; else as `midnight`. `at` is in UTC.
    """

    mode: AsOfMode = "now"
    at: datetime | None = None

    @classmethod
    def instant(cls, at: datetime) -> AsOf:
        """An instant that somebody asked for."""
        return cls("at", at.astimezone(UTC))

    @classmethod
    def day(cls, mode: AsOfMode, scheduled: datetime | None) -> AsOf:
        """A word; its midnight is that with which the UTC day of `scheduled` starts."""
        midnight = scheduled.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) if scheduled else None
        return cls(mode, midnight if mode in ("midnight", "resume") else None)

    @classmethod
    def parse(cls, text: str) -> AsOf:
        """A word, or what `parse_instant` takes."""
        return cls(cast(AsOfMode, text)) if text in WORDS else cls.instant(parse_instant(text))

    @staticmethod
    def explain_day(text: str) -> str:
        """What a day means as an as_of, in a sentence; empty for a word or an instant."""
        text = text.strip()
        try:
            day = date.fromisoformat(text if len(text) == len(_DAY) else "no day")
            before, after = day - timedelta(days=1), day + timedelta(days=1)
        except (ValueError, OverflowError):  # years end at 1 and 9999: those days have no neighbour
            return ""
        return (
            f"{day} is the midnight with which {day:%-d %B} begins: the reports cover whole days up to and including "
            f"{before:%-d %B}; for {day:%-d %B} say --as-of {after}."
        )

    def __str__(self) -> str:
        return self.at.isoformat() if self.mode == "at" and self.at else self.mode


def parse_instant(text: str) -> datetime:
    """A day (its first instant, UTC) or an instant with its offset. ValueError says what is wrong in words."""
    text = text.strip()
    try:
        instant = datetime.fromisoformat(text if re.match(r"\d{4}-\d\d-\d\d($|T)", text) else "no instant")
    except ValueError:
        raise ValueError(f"{text[:40]!r} is none of midnight, now, resume, a {DAY} or an {INSTANT}.") from None
    return instant.replace(tzinfo=UTC) if len(text) == len(_DAY) else instant
