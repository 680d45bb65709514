"""The form of the nightly."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import Field, field_validator, model_validator

from flows.forms.base import Form, dry_run, field, names, one_each, optional, transport
from tasks.ledger.as_of import WORDS, parse_instant
from tasks.settings import TransportChoice

FIGURE = r"[A-Za-z][A-Za-z0-9_.:/-]{0,99}"
MAX_RESTARTS = 2
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


class NightlyForm(Form):
    """One run of the pipeline."""

    as_of: str = Field(
        "midnight",
        **field(
            0,
            "As of",
            "The instant that the reports are as of, exclusive. midnight: the start of the scheduled day (UTC), whole "
            "days only. now: this moment. resume: the instant of the run that was interrupted last, else midnight.",
            enum=list(WORDS),
        ),
    )
    instant: datetime | None = Field(
        None,
        **optional(
            1,
            "Past instant",
            "Reports as of this instant instead. If it lies before the current run's, the reports are published and "
            "nothing else changes: history, computed from current rows. Empty: what As of says.",
            "date-time",
        ),
    )
    transport: TransportChoice = Field("auto", **transport(2))
    accept: list[str] = Field(
        default_factory=list,
        **field(
            3,
            "Accept held metrics",
            "Names of the metrics that held the last run, as its page lists them: let them pass this once. Leave it "
            "empty otherwise.",
            items={"type": "string", "pattern": names(FIGURE)},
            default=[],
        ),
        max_length=50,
    )
    full_refresh: bool = Field(
        False,
        **field(
            4,
            "Full refresh",
            "Read every row, also those that have not changed since the last run. A run does so by itself when it is "
            "due.",
        ),
    )
    dry_run: bool = dry_run(
        5,
        "Read, clean and build the reports, show what would be written, and write nothing: no lease, no file in "
        "Storage, no row.",
    )
    restart: int = Field(
        0,
        ge=0,
        le=MAX_RESTARTS,
        **field(6, "Restart", "How often a crashed run has been started again; the automation counts.", hidden=True),
    )

    restart_of: str = Field(
        "",
        max_length=64,
        **field(7, "Restart of", "The crashed run that this one restarts; the automation says.", hidden=True),
    )

    @model_validator(mode="before")
    @classmethod
    def _an_instant_as_text(cls, values: Any) -> Any:
        """`as_of="2026-01-31"`, as a command line gives it, is the same as that instant."""
        if not isinstance(values, dict) or values.get("as_of", "midnight") in WORDS:
            return values
        return {**values, "as_of": "midnight", "instant": parse_instant(str(values["as_of"]))}

    @field_validator("instant", mode="after")
    @classmethod
    def _a_past_instant(cls, value: datetime | None) -> datetime | None:
        return value and _past(value)

    @field_validator("accept", mode="after")
    @classmethod
    def _figure_names(cls, value: list[str]) -> list[str]:
        value = one_each(value)
        for name in value:
            if not re.fullmatch(FIGURE, name):
                raise ValueError(f"{name[:40]!r} is no metric's name: take it from the page of the held run.")
        return value

    @property
    def label(self) -> str:
        """What the run is as of, for its name."""
        return f"{self.instant:%Y-%m-%d %H:%M}" if self.instant else self.as_of


def _past(instant: datetime) -> datetime:
    """The same in UTC. ValueError when it has no zone, lies in the future or before 1970."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no time zone: add Z for UTC, or an offset like +01:00.")
    if instant > datetime.now(UTC) + timedelta(minutes=5):
        raise ValueError(f"{instant.isoformat()} lies in the future: reports are as of the past only.")
    if instant < EARLIEST:
        raise ValueError(f"{instant.isoformat()} lies before {EARLIEST.date()}, the earliest as_of.")
    return instant.astimezone(UTC)
