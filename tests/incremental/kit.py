"""What the tests of incremental nights share: all that a night and a full one on the same source must have equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flows.engine.outcome import RunOutcome
from tests.pipeline.kit import Project

# Everything that a night leaves in the database, apart from when and by whom.
_TABLES = {
    "clean_users": "select * from public.clean_users order by id",
    "clean_posts": "select * from public.clean_posts order by id",
    "user_statistics": "select * from public.user_statistics order by as_of",
    "daily_activity": "select * from public.daily_activity order by date",
    "rejects": 'select "table", id, "column", came, expected, fingerprint, rule_mask, in_file '
    'from public.etl_reject_rows order by "table", id',
}
POISON = """
create function poison() returns trigger language plpgsql as $$ begin
  raise exception 'no' using errcode = '23514'; end $$;
create trigger poison before insert or update on clean_posts for each row execute function poison()"""
_FULL_DISK = """
create function full_disk() returns trigger language plpgsql as
$$ begin raise exception 'no room' using errcode = '53100'; end $$;
create trigger full_disk after insert or update on clean_posts execute function full_disk();
"""
_COUNTED = ("read", "kept", "rejected")


def stored(project: Project) -> dict[str, str]:
    """The rows of our tables, as text."""
    return {name: project.stack.query(query) for name, query in _TABLES.items()}


def published(project: Project) -> dict[str, tuple[str, int]]:
    """sha256 and rows of every Parquet file of the current run, partial tables included."""
    files = project.manifest()["files"]
    return {file["path"]: (file["sha256"], file["rows"]) for file in files if file["path"].endswith(".parquet")}


def figures(outcome: RunOutcome) -> dict[str, Any]:
    """What the ledger and the page say of the tables, whichever way they were read."""
    tables = {name: {key: of[key] for key in _COUNTED} for name, of in outcome.tables.items()}
    return {"tables": tables, "quality": list(outcome.quality), "headline": dict(outcome.headline)}


def first_difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Where two of these differ, in a few lines."""
    lines = []
    for name in sorted({*ours, *theirs}):
        mine, other = ours.get(name), theirs.get(name)
        if mine != other:
            if isinstance(mine, str) and isinstance(other, str):
                left, right = set(mine.splitlines()), set(other.splitlines())
                lines.append(
                    f"{name}: only incremental {sorted(left - right)[:3]}, only full {sorted(right - left)[:3]}"
                )
            else:
                lines.append(f"{name}: incremental {mine}, full {other}")
    return "\n".join(lines)


@contextmanager
def full_disk(project: Project) -> Iterator[None]:
    """Whoever writes to clean_posts is refused: a load breaks off there, after it has written users."""
    project.stack.query(_FULL_DISK)
    try:
        yield
    finally:
        project.stack.query("drop trigger full_disk on clean_posts; drop function full_disk()")


def assert_same_as_full(project: Project, outcome: RunOutcome, run_full: Callable[[], RunOutcome]) -> RunOutcome:
    """A full night right after it must write no row and give the same tables, files and figures."""
    assert outcome.mode == "incremental", outcome.full_because
    tables, files, ours = stored(project), published(project), figures(outcome)
    for name, of in outcome.tables.items():
        assert of["kept"] == sum(of[how] for how in ("inserted", "updated", "unchanged", "refused")), (name, of)
    project.assert_whole()
    full = run_full()
    assert full.mode == "full"
    assert not first_difference(ours, figures(full)), first_difference(ours, figures(full))
    assert not first_difference(files, published(project)), first_difference(files, published(project))
    assert not first_difference(tables, stored(project)), first_difference(tables, stored(project))
    for name, of in full.tables.items():
        assert (of["inserted"], of["updated"], of["deleted"]) == (0, 0, 0), (name, of)
    return full
