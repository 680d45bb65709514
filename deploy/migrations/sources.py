"""The source tables of the embedded stack, which has no product of its own: as the contracts describe them."""

from __future__ import annotations

from deploy.migrations.database import connected
from tasks.contracts import POSTGRES_TYPES, POSTS, TABLES, USERS, Column, Table
from tasks.platform.quoting import identifier


def create_source_tables(db_url: str) -> None:
    """Make the tables, and the columns that were declared since, where they are missing."""
    with connected(db_url) as run:
        run(render_sources(), "Making the source tables")


def render_sources() -> str:
    """As on Supabase, row-level security keeps the API's clients out."""
    return "\n".join(_source(table) for table in (USERS, *(t for t in TABLES if t is not USERS)))


def _source(table: Table) -> str:
    full = identifier(table.source_schema, table.source)
    inside = ",\n  ".join(_column(table, column) for column in table.source_columns)
    added = "\n".join(
        f"alter table {full} add column if not exists {_column(table, c)};" for c in table.source_columns[1:]
    )
    return f"""\
create table if not exists {full} (
  {inside}
);
{added}
{_author_index(table, full)}
alter table {full} enable row level security;"""


def _author_index(table: Table, full: str) -> str:
    if table is not POSTS or "user_id" not in POSTS:
        return ""
    author = identifier(table["user_id"].source_name)
    return f"create index if not exists {identifier(f'{table.source}_author')} on {full} ({author});"


def _column(table: Table, column: Column) -> str:
    rest = ""
    if column is table.key:
        rest = " primary key default gen_random_uuid()" if column.kind == "uuid" else " primary key"
    elif column.name in ("created_at", "updated_at"):
        rest = " default now()"
    elif table is POSTS and column.name == "user_id":
        rest = f" references {identifier(USERS.source_schema, USERS.source)}"
    return f"{identifier(column.source_name)} {POSTGRES_TYPES[column.kind]}{rest}"
