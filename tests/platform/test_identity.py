"""Without the service key: a user of the pipeline's own, or a token; refreshed, signed out, explained."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from local_stack import Stack, up
from tasks.doctor import Finding, examine, line, sound
from tasks.doctor.bucket import bucket_is_private
from tasks.errors import AccessError, ConfigurationError
from tasks.platform.functions import RestDatabase
from tasks.platform.http import make_http
from tasks.platform.identity import acting, claims_of, identity_of
from tasks.settings import Settings
from tests.pipeline.identities import HOOK, identity_env, pipeline_user, token

SESSIONS = "select count(*) from auth.sessions s join auth.users u on u.id = s.user_id where u.email = :'email'"


def settings_of(stack: Stack, **more: Any) -> Settings:
    values = {"supabase_url": stack.url, "supabase_key": stack.key, "transport": "rest", "retry_base": 0.02}
    return Settings(_env_file=None, **{**values, **more})


@pytest.fixture
def user(stack: Stack) -> tuple[str, str]:
    return pipeline_user(stack)


@pytest.fixture
def settings(stack: Stack, user: tuple[str, str]) -> Settings:
    return settings_of(stack, email=user[0], password=user[1])


def role_of(settings: Settings) -> str:
    """Who the database sees."""
    with closing(RestDatabase(settings)) as database:
        return str(database.call("etl_identity", p_over="rest", p_sources=[])["role"])


def sessions(stack: Stack, email: str) -> int:
    return int(stack.query(SESSIONS, {"email": email}))


def test_a_signed_in_user_is_etl_and_is_signed_out_at_the_end(stack: Stack, settings: Settings) -> None:
    before = sessions(stack, settings.email)
    with acting(settings):
        assert role_of(settings) == "etl"
        assert sessions(stack, settings.email) == before + 1
        with acting(settings):
            assert role_of(settings) == "etl"
        assert sessions(stack, settings.email) == before + 1, "an inner block ends nothing"
    assert sessions(stack, settings.email) == before


@pytest.mark.parametrize("lives", [3_600, 2_000_000_000_000])  # the other as if `exp` were in milliseconds: a defect
def test_a_token_of_the_owner_is_etl(stack: Stack, lives: int) -> None:
    assert role_of(settings_of(stack, access_token=token(stack, seconds=lives))) == "etl"


def test_the_narrowest_identity_wins(stack: Stack, settings: Settings) -> None:
    both = settings.model_copy(update={"supabase_service_key": settings.supabase_key})
    assert identity_of(both).kind == "signed-in user"
    assert (
        identity_of(settings_of(stack, access_token=token(stack), email="x@example.com", password="y")).kind
        == "access token"
    )


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"seconds": -60}, "expired on"),
        ({"role": "service_role"}, "service_role, not etl"),
        ({"role": "authenticated"}, "authenticated, not etl"),
        ({"nbf": 4_000_000_000}, "HTTP 401"),  # refused by the project, as one of a key that was replaced
    ],
)
def test_a_token_that_will_not_do_is_explained(stack: Stack, claims: dict[str, Any], says: str) -> None:
    settings = settings_of(stack, access_token=token(stack, **claims))
    with pytest.raises((AccessError, ConfigurationError), match=says) as raised:
        role_of(settings)
    assert "docs/keys.md" in str(raised.value)
    assert re.search(r"[Mm]int", str(raised.value)), "it is no user's"
    assert not re.search("SERVICE_KEY|Authentication", str(raised.value)), "nothing of what is not used"
    assert settings.access_token.get_secret_value() not in str(raised.value)


def test_no_token_at_all_is_reported(stack: Stack) -> None:
    with pytest.raises(ConfigurationError, match="not a JWT"):
        role_of(settings_of(stack, access_token="sb_secret_x"))


def test_a_user_without_the_mark_is_reminded_of_hook_and_mark(stack: Stack, user: tuple[str, str]) -> None:
    stack.query("update auth.users set raw_app_meta_data = '{}' where email = :'email'", {"email": user[0]})
    with pytest.raises(ConfigurationError, match="authenticated, not etl") as raised:
        role_of(settings_of(stack, email=user[0], password=user[1]))
    assert "public.etl_access_token" in raised.value.remedy


def test_a_wrong_key_is_not_laid_to_the_user(stack: Stack, user: tuple[str, str]) -> None:
    with pytest.raises(AccessError, match="refused SUPABASE_KEY") as raised:
        role_of(settings_of(stack, email=user[0], password=user[1], supabase_key="sb_publishable_of_another_project"))
    assert "Compare" not in raised.value.remedy


def test_a_wrong_password_is_reported_without_the_address(stack: Stack, user: tuple[str, str]) -> None:
    with pytest.raises(AccessError, match="Auth refused the user of ETL_EMAIL") as raised:
        role_of(settings_of(stack, email=user[0], password="wrong"))
    assert user[0] not in str(raised.value)


def test_the_hook_is_off_until_chosen(stack: Stack, settings: Settings) -> None:
    up(stack.home, empty=True, access_token_hook="")
    try:
        with pytest.raises(ConfigurationError, match="authenticated, not etl"):
            role_of(settings)
    finally:
        up(stack.home, empty=True, access_token_hook=HOOK)
    assert role_of(settings) == "etl"


@pytest.fixture
def short_lived(stack: Stack) -> Iterator[Stack]:
    """Tokens of two seconds."""
    yield up(stack.home, empty=True, jwt_expiry=2)
    up(stack.home, empty=True, jwt_expiry=3600)


def test_a_token_is_refreshed_before_it_expires(short_lived: Stack, user: tuple[str, str]) -> None:
    settings = settings_of(short_lived, email=user[0], password=user[1])
    with acting(settings) as identity:
        seen = set()
        until = time.monotonic() + 5
        while time.monotonic() < until:
            assert role_of(settings) == "etl"
            seen.add(str(identity.bearer()))
            time.sleep(0.2)
    assert len(seen) >= 3
    assert len({claims_of(text)["session_id"] for text in seen}) == 1, "one session, refreshed"


def test_a_session_that_was_ended_is_opened_again(stack: Stack, settings: Settings) -> None:
    """Someone signs the user out everywhere, or the refresh token was used: the password opens a new session."""
    with acting(settings) as identity:
        first = str(identity.bearer())
        stack.query("delete from auth.sessions")
        identity.reject(first)
        assert role_of(settings) == "etl"
        assert claims_of(str(identity.bearer()))["session_id"] != claims_of(first)["session_id"]


@pytest.mark.parametrize("kind", ["signed-in user", "access token"])
def test_the_doctor_finds_a_project_without_the_service_key_sound(
    clean_stack: Stack, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    env = {"SUPABASE_URL": clean_stack.url, "ETL_DATA_DIR": "data", **identity_env(clean_stack, kind)}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    found: list[Finding] = list(examine())
    assert sound(found), [line(f) for f in found if f.level != "ok"]
    (identity, *_) = (f for f in found if f.check == "identity")
    assert "role etl; no more than a run needs" in identity.what


def test_the_doctor_does_not_ask_for_the_secret_key_where_a_user_lacks_a_right(
    stack: Stack, settings: Settings
) -> None:
    stack.query("revoke select on storage.buckets from etl")
    try:
        (found,) = bucket_is_private(settings)
    finally:
        stack.query("grant select on storage.buckets to etl")
    assert found.level == "fail"
    assert "The role etl lacks select on storage.buckets. In the SQL editor: " in found.remedy
    assert not re.search("secret key|SERVICE_KEY", found.remedy)


def test_a_right_to_the_bucket_that_is_missing_is_no_matter_of_keys(stack: Stack) -> None:
    settings = settings_of(stack, access_token=token(stack))
    refusing = httpx.MockTransport(lambda _: httpx.Response(403, json={"error": "Unauthorized", "message": "no"}))
    client = make_http(settings, transport=refusing, identity=identity_of(settings))
    with client as http, pytest.raises(AccessError) as raised:
        http.post(f"{stack.url}/storage/v1/object/reports/a.txt")
    assert raised.value.status == 403
    assert "make migrate" in str(raised.value.remedy)
    assert "SERVICE_KEY" not in str(raised.value.remedy)
