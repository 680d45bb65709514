"""What the tests of the stack share: a table of theirs, an HTTP client, tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from supabase import Client, ClientOptions, create_client

from local_stack import Stack
from tests.conftest import clean_stack, stack

__all__ = ["clean_stack", "stack"]

TABLE = """
drop table if exists public.stack_probe cascade;
create table public.stack_probe (
  id bigint primary key,
  happened_at timestamptz,
  amount numeric,
  ratio double precision,
  note text default 'by default'
);
"""

Token = Callable[[str], str]


@pytest.fixture(scope="module")
def probe(stack: Stack) -> Iterator[Stack]:
    """The stack with a table `stack_probe` that REST sees."""
    stack.query(TABLE)
    reload_schema(stack)
    yield stack
    stack.query("drop table public.stack_probe cascade")
    reload_schema(stack)


def reload_schema(stack: Stack) -> None:
    """Make REST see what is new in the database, before this returns."""
    response = httpx.post(f"{stack.url}/_system/reload", headers={"apikey": stack.service_key})
    assert response.status_code == 200


@pytest.fixture
def service(stack: Stack) -> Iterator[httpx.Client]:
    """An HTTP client with the service's key."""
    with client(stack, stack.service_key) as opened:
        yield opened


@pytest.fixture
def anon(stack: Stack) -> Iterator[httpx.Client]:
    """An HTTP client with the publishable key."""
    with client(stack, stack.key) as opened:
        yield opened


def client(stack: Stack, key: str, token: str | None = None) -> httpx.Client:
    """An HTTP client with a key and, for a signed-in user, a token."""
    headers = {"apikey": key, "authorization": f"Bearer {token or key}"}
    return httpx.Client(base_url=stack.url, headers=headers, timeout=30)


@contextmanager
def sdk(stack: Stack, key: str) -> Iterator[Client]:
    """supabase-py as users have it, with a key."""
    with httpx.Client(timeout=30) as http:
        yield create_client(stack.url, key, ClientOptions(httpx_client=http, auto_refresh_token=False))


@pytest.fixture
def token(stack: Stack) -> Token:
    """Makes the token of a user with a role, signed as the stack's Auth would."""

    def mint(role: str) -> str:
        claims = {"role": role, "sub": "00000000-0000-4000-8000-000000000001", "exp": int(time.time()) + 600}
        head, body = (_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        signature = hmac.new(stack.jwt_secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
        return f"{head}.{body}.{_encoded(signature)}"

    return mint


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
