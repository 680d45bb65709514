"""`etl_tables()`, by which our functions find our tables: each of them fails once a table that it names is gone."""

from __future__ import annotations

from collections.abc import Callable

from deploy.migrations.database import Run, exists
from deploy.migrations.files import last_shape
from deploy.migrations.statements import full_name, registry
from tasks.errors import WriteError

_GONE = "42P01"


def forget_dropped_tables(run: Run, *, say: Callable[[str], None]) -> None:
    """Make the list again, of the tables that are there, where somebody dropped one of those that it names."""
    if not run("select to_regprocedure('public.etl_tables()') is not null")[0][0]:
        return
    try:
        run("select count(*) from public.etl_tables()", "Listing our tables")
    except WriteError as error:
        if error.code != _GONE:
            raise
        there = {name: table for name, table in last_shape().items() if exists(run, full_name(table))}
        run(registry(there), "Making the list of our tables again")
        say("made the list of our tables again, without those that somebody dropped")
