"""The form of the compare flow."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from flows.forms.base import Form, around, field
from flows.forms.export import REPORT_NAMES, report_named
from flows.forms.restore import PREVIOUS
from tasks.errors import DAY, ConfigurationError
from tasks.read.options import is_as_of, parse_as_of

LATEST = "latest"
CHOICE = r"(latest|previous|[0-9A-Za-z][0-9A-Za-z-]{3,63})"


class CompareForm(Form):
    """Two published runs of one report."""

    report: str = Field("daily_activity", **field(0, "Report", "Which report to compare.", enum=REPORT_NAMES))
    base: str = Field(
        PREVIOUS,
        **field(
            1,
            "Base",
            "The earlier run: its id, or a day like 2026-01-31 whose last run it is; previous is the one before Run.",
            pattern=around(CHOICE),
        ),
    )
    run: str = Field(
        LATEST,
        **field(2, "Run", "The run to compare with it: its id, or a day; latest is what readers get.",
                pattern=around(CHOICE)),
    )  # fmt: skip
    rows: int = Field(
        20,
        ge=0,
        le=200,
        **field(3, "Rows to show", "So many changed rows are listed on the page; the numbers count all of them."),
    )

    @field_validator("report", mode="after")
    @classmethod
    def _known_report(cls, value: str) -> str:
        return report_named(value).name

    @field_validator("base", "run", mode="after")
    @classmethod
    def _looks_like_a_run(cls, value: str) -> str:
        if not re.fullmatch(CHOICE, value):
            raise ValueError(f"{value[:40]!r} is no run's id and no {DAY}.")
        if is_as_of(value):
            try:
                parse_as_of(value)
            except ConfigurationError:
                raise ValueError(f"{value!r} is no {DAY}.") from None
        return value
