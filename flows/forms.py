"""The forms of the flows that people start: what Prefect's UI shows, and what a wrong value is answered with.

Prefect keeps titles, descriptions, bounds, dropdowns and order only of a nested model, so every flow takes one
parameter `options`. What JSON Schema can say is refused by the form itself; the rest by a sentence before any task.
No field is a secret: Prefect stores and logs parameters in clear.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from tasks.contracts import REPORTS, Report
from tasks.publish.export import date_column

AS_OF_WORDS = ("midnight", "now", "resume")
FIGURE_PATTERN = r"^[A-Za-z][A-Za-z0-9_.:/-]{0,99}$"
RUN_PATTERN = r"^(previous|[0-9A-Za-z][0-9A-Za-z-]{3,63})$"
MAX_BACKFILL_DAYS = 366
MAX_RESTARTS = 2


class Form(BaseModel):
    """Base of all forms: unknown fields are refused, also by the form in the UI."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _field(position: int, title: str, description: str, **schema: Any) -> dict[str, Any]:
    """Title, description and place of a field, and what JSON Schema should say of it beyond its type."""
    return {"title": title, "description": description, "json_schema_extra": {"position": position, **schema}}


def _optional(position: int, title: str, description: str, form: str) -> dict[str, Any]:
    """A date or date-time that may be left empty, shown as one field: Prefect shows a union with null as two."""

    def show(schema: dict[str, Any]) -> None:
        del schema["anyOf"]
        schema.pop("default", None)
        schema.update(type="string", format=form, position=position)

    return {"title": title, "description": description, "json_schema_extra": show}


Transport = Literal["auto", "rest", "postgres"]
TRANSPORT: dict[str, Any] = {
    "title": "Transport",
    "description": "How to reach the project: `postgres` (one snapshot, for large tables), `rest` (needs no database "
    "password), or `auto`: Postgres when SUPABASE_DB_URL is set.",
}


def _transport(position: int) -> dict[str, Any]:
    return {**TRANSPORT, "json_schema_extra": {"position": position}}


class NightlyForm(Form):
    """One run of the pipeline. The defaults are the schedule's own."""

    as_of: str = Field(
        "midnight",
        **_field(
            0,
            "As of",
            "The instant that the reports speak of, exclusive: `midnight` (start of the scheduled day, UTC: whole days "
            "only), `now`, or `resume` (that of the run that was cut short last, else midnight).",
            enum=list(AS_OF_WORDS),
        ),
    )
    instant: datetime | None = Field(
        None,
        **_optional(
            1,
            "Past instant",
            "Speak of this instant instead. When it lies before the current run's, its reports are published and "
            "nothing else changes: history, told from today's rows. Empty: what *As of* says.",
            "date-time",
        ),
    )
    transport: Transport = Field("auto", **_transport(2))
    accept: list[str] = Field(
        default_factory=list,
        **_field(
            3,
            "Accept held figures",
            "Names of the figures that held the last run, as its page lists them: let them pass this once. Leave it "
            "empty otherwise.",
            items={"type": "string", "pattern": FIGURE_PATTERN},
            default=[],
        ),
        max_length=50,
    )
    dry_run: bool = Field(
        False,
        **_field(
            4,
            "Dry run",
            "Read, clean and build the reports, show what would be written, and write nothing: no lease, no file in "
            "Storage, no row.",
        ),
    )
    restart: int = Field(
        0,
        ge=0,
        le=MAX_RESTARTS,
        **_field(
            5,
            "Restart",
            "How often a crashed run has been started again. The automation counts it up, and the bound ends that; "
            "leave it at 0.",
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _an_instant_as_text(cls, values: Any) -> Any:
        """`as_of="2026-01-31"`, as a command line gives it, is the same as that instant."""
        if not isinstance(values, dict) or values.get("as_of", "midnight") in AS_OF_WORDS:
            return values
        return {**values, "as_of": "midnight", "instant": _parse_instant(str(values["as_of"]))}

    @field_validator("instant", mode="after")
    @classmethod
    def _a_past_instant(cls, value: datetime | None) -> datetime | None:
        return value and _past(value)

    @field_validator("accept", mode="after")
    @classmethod
    def _figure_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not re.match(FIGURE_PATTERN, name):
                raise ValueError(f"{name[:40]!r} is no figure's name: take it from the page of the held run.")
        return value

    @property
    def label(self) -> str:
        """What the run speaks of, for its name."""
        return f"{self.instant:%Y-%m-%d %H:%M}" if self.instant else self.as_of


def _parse_instant(text: str) -> datetime:
    """A day (its first instant, UTC) or an instant with its offset. ValueError says what is wrong in words."""
    text = text.strip()
    try:
        instant = datetime.fromisoformat(text if re.match(r"\d{4}-\d\d-\d\d($|T)", text) else "no instant")
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is none of midnight, now, resume, a day like 2026-01-31 or an instant like "
            "2026-01-31T12:00Z."
        ) from None
    return instant.replace(tzinfo=UTC) if len(text) == len("2026-01-31") else instant


def _past(instant: datetime) -> datetime:
    """The same in UTC. ValueError when it has no zone or lies in the future."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no time zone: add Z for UTC, or an offset like +01:00.")
    if instant > datetime.now(UTC) + timedelta(minutes=5):
        raise ValueError(f"{instant.isoformat()} lies in the future: reports can speak of the past only.")
    return instant.astimezone(UTC)


class BackfillForm(Form):
    """Reports for past days, oldest first, each told from today's rows."""

    first_day: date | None = Field(
        None,
        **_optional(
            0,
            "First day",
            "The first day (UTC) to report on. Empty: the last day, for a single day.",
            "date",
        ),
    )
    last_day: date | None = Field(
        None,
        **_optional(
            1, "Last day", "The last day (UTC) to report on, at the latest yesterday. Empty: yesterday.", "date"
        ),
    )
    transport: Transport = Field("auto", **_transport(2))
    redo: bool = Field(
        False,
        **_field(3, "Redo", "Also days that have a committed run already. Without it they are skipped."),
    )
    dry_run: bool = Field(True, **_field(4, "Dry run", "Only list the days that would be done; write nothing."))

    @model_validator(mode="after")
    def _past_and_in_order(self) -> Self:
        first, last = self.span()
        if last > _yesterday():
            raise ValueError(f"The last day, {last}, is not over yet: {_yesterday()} is the latest one possible.")
        if first > last:
            raise ValueError(f"The first day, {first}, comes after the last day, {last}.")
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


REPORT_NAMES = [report.name for report in REPORTS]
COLUMN_NAMES = list(dict.fromkeys(column.name for report in REPORTS for column in report.columns))


def report_named(name: str) -> Report:
    """The declaration of a report; ValueError, in a sentence, for a name that none has."""
    for report in REPORTS:
        if report.name == name:
            return report
    raise ValueError(f"There is no report {name[:40]!r}; there are {', '.join(REPORT_NAMES)}.")


class ExportForm(Form):
    """One report of the latest committed run, or a part of it, as a file with a link."""

    report: str = Field(
        "daily_activity",
        **_field(0, "Report", "Which report to export; `data/DICTIONARY.md` explains each.", enum=REPORT_NAMES),
    )
    columns: list[str] = Field(
        default_factory=list,
        **_field(
            1,
            "Columns",
            "Columns of that report to keep, in this order. Empty: all of them.",
            items={"type": "string", "enum": COLUMN_NAMES},
            default=[],
        ),
    )
    date_from: date | None = Field(
        None,
        **_optional(
            2, "From", "First day (UTC) to keep, by the report's first column of days. Empty: from the start.", "date"
        ),
    )
    date_to: date | None = Field(
        None, **_optional(3, "To", "Last day (UTC) to keep, itself included. Empty: to the end.", "date")
    )
    format: Literal["parquet", "csv"] = Field(
        "parquet", **_field(4, "Format", "`parquet` keeps the types; `csv` opens in a spreadsheet.")
    )
    link_days: int = Field(
        7,
        ge=1,
        le=7,
        **_field(5, "Days the link works", "After that the link is dead; the file itself stays until retention."),
    )
    dry_run: bool = Field(
        False, **_field(6, "Dry run", "Show how many rows and columns it would be; upload nothing, make no link.")
    )

    @field_validator("report", mode="after")
    @classmethod
    def _known_report(cls, value: str) -> str:
        return report_named(value).name

    @field_validator("columns", mode="after")
    @classmethod
    def _known_columns(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if "report" not in info.data:
            return value  # the report is wrong already, and told so
        known = [c.name for c in report_named(info.data["report"]).columns]
        unknown = [name for name in value if name not in known]
        if unknown:
            raise ValueError(f"{info.data['report']} has no {', '.join(unknown)}; it has {', '.join(known)}.")
        return list(dict.fromkeys(value))

    @model_validator(mode="after")
    def _dates_that_select(self) -> Self:
        if self.date_from and self.date_to and self.date_from > self.date_to:
            raise ValueError(f"From, {self.date_from}, comes after to, {self.date_to}.")
        if (self.date_from or self.date_to) and date_column(report_named(self.report)) is None:
            raise ValueError(f"{self.report} has no column of days: leave From and To empty.")
        return self


class RestoreForm(Form):
    """Which committed run the readers shall see again."""

    run: str = Field(
        "previous",
        **_field(
            0,
            "Run",
            "Id of a committed run (its folder in the bucket), or `previous`: the one before what "
            "`latest.json` names. Moves `latest.json` and the aggregates in Postgres back to it. The cleaned tables "
            "hold today's rows and stay as they are.",
            pattern=RUN_PATTERN,
        ),
    )
    dry_run: bool = Field(True, **_field(1, "Dry run", "Say what would be moved and where to; move nothing."))

    @field_validator("run", mode="after")
    @classmethod
    def _looks_like_a_run(cls, value: str) -> str:
        if not re.match(RUN_PATTERN, value):
            raise ValueError(f"{value[:40]!r} is no run's id: see the run page or etl_runs, or say 'previous'.")
        return value


class DoctorForm(Form):
    """What the doctor looks at. It changes nothing that lasts."""

    transport: Transport = Field("auto", **_transport(0))
    try_upload: bool = Field(
        True,
        **_field(1, "Try an upload", "Upload a file of a few bytes to the bucket, read it back and delete it again."),
    )
    strict: bool = Field(False, **_field(2, "Strict", "Warnings fail the run too."))


class RetentionForm(Form):
    """How long published files stay."""

    dry_run: bool = Field(False, **_field(0, "Dry run", "List what would be removed and why; remove nothing."))
    keep_days: int | None = Field(
        None,
        **_field(
            1,
            "Days to keep",
            "Every run of so many days stays whole; of older ones the last of each month, without the files that name "
            "user ids. Empty takes the setting ETL_KEEP_DAYS (30).",
        ),
        ge=1,
        le=3_650,
    )
