"""The form of the backfill."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Self

from pydantic import Field, model_validator

from flows.forms.base import Form, dry_run, field, optional, transport
from flows.forms.nightly import EARLIEST
from tasks.settings import TransportChoice

MAX_BACKFILL_DAYS = 366


class BackfillForm(Form):
    """Reports for past days, oldest first, each computed from current rows."""

    first_day: date | None = Field(
        None,
        **optional(0, "First day", "The first day (UTC) to report on. Empty: the last day, for a single day.", "date"),
    )
    last_day: date | None = Field(
        None,
        **optional(
            1, "Last day", "The last day (UTC) to report on, at the latest yesterday. Empty: yesterday.", "date"
        ),
    )
    transport: TransportChoice = Field("auto", **transport(2))
    redo: bool = Field(
        False,
        **field(3, "Redo", "Also days that have a committed run already. Without it they are skipped."),
    )
    dry_run: bool = dry_run(4, "Only list the days that would be done; write nothing.")

    @model_validator(mode="after")
    def _past_and_in_order(self) -> Self:
        first, last = self.span()
        if last > _yesterday():
            raise ValueError(f"The last day, {last}, is not over yet: {_yesterday()} is the latest one possible.")
        if first > last:
            raise ValueError(f"The first day, {first}, comes after the last day, {last}.")
        if first < EARLIEST.date():
            raise ValueError(f"The first day, {first}, lies before {EARLIEST.date()}.")
        if (last - first).days >= MAX_BACKFILL_DAYS:
            raise ValueError(f"{(last - first).days + 1} days asked for; one run does at most {MAX_BACKFILL_DAYS}.")
        return self

    def span(self) -> tuple[date, date]:
        """First and last day, the empty ones filled in."""
        last = self.last_day or _yesterday()
        return self.first_day or last, last

    @property
    def label(self) -> str:
        """The range, for the name of the run."""
        first, last = self.span()
        return f"{first}" if first == last else f"{first} to {last}"

    def days(self) -> list[date]:
        """Every day asked for, oldest first."""
        first, last = self.span()
        return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)
