"""The bucket of the reports, which the files made and somebody deleted since."""

from __future__ import annotations

from collections.abc import Callable

from deploy.migrations.database import Run
from tasks.errors import WriteError

_HAS_STORAGE = "select to_regclass('storage.buckets') is not null"
_IS_THERE = "select count(*) > 0 from storage.buckets where id = 'reports'"
_MAKE = (
    "insert into storage.buckets (id, name, public) values ('reports', 'reports', false) on conflict (id) do nothing"
)
_NO_RIGHT = "42501"


def make_deleted_bucket(run: Run, *, say: Callable[[str], None]) -> None:
    """Make the private bucket where it is gone. Where the role may not, `verify` says who does."""
    if not run(_HAS_STORAGE)[0][0] or run(_IS_THERE)[0][0]:
        return
    try:
        run(_MAKE, "Making the bucket reports again")
    except WriteError as error:
        if error.code != _NO_RIGHT:
            raise
    else:
        say("made the bucket reports again, which somebody had deleted")
