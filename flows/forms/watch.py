"""The form of the watch."""

from __future__ import annotations

from pydantic import Field

from flows.forms.base import Form, dry_run, optional
from tasks.settings.watch import YEAR


class WatchForm(Form):
    """When changes start a run. Empty fields are as ETL_WATCH_… of the worker says."""

    changes: int | None = Field(
        None,
        ge=1,
        **optional(0, "Changes", "So many changed rows start a run. Empty: ETL_WATCH_CHANGES.", "integer", minimum=1),
    )
    minutes: float | None = Field(
        None,
        gt=0,
        le=YEAR,
        **optional(
            1,
            "Minutes",
            "A single change waits for so long at most. Empty: ETL_WATCH_MINUTES.",
            "number",
            exclusiveMinimum=0,
            maximum=YEAR,
        ),
    )
    every_minutes: float | None = Field(
        None,
        ge=0,
        le=YEAR,
        **optional(
            2,
            "From start to start",
            "Minutes from the start of one run to the next, at least. Empty: ETL_WATCH_EVERY_MINUTES.",
            "number",
            minimum=0,
            maximum=YEAR,
        ),
    )
    dry_run: bool = dry_run(3, "Ask once what has changed and whether Realtime is enabled; start nothing.", off="watch")
