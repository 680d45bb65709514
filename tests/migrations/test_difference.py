"""From one shape to the next: each kind of change, on tables with rows, applied twice as once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.migrations import files, migrate
from deploy.migrations.difference import statements
from deploy.migrations.shape import ColumnShape, Shape, record, recorded, wanted_shape
from deploy.migrations.statements import grant_source
from local_stack.errors import StackError
from local_stack.postgres import query
from tasks.errors import ConfigurationError

WANTED = wanted_shape()
USER = "00000000-0000-4000-8000-000000000001"
ROWS = f"""
insert into public.clean_users (id, status, created_at, updated_at, row_hash)
values ('{USER}', 'active', now(), now(), repeat('a', 32));
insert into public.daily_activity values ('2026-01-01', 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);"""


def column(kind: str, *, required: bool = False) -> ColumnShape:
    return ColumnShape(kind, required, "New.")


def changed(table: str, **columns: ColumnShape | None) -> Shape:
    """The wanted shape with other columns; None takes one away."""
    merged = {**WANTED[table].columns, **columns}
    kept = {name: of for name, of in merged.items() if of is not None}
    return {**WANTED, table: replace(WANTED[table], columns=kept)}


def apply(project: str, after: Shape) -> None:
    for statement in statements(WANTED, after):
        query(project, statement)


@pytest.fixture
def filled(project: str) -> str:
    migrate(project)
    query(project, ROWS)
    return project


TYPE = "select format_type(atttypid, atttypmod) || case when attnotnull then ' not null' else '' end from pg_attribute"
CHANGES: dict[str, tuple[Shape, str, str, str]] = {
    # the shape, its column, what it is afterwards, what users' rows count as
    "a column is added": (changed("clean_users", added=column("text")), "clean_users.added", "text", "0" * 32),
    "a required column is added": (
        changed("clean_users", added=column("text", required=True)), "clean_users.added", "text", "0" * 32,
    ),
    "a column goes": (changed("clean_users", bio=None), "clean_users.bio", "", "a" * 32),
    "a column changes its type": (
        changed("clean_users", status=column("bigint")), "clean_users.status", "bigint", "0" * 32,
    ),
    "a column may be null": (changed("clean_users", status=column("text")), "clean_users.status", "text", "a" * 32),
    "a column of an aggregate is added": (
        changed("daily_activity", added=column("bigint")), "daily_activity.added", "bigint", "a" * 32,
    ),
    "a column of an aggregate goes": (
        changed("daily_activity", words=None), "daily_activity.words", "bigint", "a" * 32,
    ),
    "a column of an aggregate changes its type": (
        changed("daily_activity", words=column("double precision", required=True)),
        "daily_activity.words", "double precision not null", "a" * 32,
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_column(filled: str, change: str) -> None:
    after, where, expected, row_hash = CHANGES[change]
    table, name = where.split(".")
    for _ in range(2):
        apply(filled, after)
        found = query(filled, f"{TYPE} where attrelid = 'public.{table}'::regclass and attname = '{name}'")
        assert found == expected
        assert query(filled, "select row_hash from public.clean_users") == row_hash
        assert query(filled, "select count(*) from public.daily_activity") == "1"


INDEXES = """
select pg_get_indexdef(i.indexrelid) from pg_index i
where i.indrelid in ('public.clean_users'::regclass, 'public.clean_posts'::regclass)
union all
select relname || ': ' || unnest(reloptions) from pg_class where relname in ('clean_users', 'clean_posts') order by 1"""


def test_a_key_of_another_type_makes_another_table_once_with_all_of_its_indexes(filled: str) -> None:
    fresh = query(filled, INDEXES)
    assert len(fresh.splitlines()) == 2 + 3 + 2 + 4  # keys, look-ups, fingerprints; two settings of each table
    key, reference = ColumnShape("bigint", True, "Key."), ColumnShape("bigint", False, "Reference.")
    after = changed("clean_users", id=key, duplicate_of=reference)
    after["clean_posts"] = changed("clean_posts", user_id=key)["clean_posts"]  # made again in its table
    apply(filled, after)
    assert query(filled, "select count(*) from public.clean_users") == "0"
    assert query(filled, INDEXES) == fresh
    query(filled, "alter table public.clean_users set (autovacuum_vacuum_scale_factor = 0.1)")  # somebody's own
    query(filled, ROWS.partition(";")[0].replace(f"'{USER}'", "1"))
    apply(filled, after)
    assert query(filled, "select count(*) from public.clean_users") == "1"
    assert "clean_users: autovacuum_vacuum_scale_factor=0.1" in query(filled, INDEXES).splitlines()


@pytest.mark.parametrize("name", ["uid", "duplicate_of"])
def test_another_column_as_the_key_makes_another_table_once(filled: str, name: str) -> None:
    """One that takes the place of the key, or one that was there."""
    users = WANTED["clean_users"]
    others = {c: of for c, of in users.columns.items() if c not in ("id", name)}
    columns = {name: users.columns["id"], **({} if name == "uid" else {"id": users.columns[name]}), **others}
    after = {**WANTED, "clean_users": replace(users, key=(name,), columns=columns)}
    apply(filled, after)
    assert query(filled, "select count(*) from public.clean_users") == "0"
    assert query(filled, PRIMARY_KEY) == f"PRIMARY KEY ({name})"
    query(filled, ROWS.partition(";")[0].replace("(id", f"({name}"))
    apply(filled, after)
    assert query(filled, "select count(*) from public.clean_users") == "1"


PRIMARY_KEY = """
select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'public.clean_users'::regclass and contype = 'p'"""


def test_migrate_makes_the_indexes_that_a_file_of_an_earlier_release_leaves_out(folder: Path, filled: str) -> None:
    fresh = query(filled, INDEXES)
    earlier = "drop index etl_clean_posts_user_id; alter table clean_posts reset (autovacuum_vacuum_scale_factor);"
    (folder / "99990101000000_earlier.sql").write_text(earlier)
    migrate(filled)
    assert query(filled, INDEXES) == fresh
    query(filled, earlier)  # or a lock kept them from being made
    assert migrate(filled) == []
    assert query(filled, INDEXES) == fresh


def test_a_view_on_the_hashes_does_not_stop_a_new_column(filled: str) -> None:
    query(filled, "create view public.mine as select * from public.clean_users")
    apply(filled, changed("clean_users", added=column("text")))
    assert query(filled, "select row_hash from public.mine") == "0" * 32


def test_a_table_comes_and_goes_with_its_rights(filled: str) -> None:
    users = WANTED["clean_users"]
    letters = replace(users, relation="clean_letters", name="letters", source=("public", "letters"))
    query(filled, "create table public.letters (id uuid primary key)")
    more: Shape = {**WANTED, "clean_letters": letters}
    for _ in range(2):
        apply(filled, more)
    registered = "select count(*) from public.etl_tables() where name = 'letters'"
    assert query(filled, registered) == "1"
    assert query(filled, "select count(*) from pg_indexes where indexname = 'etl_letters_fingerprints'") == "1"
    rights = "select has_table_privilege('etl', 'public.{}', '{}'), has_table_privilege('anon', 'public.{}', 'select')"
    assert query(filled, rights.format("clean_letters", "insert", "clean_letters")) == "t|f"
    assert query(filled, rights.format("letters", "select", "letters")).startswith("t|")
    assert (
        query(filled, f"{OPERATORS} and relname = 'clean_letters' and attname in ('id', 'row_hash')")
        == "clean_letters.id"
    )
    rejects = "insert into public.etl_reject_rows values ('{}', '1', '1', 'invalid_value', null, null, null, 'run')"
    query(filled, f"{rejects.format('letters')}; {rejects.format('users')}")
    for statement in statements(more, {**WANTED, "letters": replace(letters, relation="letters_of_today")}):
        query(filled, statement)
    assert query(filled, "select count(*) from public.etl_rejects where \"table\" = 'letters'") == "1"
    for statement in statements(more, WANTED):
        query(filled, statement)
    assert query(filled, 'select "table" from public.etl_rejects') == "users"
    assert query(filled, registered) == "0"
    assert query(filled, "select to_regclass('public.clean_letters') is null") == "t"
    for source, reads in (("users", "t"), ("letters", "f")):
        assert query(filled, rights.format(source, "select", source)).startswith(reads)


def test_a_table_of_the_products_with_the_name_of_a_new_one_stays_as_it_is(filled: str) -> None:
    """It was altered, closed to its readers, and the next run would have deleted its rows."""
    product = "create table public.clean_letters (id uuid primary key, body text); grant select on {0} to authenticated"
    query(filled, product.format("public.clean_letters"))
    described = "select relacl, relrowsecurity from pg_class where oid = 'public.clean_letters'::regclass"
    before = query(filled, described)
    letters = replace(WANTED["clean_users"], relation="clean_letters", name="letters", source=None)
    more: Shape = {**WANTED, "clean_letters": letters}
    with pytest.raises(StackError, match=r"already public\.clean_letters, which is not the pipeline's: rename it"):
        query(filled, "\n".join(["begin;", *statements(WANTED, more), "commit;"]))
    assert query(filled, described) == before
    query(filled, "alter table public.clean_letters rename to letters_of_the_product")
    apply(filled, more)
    query(filled, "drop policy etl_all on public.clean_letters")  # a dump is restored where the role is not yet
    apply(filled, more)
    query(filled, "drop policy etl_all on public.clean_letters; comment on table public.clean_letters is 'Letters'")
    with pytest.raises(StackError, match="somebody changed its comment: ") as caught:
        apply(filled, more)
    query(filled, str(caught.value).partition("its comment: ")[2].partition(";")[0])
    apply(filled, more)
    assert query(filled, "select count(row_hash) from public.clean_letters") == "0"


# Columns of ours that an operator of the reports site reads.
OPERATORS = """
select relname || '.' || attname from pg_class c join pg_attribute a on attrelid = c.oid
where has_column_privilege('authenticated', c.oid, attnum, 'select')
  and exists (select from pg_policy where polrelid = c.oid and polname = 'etl_operators')"""


def test_a_view_becomes_a_source(filled: str) -> None:
    """Nothing but a table has policies. What is no source any more is closed, unless the view reads it as etl."""
    shown = {**WANTED, "clean_posts": replace(WANTED["clean_posts"], source=("public", "shown"))}
    reads = "select has_table_privilege('etl', 'public.{}', 'select')"
    policies = "select count(*) from pg_policy where polname = 'etl_reads' and polrelid = 'public.posts'::regclass"
    double = "create function public.ones() returns setof public.posts language sql stable as 'select * from posts'"
    for view, still in (
        ("with (security_invoker = on) as table public.posts", "t"),
        ("as table public.posts", "f"),
        ("as select * from public.ones()", "t"),
    ):
        query(filled, f"{double}; create view public.shown {view}; {grant_source('public', 'posts')}")
        apply(filled, shown)
        assert query(filled, reads.format("shown")) == "t"
        assert query(filled, reads.format("posts")) == still, view
        assert query(filled, policies) == ("1" if still == "t" else "0")
        query(filled, "drop view public.shown; drop function public.ones")


def test_a_former_source_in_a_schema_that_the_login_may_not_use_keeps_no_migration_back(filled: str) -> None:
    """A warning names it for its owner; the whole file was refused."""
    query(filled, "create schema shop; create table shop.posts (id int)")
    shop = {**WANTED, "clean_posts": replace(WANTED["clean_posts"], source=("shop", "posts"))}
    (revoked,) = [statement for statement in statements(shop, WANTED) if "revoke select" in statement]
    query(filled, f"set role service_role; {revoked}")


def test_a_shape_survives_its_record() -> None:
    assert recorded(f"select 1;\n{record(WANTED)}\n") == WANTED
    assert recorded("select 1;") is None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations to write into."""
    for migration in files.migrations():
        (tmp_path / migration.path.name).write_text(migration.sql)
    monkeypatch.setattr(files, "MIGRATIONS", tmp_path)
    return tmp_path


def test_a_change_is_written_as_a_new_file_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, filled: str, contents: Callable[[Path], dict[str, str]]
) -> None:
    assert files.write_migration() is None
    before = contents(folder)
    monkeypatch.setattr(files, "wanted_shape", lambda: changed("clean_users", added=column("text")))
    for version in ("20200101000000", max(folder.iterdir()).name[:14]):
        with pytest.raises(ConfigurationError, match=f"{version} does not follow that of the last migration"):
            files.write_migration(name="added", version=version)
    path = files.write_migration(name="added")
    assert path is not None
    assert path.name.endswith("_added.sql")
    assert path == max(folder.iterdir())
    assert {name: text for name, text in contents(folder).items() if name != path.name} == before
    assert files.write_migration() is None
    query(filled, path.read_text())  # as the Supabase CLI pushes it, without `make migrate`
    assert query(filled, "select count(added) from public.clean_users") == "0"
    assert query(filled, f"{OPERATORS} and attname = 'added'") == "clean_users.added"


@pytest.fixture
def contents() -> Callable[[Path], dict[str, str]]:
    return lambda folder: {path.name: path.read_text() for path in folder.iterdir()}
