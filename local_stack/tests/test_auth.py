"""Who signs in on the local stack may read what he may read on the hosted platform (local_stack/lite/claims.mjs)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from storage3.exceptions import StorageApiError
from supabase import Client

from local_stack import Stack
from local_stack.tests.conftest import client, sdk
from tests.sink.kit import Night, empty, settings_for, work

pytestmark = pytest.mark.xdist_group("stack")

FILE = "stack-auth/one.json"
README = Path(__file__).parents[2] / "README.md"


@dataclass(frozen=True)
class Account:
    """Someone with a password."""

    email: str
    password: str

    @property
    def credentials(self) -> Any:
        return {"email": self.email, "password": self.password}


@pytest.fixture(scope="module")
def filled(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a row of statistics and a file in the bucket."""
    empty(stack)
    work(settings_for(stack, "rest", tmp_path_factory.mktemp("run")), Night(statistics={"total_users": 7}))
    with sdk(stack, stack.service_key) as service:
        service.storage.from_("reports").upload(FILE, b"{}", {"upsert": "true"})
        yield stack
        service.storage.from_("reports").remove([FILE])
    empty(stack)


@pytest.fixture
def public(filled: Stack) -> Iterator[Client]:
    """supabase-py with the public key; nobody has signed in."""
    with sdk(filled, filled.key) as opened:
        yield opened


def sign_up(public: Client, **metadata: object) -> Account:
    """A new account; `metadata` is what its owner says of himself."""
    account = Account(f"{secrets.token_hex(6)}@example.com", secrets.token_hex(12))
    wanted: Any = {**account.credentials, "options": {"data": metadata}}
    public.auth.sign_up(wanted)
    return account


def make_analyst(stack: Stack, account: Account) -> None:
    """What an operator runs, by the README."""
    (statement,) = (block for block in README.read_text().split("```") if "auth.users" in block)
    stack.query(statement.removeprefix("sql").replace("ana@example.com", account.email))


def claims(stack: Stack, token: str) -> dict[str, Any]:
    """What a token says, once its signature is seen to be the stack's."""
    return dict(jwt.decode(token, stack.jwt_secret, ["HS256"], audience="authenticated"))


def token_of(public: Client) -> str:
    session = public.auth.get_session()
    assert session
    return session.access_token


def sees(public: Client) -> tuple[list[Any], list[str], bool]:
    """What the client's session gets: statistics, names in the bucket, whether the file."""
    rows = public.table("user_statistics").select("total_users").execute().data
    bucket = public.storage.from_("reports")
    names = [entry["name"] for entry in bucket.list("stack-auth")]
    try:
        return rows, names, bucket.download(FILE) == b"{}"
    except StorageApiError:
        return rows, names, False


EVERYTHING = ([{"total_users": 7}], ["one.json"], True)
NOTHING: tuple[list[Any], list[str], bool] = ([], [], False)


def test_an_analyst_who_signs_in_reads_statistics_and_files(filled: Stack, public: Client) -> None:
    """Stock: the token holds no `app_metadata`, so he sees nothing."""
    account = sign_up(public)
    make_analyst(filled, account)
    public.auth.sign_in_with_password(account.credentials)
    assert claims(filled, token_of(public))["app_metadata"] == {
        "provider": "email",
        "providers": ["email"],
        "etl_role": "analyst",
    }
    assert sees(public) == EVERYTHING


def test_who_was_made_no_analyst_sees_nothing(public: Client) -> None:
    public.auth.sign_in_with_password(sign_up(public).credentials)
    assert sees(public) == NOTHING


def test_a_new_analyst_waits_for_the_next_token_only(filled: Stack, public: Client) -> None:
    account = sign_up(public)
    public.auth.sign_in_with_password(account.credentials)
    make_analyst(filled, account)
    assert sees(public) == NOTHING
    public.auth.refresh_session()
    assert sees(public) == EVERYTHING


def test_nobody_makes_himself_an_analyst(filled: Stack, public: Client) -> None:
    """What people say of themselves is `user_metadata`."""
    account = sign_up(public, etl_role="analyst", app_metadata={"etl_role": "analyst"})
    public.auth.sign_in_with_password(account.credentials)
    public.auth.update_user({"data": {"etl_role": "analyst"}})
    public.auth.refresh_session()
    said = claims(filled, token_of(public))
    assert said["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert said["user_metadata"]["etl_role"] == "analyst"
    assert sees(public) == NOTHING


def test_the_token_of_a_sign_up_has_the_claims(filled: Stack, public: Client) -> None:
    sign_up(public, nickname="Ünï 名")
    said = claims(filled, token_of(public))
    assert said["user_metadata"]["nickname"] == "Ünï 名"
    assert said["app_metadata"]["provider"] == "email"
    assert {"sub", "session_id", "role", "exp", "iat"} <= set(said)


def test_the_token_behind_a_mailed_link_has_the_claims(filled: Stack, public: Client) -> None:
    """It comes in the address that the link leads to, not in a body."""
    account = sign_up(public)
    make_analyst(filled, account)
    with client(filled, filled.key) as http:
        http.post("/auth/v1/recover", json={"email": account.email}).raise_for_status()
        mailed = filled.query("select recovery_token from auth.users where email = :'email'", {"email": account.email})
        led = http.get("/auth/v1/verify", params={"type": "recovery", "token": mailed})
    (token,) = parse_qs(urlsplit(led.headers["location"]).fragment)["access_token"]
    assert claims(filled, token)["app_metadata"]["etl_role"] == "analyst"


def test_the_user_behind_the_token_is_still_known(filled: Stack, public: Client) -> None:
    account = sign_up(public)
    public.auth.sign_in_with_password(account.credentials)
    response = public.auth.get_user()
    assert response
    assert response.user.email == account.email


def test_a_wrong_password_gets_no_token(filled: Stack, public: Client) -> None:
    account = sign_up(public)
    answer = httpx.post(
        f"{filled.url}/auth/v1/token?grant_type=password",
        headers={"apikey": filled.key},
        json={"email": account.email, "password": "another one"},
    )
    assert (answer.status_code, "access_token" in answer.json()) == (400, False)
