"""A database of a test's own on the session's server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from deploy.migrations import create_source_tables
from local_stack import Stack

# Roles are the server's: the first migrations alone give etl more than all of them leave it (not on PostgreSQL 15).
_AS_ALL_LEAVE_IT = """
do $$ begin
  if (select rolbypassrls from pg_roles where rolname = 'etl') then alter role etl nobypassrls; end if;
end $$"""


@pytest.fixture
def project(stack: Stack) -> Iterator[str]:
    """The URL of a project of its own: only the user's tables are in it, and neither Storage nor Auth."""
    name = f"project_{secrets.token_hex(4)}"
    stack.query(f"create database {name}")
    url = urlunsplit(urlsplit(stack.db_url)._replace(path=f"/{name}"))
    create_source_tables(url)
    yield url
    stack.query(f"drop database {name} with (force); {_AS_ALL_LEAVE_IT}")
