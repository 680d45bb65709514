"""The form of the retention."""

from __future__ import annotations

from pydantic import Field

from flows.forms.base import Form, dry_run, optional


class RetentionForm(Form):
    """How long published files stay."""

    keep_days: int | None = Field(
        None,
        **optional(
            0,
            "Days to keep",
            "Every run of so many days stays whole; of older ones the last of each month, without the files that name "
            "user ids. Empty takes the setting ETL_KEEP_DAYS (30).",
            "integer",
            minimum=1,
            maximum=3_650,
        ),
        ge=1,
        le=3_650,
    )
    dry_run: bool = dry_run(1, "List what would be removed and why; remove nothing.")
