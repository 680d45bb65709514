"""The form of the restore."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from flows.forms.base import Form, around, dry_run, field

PREVIOUS = "previous"
RUN = r"(previous|[0-9A-Za-z][0-9A-Za-z-]{3,63})"


class RestoreForm(Form):
    """Which committed run the readers shall see again."""

    run: str = Field(
        PREVIOUS,
        **field(
            0,
            "Run",
            "The committed run to go back to, by its id; previous is the one before the current run. Moves latest.json "
            "and the aggregates in Postgres back to it. The cleaned tables hold current rows and stay as they are. A "
            "dry run lists the runs there are.",
            pattern=around(RUN),
        ),
    )
    dry_run: bool = dry_run(1, "Say what would be moved and where to; move nothing.")

    @field_validator("run", mode="after")
    @classmethod
    def _looks_like_a_run(cls, value: str) -> str:
        if not re.fullmatch(RUN, value):
            raise ValueError(f"{value[:40]!r} is no run's id: see the run page or etl_runs, or say 'previous'.")
        return value
