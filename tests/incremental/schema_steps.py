"""What a product does to its schema between two nights. Columns that are read make the next night full, others do not.

A column's type that changes how a value is read (real to double) needs a contract with such a column: see
`tests/source/test_fingerprints.py`.
"""

from __future__ import annotations

from tests.incremental.world import World

_STATUSES = ("active", "INACTIVE", "odd", "inactive", "Active ", "strange")
_OPTIONAL = ("users.name", "users.email", "users.bio", "users.updated_at", "posts.title", "posts.updated_at")


def make_status_an_enum(w: World) -> None:
    names = ", ".join(f"'{status}'" for status in w.statuses)
    w.sql(
        f"create type product_status as enum ({names}); "
        "alter table users alter column status type product_status using status::product_status"
    )
    w.enum = True


def rename_a_status(w: World) -> None:
    """No row is written, and all of that status read as another text."""
    if w.enum:
        old, new = w.rng.choice(w.statuses), w.rng.choice([s for s in _STATUSES if s not in w.statuses])
        w.sql(f"alter type product_status rename value '{old}' to '{new}'")
        w.statuses[w.statuses.index(old)] = new


def add_a_column(w: World) -> None:
    """One that nobody reads, with a default."""
    w.sql("alter table posts add column if not exists likes integer not null default 3")


def add_or_drop_a_column(w: World) -> None:
    """An optional column of the contract."""
    name = w.rng.choice(_OPTIONAL)
    table, _, column = name.partition(".")
    if name in w.gone:
        w.sql(f"alter table {table} add column {column} {_type_of(column)}")
    else:
        w.sql(f"alter table {table} drop column {column} cascade")
    w.gone ^= {name}
    w.dumped = False  # the dump has other columns


def retype_a_column(w: World) -> None:
    kind = w.rng.choice(("varchar(400)", "text"))
    w.sql(f"alter table posts alter column content type {kind}")


def retype_a_column_that_is_not_read(w: World) -> None:
    w.sql(
        "alter table posts add column if not exists score real default 0.1; "
        "alter table posts alter column score type double precision"
    )


def repair_schema(w: World) -> None:
    """What other tests expect."""
    for name in sorted(w.gone):
        table, _, column = name.partition(".")
        w.sql(f"alter table {table} add column {column} {_type_of(column)}")
    if w.enum:
        w.sql("alter table users alter column status type text using status::text; drop type product_status")
    w.sql(
        "alter table posts drop column if exists likes, drop column if exists score, "
        "alter column content type text; "
        "alter table posts add constraint posts_user_id_fkey foreign key (user_id) references users"
    )


def _type_of(column: str) -> str:
    return "timestamptz default now()" if column == "updated_at" else "text"
