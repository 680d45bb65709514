"""The form of the export."""

from __future__ import annotations

from datetime import date
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from flows.forms.base import Form, dry_run, field, names, one_each, optional
from tasks.contracts import REPORTS, Report
from tasks.publish.export import date_column

REPORT_NAMES = [report.name for report in REPORTS]
COLUMN = r"[a-z][a-z0-9_]{0,62}"


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
        **field(0, "Report", "Which report to export. A dry run lists its columns.", enum=REPORT_NAMES),
    )
    columns: list[str] = Field(
        default_factory=list,
        **field(
            1,
            "Columns",
            "Names of the columns to keep, in this order; a dry run of the report lists them. Empty: all of them.",
            items={"type": "string", "pattern": names(COLUMN)},
            default=[],
        ),
    )
    date_from: date | None = Field(
        None,
        **optional(
            2, "From", "First day (UTC) to keep, by the report's first column of days. Empty: from the start.", "date"
        ),
    )
    date_to: date | None = Field(
        None, **optional(3, "To", "Last day (UTC) to keep, itself included. Empty: to the end.", "date")
    )
    format: Literal["parquet", "csv"] = Field(
        "parquet", **field(4, "Format", "parquet keeps the types; csv opens in a spreadsheet.")
    )
    link_days: int = Field(
        7,
        ge=1,
        le=7,
        **field(5, "Days the link works", "After that the link has expired; the file itself stays until retention."),
    )
    dry_run: bool = dry_run(6, "Show how many rows and which columns it would be; upload nothing, make no link.")

    @field_validator("report", mode="after")
    @classmethod
    def _known_report(cls, value: str) -> str:
        return report_named(value).name

    @field_validator("columns", mode="after")
    @classmethod
    def _known_columns(cls, value: list[str], info: ValidationInfo) -> list[str]:
        value = one_each(value)
        if "report" not in info.data:
            return value  # the report is wrong already, and reported so
        known = [c.name for c in report_named(info.data["report"]).columns]
        unknown = [name[:40] for name in value if name not in known]
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
