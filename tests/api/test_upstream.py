"""What goes wrong between the API and the project is an error of ours, so that a person reads a sentence and no 500."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx
import jwt
import pytest
from pydantic import SecretStr

from api.app import create_app
from api.problems import Problem, of_error
from api.session import Sessions
from api.tokens import Verifier
from api.upstream import Upstream
from tasks.errors import ServiceUnavailable
from tasks.settings import Settings

SETTINGS = Settings(_env_file=None, supabase_url="https://abcdefghijklmnopqrst.supabase.co", supabase_key="sb_x")


def no_route(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route", request=request)


def cut_short(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("connection reset", request=request)


def half_a_list(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b'[{"run_id": "20')


def a_page_in_latin_1(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content="Accès refusé".encode("latin-1"))


def a_sign_in_page(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, html="<h1>Sign in</h1>")


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (no_route, r"The connection to abcdefghijklmnopqrst\.supabase\.co failed \(ConnectError\)"),
        (cut_short, r"failed \(ReadError\)"),
        (a_page_in_latin_1, "cut short or is not JSON"),
        (half_a_list, "cut short or is not JSON"),
        (a_sign_in_page, "an HTML page instead of data"),
    ],
)
@pytest.mark.parametrize("ask", ["get", "call"])
def test_a_failing_project_is_an_error_of_ours(
    handler: Callable[[httpx.Request], httpx.Response], says: str, ask: str
) -> None:
    upstream = Upstream(SETTINGS, transport=httpx.MockTransport(handler))
    with pytest.raises(ServiceUnavailable, match=says) as caught:
        upstream.get("/rest/v1/nightly_runs", "token") if ask == "get" else upstream.call("etl_stats", "token", {})
    assert of_error(caught.value).status == 503


def test_our_tables_are_asked_for_where_the_project_exposes_another_schema_first() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        profile = request.headers.get("accept-profile" if request.method == "GET" else "content-profile", "api")
        return httpx.Response(200, json=[1]) if profile == "public" else httpx.Response(404, json={"code": "PGRST205"})

    upstream = Upstream(SETTINGS, transport=httpx.MockTransport(answer))
    assert upstream.get("/rest/v1/nightly_runs", "token") == [1]
    assert upstream.call("nightly_users", "token", {}) == [1]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx.Response(401, json={"message": "Invalid API key"}), 503),
        (httpx.Response(401, json={"code": "InvalidJWT", "message": "jwt expired"}), 401),
        (httpx.Response(400, json={"statusCode": "403", "error": "no", "message": '"exp" claim timestamp'}), 401),
        (httpx.Response(400, json={"statusCode": "404", "error": "not_found", "message": "Object not found"}), 404),
    ],
)
def test_a_key_or_token_that_is_refused_is_no_missing_file(answer: httpx.Response, status: int, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"supabase_jwt_secret": SecretStr("s" * 40), "cache_dir": tmp_path})
    app = create_app(settings)
    app.state.upstream = Upstream(settings, transport=httpx.MockTransport(lambda request: answer))
    claims = {"role": "authenticated", "aud": "authenticated", "sub": "x", "exp": int(time.time()) + 600}
    token = jwt.encode({**claims, "app_metadata": {"etl_role": "analyst"}}, "s" * 40, "HS256")

    async def link() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as http:
            return await http.get("/files/exports/x.csv", headers={"Authorization": f"Bearer {token}"})

    assert anyio.run(link).status_code == status


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("captcha_failed", 503, "asks for a CAPTCHA"),
        ("email_provider_disabled", 503, "lets nobody sign in"),
        ("email_not_confirmed", 401, "is not confirmed yet"),
        ("invalid_credentials", 401, "The e-mail or the password is not right"),
        ("user_banned", 401, "The e-mail or the password is not right"),  # said before the password is looked at
    ],
)
def test_what_is_wrong_with_nobodys_password_is_not_laid_to_it(code: str, status: int, says: str) -> None:
    answered = 422 if "disabled" in code else 400
    body = {"code": answered, "error_code": code, "msg": "as hosted Auth says it"}
    transport = httpx.MockTransport(lambda request: httpx.Response(answered, json=body))
    upstream = Upstream(SETTINGS, transport=transport)
    with pytest.raises(Problem, match=says) as caught:
        Sessions(upstream, Verifier(SETTINGS, upstream)).sign_in("ana@example.com", "x")
    assert caught.value.status == status
    assert caught.value.remedy


@pytest.mark.parametrize(("headers", "seconds"), [({}, "60"), ({"retry-after": "17"}, "17")], ids=["auth", "edge"])
def test_when_too_many_have_signed_in_the_form_says_how_long_to_wait(
    headers: dict[str, str], seconds: str, tmp_path: Path
) -> None:
    """It said that the project did not answer, and to try again in a moment, which took another of the sign-ins."""
    body = {"code": 429, "error_code": "over_request_rate_limit", "msg": "Request rate limit reached"}
    settings = SETTINGS.model_copy(update={"cache_dir": tmp_path})
    app = create_app(settings)
    upstream = Upstream(
        settings, transport=httpx.MockTransport(lambda request: httpx.Response(429, json=body, headers=headers))
    )
    app.state.sessions = Sessions(upstream, Verifier(settings, upstream))

    async def sign_in() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as http:
            return await http.post("/auth/sign-in", json={"email": "ana@example.com", "password": "x"})

    answer = anyio.run(sign_in)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, seconds)
    assert f"Try again in {seconds} seconds" in answer.json()["remedy"]


@pytest.mark.parametrize(
    "key", [jwt.encode({"role": "anon"}, "s" * 40, "HS256"), "sb_publishable_x"], ids=["jwt", "sb"]
)
def test_the_site_is_ready_with_either_kind_of_key(key: str, tmp_path: Path) -> None:
    """Of the older kind hosted Storage asks for a token too; of the newer one the gateway makes it."""
    settings = SETTINGS.model_copy(update={"supabase_key": SecretStr(key), "cache_dir": tmp_path})

    def hosted(request: httpx.Request) -> httpx.Response:
        by_key = request.headers["apikey"].startswith("sb_")
        if by_key or request.headers.get("authorization") == f"Bearer {key}" or "/storage/" not in request.url.path:
            return httpx.Response(200, json=[])
        message = "headers must have required property 'authorization'"
        return httpx.Response(400, json={"statusCode": "400", "error": "Error", "message": message})

    app = create_app(settings)
    app.state.upstream = Upstream(settings, transport=httpx.MockTransport(hosted))

    async def ready() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as http:
            return await http.get("/health/ready")

    assert anyio.run(ready).json()["storage"] == "ok"


def test_behind_a_custom_domain_the_issuer_to_set_is_named() -> None:
    """It stays the project's own address: whoever signed in read that the token was another project's."""
    issuer = "https://abcdefghijklmnopqrst.supabase.co/auth/v1"
    claims = {"iss": issuer, "role": "authenticated", "aud": "authenticated", "sub": "x", "exp": int(time.time()) + 600}
    answer = {"access_token": jwt.encode(claims, "s" * 40, "HS256"), "refresh_token": "r", "expires_in": 600}
    custom = {"supabase_url": "https://api.example.com", "supabase_jwt_secret": SecretStr("s" * 40)}
    settings = SETTINGS.model_copy(update=custom)
    upstream = Upstream(settings, transport=httpx.MockTransport(lambda request: httpx.Response(200, json=answer)))
    with pytest.raises(Problem) as caught:
        Sessions(upstream, Verifier(settings, upstream)).sign_in("ana@example.com", "x")
    assert (caught.value.status, caught.value.remedy) == (503, f"The operator sets ETL_API_ISSUER={issuer}")
    named = settings.model_copy(update={"api_issuer": issuer})
    assert Sessions(upstream, Verifier(named, upstream)).sign_in("ana@example.com", "x").refresh_token == "r"
