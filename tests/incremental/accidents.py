"""What happens to a project by accident: files, disks, rights are lost, an older dump takes the place of our tables."""

from __future__ import annotations

import shutil

from tasks.errors import PipelineError
from tests.incremental.kit import stored
from tests.incremental.operator import LEASE_ENDS, Operations
from tests.publish.builders import content_of

_OURS = (
    "select c.relname from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and "
    "(c.relname ~ '^(clean|etl)_' or c.relname in ('user_statistics', 'daily_activity')) "
    "and c.relname not in ('etl_seed', 'etl_migrations') order by 1"
)
_COLUMNS = (
    "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute "
    "where attrelid = 'public.{name}'::regclass and attnum > 0 and not attisdropped and attgenerated = ''"
)


def file_lost(o: Operations) -> None:
    """A file or a manifest goes from the bucket, or its content alone does, or is another one there."""
    latest = o.unharmed.latest()
    paths = [path for path in o.unharmed.listing() if path.startswith("runs/")]
    if o.rng.random() < 0.15:
        paths = ["latest.json"]
    elif latest and o.rng.random() < 0.5:
        paths = [path for path in paths if path.startswith(latest["run"])]
    if paths:
        path = o.rng.choice(paths)
        o.log[-1] += f" {path}"
        happens = o.rng.random()
        if happens < 0.4:
            o.project.bucket.remove([path])
        elif happens < 0.7:
            o.log[-1] += ": its content"
            content_of(o.project.stack, path).unlink(missing_ok=True)
        else:
            o.project.bucket.replace(path, b"something else")
        o.unharmed.damaged(path)


def disk_lost(o: Operations) -> None:
    """The worker's disk is another one, or what lies on it was cut short."""
    data = o.project.folder / "data"
    files = [path for path in data.rglob("*") if path.is_file()]
    if o.rng.random() < 0.5 or not files:
        shutil.rmtree(data, ignore_errors=True)
    else:
        path = o.rng.choice(files)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        o.log[-1] += f" {path.relative_to(data)}"


def dumped(o: Operations) -> None:
    """A dump of our tables is made."""
    tables = o.project.stack.query(_OURS).split()
    o.world.sql(
        "drop schema if exists older cascade; create schema older; "
        + "; ".join(f"create table older.{name} as table public.{name}" for name in tables)
    )
    o.older = True


def dump_restored(o: Operations) -> None:
    """Our tables are those of then, bucket and sources of today."""
    if not o.older:
        return
    tables = o.project.stack.query(_OURS).split()
    columns = {name: o.project.stack.query(_COLUMNS.format(name=name)) for name in tables}
    o.world.sql(
        f"truncate {', '.join(f'public.{name}' for name in tables)}; "
        + "; ".join(
            f"insert into public.{name} ({of}) overriding system value select {of} from older.{name}"
            for name, of in columns.items()
        )
    )
    o.world.sql(LEASE_ENDS)
    o.unharmed.database_replaced()
    o.accepted()


def seed_changed(o: Operations) -> None:
    o.world.sql("update etl_seed set id = gen_random_uuid(), seed = seed + 1")


def trigger_lost(o: Operations) -> None:
    """Without the trigger that moves the base a run is refused before it reads."""
    o.world.sql("alter table etl_runs disable trigger etl_move_base")
    before = stored(o.project)
    try:
        assert o.refused(o.run) is None, "\n".join(o.log)
    finally:
        o.world.sql("alter table etl_runs enable always trigger etl_move_base")
    assert stored(o.project) == before, "\n".join(o.log)
    o.unharmed.check(o.log)


def right_revoked(o: Operations) -> None:
    """A right of the pipeline is revoked for one night."""
    functions = o.project.stack.query(
        "select p.oid::regprocedure from pg_proc p where pronamespace = 'public'::regnamespace and proname ~ '^etl_' "
        "and has_function_privilege('etl', p.oid, 'execute') order by 1"
    ).splitlines()
    what = o.rng.choice(("select on users", "select on posts", *(f"execute on function {name}" for name in functions)))
    roles = [r for r in ("etl", "service_role") if r == "etl" or "execute" in what]
    o.log[-1] += f" {what}"
    for role in roles:
        o.world.sql(f"revoke {what} from {role}")
    try:
        o.refused(lambda: o.run(oracle=False, env=o.env(ETL_RETRIES="0")), PipelineError)
    finally:
        for role in roles:
            o.world.sql(f"grant {what} to {role}")
    o.world.sql(LEASE_ENDS)
    o.unharmed.ended_somehow(killed=True)


def hand_changed(o: Operations) -> None:
    """Somebody deletes or changes cleaned rows; the full night right after it puts them right."""
    table = o.rng.choice(("clean_users", "clean_posts"))
    how = o.rng.choice((f"delete from {table}", f"update {table} set updated_at = now()"))
    o.log[-1] += f" {how}"
    o.world.sql(f"{how} where id in (select id from {table} limit 2)")
    o.accepted(full_refresh=True, as_of="now")
