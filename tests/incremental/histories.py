"""Random histories of a product: what its users, its clients and its database do between two nights.

Each step is a name and what it does to a project; keys come from a small space, so that they meet, go and come again.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg

from tasks.contracts import FURTHER_TABLES, TABLES
from tasks.platform.quoting import literal
from tests.cleaning.twins import twin_of
from tests.incremental.further_steps import OF_FURTHER_ROWS, change_further_rows, empty_further_tables
from tests.incremental.schema_steps import (
    add_a_column,
    add_or_drop_a_column,
    make_status_an_enum,
    rename_a_status,
    repair_schema,
    retype_a_column,
    retype_a_column_that_is_not_read,
)
from tests.incremental.world import MONTHS, POSTS, World, uid

EMAILS = ("ann@example.com", "Bob@Example.com", "c@example.com", "not an address", " ann@example.com ")
CONTENTS = ("Some words here", "other   words\r\nand a line", "\u200bhidden", "", "é e\u0301 combined", "x" * 300)
NAMES = ("Ann", "  Bob ", "C\tD", "")


def insert_users(w: World) -> None:
    for _ in range(w.rng.randrange(1, 4)):
        _insert_user(w, w.user())


def insert_a_twin(w: World) -> None:
    """A user whose 64-bit number is that of another one: no partial table can name them both."""
    _insert_user(w, uid(0))
    _insert_user(w, twin_of(uid(0)))


def _insert_user(w: World, key: str) -> None:
    email = w.text(EMAILS) if w.rng.random() < 0.6 else f"'p{w.rng.randrange(99)}@example.com'"
    values = {
        "id": f"'{key}'", "name": w.text(NAMES), "email": email, "bio": w.text(CONTENTS),
        "status": f"'{w.rng.choice(w.statuses)}'", "created_at": w.instant(), "updated_at": w.instant(),
    }  # fmt: skip
    w.insert("users", values, "email created_at")


def insert_posts(w: World) -> None:
    for _ in range(w.rng.randrange(1, 9)):
        author = "null" if w.rng.random() < 0.05 else f"'{w.user()}'"
        values = {
            "id": f"'{w.post()}'", "user_id": author, "title": w.text(NAMES), "content": w.text(CONTENTS),
            "created_at": w.instant(), "updated_at": w.instant(),
        }  # fmt: skip
        w.insert("posts", values, "content user_id")


def update_emails(w: World) -> None:
    if "users.email" not in w.gone:
        w.sql(f"update users set email = {w.text(EMAILS)} where id in ('{w.user()}', '{w.user()}')")


def move_signups(w: World) -> None:
    w.sql(f"update users set created_at = {w.instant()} where id = '{w.user()}'")


def move_posts(w: World) -> None:
    w.sql(f"update posts set created_at = {w.instant()} where id in ('{w.post()}', '{w.post()}')")


def give_posts_away(w: World) -> None:
    w.sql(f"update posts set user_id = '{w.user()}' where id in ('{w.post()}', '{w.post()}')")


def rewrite_posts(w: World) -> None:
    title = "" if "posts.title" in w.gone else f", title = {w.text(NAMES)}"
    w.sql(f"update posts set content = {w.text(CONTENTS)}{title} where id = '{w.post()}'")


def exchange_contents(w: World) -> None:
    """Neighbours exchange values: the one's fingerprint gains what the other's loses, so that their sum may stay."""
    number = 1_000 + w.rng.randrange(POSTS - 1)
    one, other = uid(number), uid(number + 1)
    w.sql(
        "update posts p set content = o.content, created_at = o.created_at from posts o "
        f"where (p.id, o.id) in (('{one}', '{other}'), ('{other}', '{one}'))"
    )


def delete_users(w: World) -> None:
    w.sql(f"delete from users where id = '{w.user()}'")


def delete_users_with_posts(w: World) -> None:
    user = w.user()
    w.sql(f"delete from posts where user_id = '{user}'; delete from users where id = '{user}'")


def delete_posts(w: World) -> None:
    w.sql(f"delete from posts where id in ('{w.post()}', '{w.post()}', '{w.post()}')")


def delete_the_first_of_an_email(w: World) -> None:
    w.sql("delete from users where id in (select duplicate_of from clean_users where duplicate_of is not null limit 1)")


def empty_a_month(w: World) -> None:
    month = w.rng.choice(MONTHS)
    w.sql(f"delete from posts where to_char(created_at at time zone 'UTC', 'YYYY-MM') = '{month}'")


def import_old_posts(w: World) -> None:
    """Posts of long ago by users who signed up late, after some as_ofs."""
    user = w.user()
    w.sql(
        f"update users set created_at = '2026-01-30 12:00+00' where id = '{user}';"
        "insert into posts (id, user_id, content, created_at) values "
        f"('{w.post()}', '{user}', 'old', '2025-10-03+00') on conflict (id) do nothing"
    )


def commit_late(w: World) -> None:
    """A transaction that is open over the next night, and commits after it. Its key is its own: nobody waits for it."""
    connection = psycopg.connect(w.project.stack.db_url)
    connection.execute(
        "insert into posts (id, user_id, content, created_at) values (%s, %s, 'late', '2025-12-05+00') "
        "on conflict (id) do nothing",
        [uid(5_000 + w.rng.randrange(9)), w.user()],
    )
    w.late.append(connection)


def roll_back(w: World) -> None:
    with psycopg.connect(w.project.stack.db_url) as connection:
        connection.execute("update posts set content = 'never'")
        connection.rollback()


def dump(w: World) -> None:
    w.sql(
        "drop table if exists kept_users, kept_posts; create table kept_users as table users; "
        "create table kept_posts as table posts"
    )
    w.dumped = True


def restore_the_dump(w: World) -> None:
    if w.dumped:
        w.sql(
            "delete from posts; delete from users; insert into users select * from kept_users; "
            "insert into posts select * from kept_posts"
        )


def switch_the_triggers(w: World) -> None:
    """Triggers of the product's own on our tables, that refuse some rows, with an error or without."""
    if w.triggered:
        w.sql("; ".join(f"drop trigger poison on {table.clean}" for table in TABLES))
    else:
        w.sql(
            "create or replace function poison() returns trigger language plpgsql as $$ begin "
            "if to_jsonb(new) ->> tg_argv[0] like '%3' then raise exception 'no' using errcode = '23514'; end if; "
            "return case when to_jsonb(new) ->> tg_argv[0] not like '%7' then new end; end $$; "
        )
        for table in TABLES:
            w.sql(
                f"create trigger poison before insert or update on {table.clean} for each row "
                f"execute function poison({literal(table.key.name)})"
            )
    w.triggered = not w.triggered


# Of the rows alone: these may also happen between any two requests of a night.
OF_ROWS: tuple[Callable[[World], None], ...] = (
    insert_users, insert_users, insert_posts, insert_posts, insert_posts, update_emails, update_emails, move_signups,
    move_posts, give_posts_away, rewrite_posts, exchange_contents, delete_users, delete_users_with_posts, delete_posts,
    delete_the_first_of_an_email, empty_a_month, import_old_posts, *(OF_FURTHER_ROWS if FURTHER_TABLES else ()),
)  # fmt: skip
STEPS: tuple[Callable[[World], None], ...] = (
    *OF_ROWS, insert_a_twin, commit_late, roll_back, dump, restore_the_dump, switch_the_triggers, rename_a_status,
    rename_a_status, add_a_column, add_or_drop_a_column, retype_a_column, retype_a_column_that_is_not_read,
    *([empty_further_tables] if FURTHER_TABLES else ()),
)  # fmt: skip


def begin(w: World) -> None:
    """A product with some of everything."""
    w.sql("alter table posts drop constraint if exists posts_user_id_fkey")
    if w.rng.random() < 0.5:
        make_status_an_enum(w)
    for _ in range(6):
        insert_users(w)
    for _ in range(9):
        insert_posts(w)
        change_further_rows(w)


def happen(w: World) -> list[str]:
    """Some steps; what was late commits first. Returns their names."""
    names = []
    for connection in w.late:
        connection.commit()
        connection.close()
    w.late.clear()
    for _ in range(w.rng.randrange(1, 6)):
        step = w.rng.choice(STEPS)
        step(w)
        names.append(step.__name__)
        if w.late:
            break  # others would wait for it
    return names


def end(w: World) -> None:
    """Take away what other tests must not meet."""
    for connection in w.late:
        connection.close()
    if w.triggered:
        switch_the_triggers(w)
    w.sql("drop table if exists kept_users, kept_posts; drop function if exists poison(); truncate users, posts")
    empty_further_tables(w)
    repair_schema(w)
