"""The role of the runs. It is the server's: a dump of the database holds what it may do, and not the role."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from deploy.migrations.database import Run
from deploy.migrations.files import Migration

_STATEMENT = re.compile(r"^do \$\$.*?^\$\$;|^grant usage on schema public to etl;", re.MULTILINE | re.DOTALL)
_OF_THE_ROLE = re.compile(r"\b(?:create|alter) role etl\b|\bgrant (?:etl to|temporary|usage on schema public)\b")


def make_missing_role(run: Run, files: Sequence[Migration], *, say: Callable[[str], None]) -> None:
    """Make the role etl as the files leave it, where the database was restored on a server that has none."""
    if run("select to_regrole('etl') is not null")[0][0]:
        return
    statements = [made for file in files for made in _STATEMENT.findall(file.sql) if _OF_THE_ROLE.search(made)]
    run("\n".join(["begin;", *statements, "commit;"]), "Making the role etl again")
    say("made the role etl again, which no dump of the database holds")
