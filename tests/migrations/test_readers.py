"""Who reads what the pipeline keeps: operators also see columns and tables that a later migration made."""

from __future__ import annotations

import pytest

from deploy.migrations import migrate
from local_stack.postgres import query
from tasks.errors import ConfigurationError

READABLE = """
select string_agg(attname, ',' order by attname) from pg_attribute
where attrelid = 'public.clean_users'::regclass and attnum > 0 and not attisdropped
  and has_column_privilege('authenticated', attrelid, attnum, 'select')"""


def test_a_column_that_came_later_is_open_to_operators_and_what_is_ours_stays_closed(project: str) -> None:
    migrate(project)
    before = query(project, READABLE)
    assert {"id", "name", "email", "status"} <= set(before.split(","))
    assert not {"row_hash", "fingerprint", "rule_mask"} & set(before.split(","))
    query(project, "alter table public.clean_users add column added text")
    assert query(project, READABLE) == before
    query(project, "delete from public.etl_migrations where version = (select max(version) from public.etl_migrations)")
    with pytest.raises(ConfigurationError, match="added"):  # the contracts of this test do not know it
        migrate(project)
    assert query(project, READABLE) == ",".join(sorted([*before.split(","), "added"]))
    assert "token" not in query(project, READABLE.replace("clean_users", "etl_runs")).split(",")
