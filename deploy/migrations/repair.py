"""What a restored or changed database lacks that the files made: the role of the runs, the list of our tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from deploy.migrations.database import Run, exists
from deploy.migrations.files import Migration, last_shape
from deploy.migrations.statements import full_name, registry
from tasks.errors import WriteError

_STATEMENT = re.compile(r"^do \$\$.*?^\$\$;|^grant usage on schema public to etl;", re.MULTILINE | re.DOTALL)
_OF_THE_ROLE = re.compile(r"\b(?:create|alter) role etl\b|\bgrant (?:etl to|temporary|usage on schema public)\b")
_GONE = "42P01"


def make_missing_role(run: Run, files: Sequence[Migration], *, say: Callable[[str], None]) -> None:
    """Make the role etl as the files leave it, where the database was restored on a server that has none.

    It is the server's: a dump of the database holds what it may do, and not the role.
    """
    if run("select to_regrole('etl') is not null")[0][0]:
        return
    statements = [made for file in files for made in _STATEMENT.findall(file.sql) if _OF_THE_ROLE.search(made)]
    run("\n".join(["begin;", *statements, "commit;"]), "Making the role etl again")
    say("made the role etl again, which no dump of the database holds")


def forget_dropped_tables(run: Run, *, say: Callable[[str], None]) -> None:
    """Make `etl_tables()` again, of the tables that are there, where somebody dropped one of those that it names.

    Our functions find our tables by that list: each of them fails once a table of it is gone.
    """
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
