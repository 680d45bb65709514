"""The bucket of the reports and the rights of etl in Storage, which the files made and somebody took away since."""

from __future__ import annotations

from collections.abc import Callable

from deploy.migrations.database import Run, exists
from tasks.errors import WriteError

_BUCKETS = "storage.buckets"
_IS_THERE = "select count(*) > 0 from storage.buckets where id = 'reports'"
_MAKE = (
    "insert into storage.buckets (id, name, public) values ('reports', 'reports', false) on conflict (id) do nothing"
)
_NO_RIGHT = "42501"
_LACKING = """\
select format('grant %s on storage.%I to etl;', o.privilege, c.relname)
from (values ('buckets', 'select'), ('objects', 'select'), ('objects', 'insert'), ('objects', 'update'),
             ('objects', 'delete')) o (name, privilege)
join pg_class c on c.relnamespace = to_regnamespace('storage') and c.relname = o.name
where not has_table_privilege('etl', c.oid, o.privilege)
union all
select 'grant usage on schema storage to etl;'
where to_regnamespace('storage') is not null and not has_schema_privilege('etl', 'storage', 'usage')"""


def bucket_is_there(run: Run) -> bool:
    """Whether there is a Storage, and the bucket in it."""
    return bool(exists(run, _BUCKETS) and run(_IS_THERE)[0][0])


def make_deleted_bucket(run: Run, *, say: Callable[[str], None]) -> None:
    """Make the private bucket where it is gone. Where the role may not, `verify` says who does."""
    if exists(run, _BUCKETS) and not run(_IS_THERE)[0][0] and _may(run, _MAKE, "Making the bucket reports again"):
        say("made the bucket reports again, which somebody had deleted")


def give_back_storage(run: Run, *, say: Callable[[str], None]) -> None:
    """Grant etl what it lacks of Storage's tables, where this role may; else `verify` says who does it."""
    lacking = lacking_in_storage(run)
    if lacking and _may(run, " ".join(lacking), "Giving rights in Storage back") and not lacking_in_storage(run):
        say(f"gave back {len(lacking)} rights in Storage that etl had lost")


def lacking_in_storage(run: Run) -> list[str]:
    """The statements that give etl what it lacks of Storage's tables; none without Storage."""
    return [str(statement) for (statement,) in run(_LACKING)]


def _may(run: Run, sql: str, what: str) -> bool:
    try:
        run(sql, what)
    except WriteError as error:
        if error.code != _NO_RIGHT:
            raise
        return False
    return True
