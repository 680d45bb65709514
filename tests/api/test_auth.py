"""Signing in and out: cookies for browsers, tokens for others, nothing for other sites, and nothing in the log."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator

import httpx
import jwt
import pytest

from api.problems import Problem
from api.session import ACCESS, REFRESH, Sessions
from api.tokens import Verifier
from api.upstream import Upstream
from tests.api.conftest import FORM, Site, make_account, mint, origin, serving, sign_in_by_form

pytestmark = pytest.mark.xdist_group("api")


def test_a_program_gets_tokens_and_uses_them(site: Site) -> None:
    person = site.people["analyst"]
    tokens = site.http.post("/auth/sign-in", json={"email": person.email, "password": person.password}).json()
    assert tokens["token_type"] == "bearer"
    assert not site.http.cookies
    headers = {"authorization": f"Bearer {tokens['access_token']}"}
    assert site.http.get("/auth/me", headers=headers).json()["role"] == "analyst"
    assert site.http.post("/auth/refresh", json={}).json()["remedy"] == "Send `refresh_token` as text."
    again = site.http.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]}).json()
    assert site.http.get("/auth/me", headers={"authorization": f"Bearer {again['access_token']}"}).status_code == 200


def test_a_browser_gets_cookies_that_no_script_reads(site: Site, browser: httpx.Client) -> None:
    answer = sign_in_by_form(site, browser, site.people["analyst"], next="/compare")
    assert (answer.status_code, answer.headers["location"]) == (303, "/compare")
    cookies = answer.headers.get_list("set-cookie")
    assert {cookie.partition("=")[0] for cookie in cookies} == {ACCESS, REFRESH}
    assert all("HttpOnly" in cookie and "SameSite=Lax" in cookie for cookie in cookies)
    assert browser.get("/auth/me").json()["email"] == site.people["analyst"].email
    assert browser.get("/", headers=FORM).status_code == 200


def test_behind_https_the_cookies_are_secure_and_bound_to_the_host(site: Site) -> None:
    person = site.people["analyst"]
    headers = {**origin(site), "x-forwarded-proto": "https"}
    answer = site.http.post("/auth/sign-in", data={"email": person.email, "password": person.password}, headers=headers)
    cookies = answer.headers.get_list("set-cookie")
    assert all(cookie.startswith("__Host-") and "Secure" in cookie for cookie in cookies)
    assert "strict-transport-security" in answer.headers
    site.http.cookies.clear()


@pytest.mark.parametrize("wrong", [("nobody@example.com", "x"), (None, "wrong password")])
def test_a_wrong_sign_in_says_the_same_for_account_and_password(site: Site, wrong: tuple[str | None, str]) -> None:
    email, password = wrong
    body = {"email": email or site.people["other analyst"].email, "password": password}
    answer = site.http.post("/auth/sign-in", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (401, "The e-mail or the password is not right.")


def test_a_browser_sees_the_form_again(site: Site, browser: httpx.Client) -> None:
    answer = browser.post("/auth/sign-in", data={"email": "nobody@example.com", "password": "x"}, headers=origin(site))
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "The e-mail or the password is not right." in answer.text


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_nobody_is_sent_to_another_site(site: Site, browser: httpx.Client, path: str) -> None:
    assert sign_in_by_form(site, browser, site.people["analyst"], next=path).headers["location"] == "/"


ELSEWHERE: tuple[dict[str, str], ...] = (
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://["},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {},
)


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
def test_another_sites_page_cannot_use_the_cookie(site: Site, browser: httpx.Client, headers: dict[str, str]) -> None:
    sign_in_by_form(site, browser, site.people["operator"])
    for method, path in (("POST", "/runs"), ("DELETE", "/files/exports/x.csv"), ("POST", "/auth/sign-out")):
        assert browser.request(method, path, headers=headers, json={}).status_code == 403
    assert browser.get("/auth/me").status_code == 200


def test_another_sites_page_cannot_sign_anybody_in(site: Site, browser: httpx.Client) -> None:
    person = site.people["analyst"]
    body = {"email": person.email, "password": person.password}
    answer = browser.post("/auth/sign-in", data=body, headers={"origin": "https://evil.example"})
    assert (answer.status_code, dict(browser.cookies)) == (403, {})


def test_a_page_without_a_session_leads_to_sign_in_and_back(site: Site, browser: httpx.Client) -> None:
    answer = browser.get("/explore/daily_activity?sort=-posts", headers=FORM)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Fexplore%2Fdaily_activity%3Fsort%3D-posts"


def test_an_expired_cookie_is_renewed_once_for_all_that_a_page_asks(site: Site, browser: httpx.Client) -> None:
    person = make_account(site.stack, "analyst")
    sign_in_by_form(site, browser, person)
    old = mint(site.stack, etl_role="analyst", expires_in=-600).token
    refresh = browser.cookies[REFRESH]
    fresh = [
        httpx.get(f"{site.http.base_url}/auth/me", cookies={ACCESS: old, REFRESH: refresh}, timeout=30)
        for _ in range(3)
    ]
    assert [answer.status_code for answer in fresh] == [200] * 3
    renewed = {answer.cookies[REFRESH] for answer in fresh}
    assert len(renewed) == 1
    assert renewed != {refresh}


def test_signing_out_ends_the_session(site: Site, browser: httpx.Client) -> None:
    sign_in_by_form(site, browser, make_account(site.stack, "analyst"))
    refresh = browser.cookies[REFRESH]
    answer = browser.post("/auth/sign-out", headers=origin(site))
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert not browser.cookies
    assert site.http.post("/auth/refresh", json={"refresh_token": refresh}).status_code == 401


def test_long_tokens_are_spread_over_cookies(site: Site, browser: httpx.Client) -> None:
    long = mint(site.stack, etl_role="analyst", user_metadata={"about": "x" * 9_000})
    parts = [long.token[at : at + 3_800] for at in range(0, len(long.token), 3_800)]
    cookies = {f"{ACCESS}{f'.{n}' if n else ''}": part for n, part in enumerate(parts)}
    assert len(parts) > 2
    assert httpx.get(f"{site.http.base_url}/auth/me", cookies=cookies).json()["id"] == long.id


def test_tries_are_limited_by_account(site: Site) -> None:
    limited = site.settings.model_copy(update={"api_sign_in_rate": "3/minute"})
    with serving(limited) as http:
        body = {"email": "somebody@example.com", "password": "wrong"}
        answers = [http.post("/auth/sign-in", json=body) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert http.post("/auth/sign-in", json={**body, "email": "other@example.com"}).status_code == 401


def test_clocks_may_differ_a_little(site: Site) -> None:
    just_over = mint(site.stack, etl_role="analyst", expires_in=-30)
    assert site.http.get("/auth/me", headers=just_over.headers).status_code == 200


@pytest.mark.parametrize("token", ["x", "a.b.c", "Bearer", "e30.e30."])
def test_junk_is_no_token(site: Site, token: str) -> None:
    answer = site.http.get("/auth/me", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("about", ["operator", ["operator"], None], ids=str)
def test_a_token_whose_metadata_is_no_object_has_no_role(site: Site, about: object) -> None:
    person = mint(site.stack, app_metadata=about)
    assert site.http.get("/runs", headers=person.headers).status_code == 403


def test_an_unsigned_token_is_refused(site: Site) -> None:
    claims = {"sub": "x", "aud": "authenticated", "role": "authenticated", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, "", "none")
    assert site.http.get("/auth/me", headers={"authorization": f"Bearer {token}"}).status_code == 401


class Auth:
    """An Auth whose clock differs from this machine's, at the transport."""

    def __init__(self, site: Site, seconds: float) -> None:
        self.site, self.seconds = site, seconds

    def __call__(self, request: httpx.Request) -> httpx.Response:
        now = int(time.time() + self.seconds)
        token = mint(self.site.stack, etl_role="analyst", iat=now, exp=now + 3_600).token
        return httpx.Response(200, json={"access_token": token, "refresh_token": "r", "expires_in": 3_600})

    def sessions(self) -> Sessions:
        upstream = Upstream(self.site.settings, transport=httpx.MockTransport(self))
        return Sessions(upstream, Verifier(self.site.settings, upstream))


@pytest.mark.parametrize(
    ("seconds", "says"), [(-7_200, "clock is ahead of"), (180, "clock is behind")], ids=["ahead", "behind"]
)
def test_a_server_with_a_wrong_clock_says_so(site: Site, seconds: float, says: str) -> None:
    """Whoever signed in was sent back to the form at once, or read that the token was of another project."""
    sessions = Auth(site, seconds).sessions()
    asks: list[Callable[[], object]] = [lambda: sessions.sign_in("ana@example.com", "x"), lambda: sessions.refresh("r")]
    for ask in asks:
        with pytest.raises(Problem, match=says) as caught:
            ask()
        assert (caught.value.status, caught.value.remedy[:12]) == (503, "The operator")


def test_a_page_behind_a_wrong_clock_is_no_form_to_sign_in_again(site: Site, browser: httpx.Client) -> None:
    browser.cookies.set(ACCESS, mint(site.stack, etl_role="analyst", iat=int(time.time()) + 300).token)
    answer = browser.get("/", headers=FORM)
    assert answer.status_code == 503
    assert "clock is behind" in answer.text


@pytest.mark.parametrize("seconds", [-3_000, 30])
def test_clocks_that_differ_by_less_than_a_token_lives_are_fine(site: Site, seconds: float) -> None:
    assert Auth(site, seconds).sessions().sign_in("ana@example.com", "x").refresh_token == "r"


def test_no_line_of_log_holds_a_person_or_a_token(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    person = site.people["operator"]
    with caplog.at_level(logging.DEBUG, logger="api"), caplog.at_level(logging.INFO):
        site.http.post("/auth/sign-in", json={"email": person.email, "password": person.password})
        site.get(f"/users?search={person.email}", "operator", headers={"x-request-id": "my-own-request-id"})
        site.get("/auth/me", "expired")
        site.http.get(f"/nowhere/{person.email}")
    assert "my-own-request-id" in caplog.text
    assert person.email not in caplog.text
    assert person.password not in caplog.text
    assert not re.search(r"eyJ[A-Za-z0-9_-]{8,}", caplog.text)


def test_other_sites_scripts_are_kept_out_unless_named(site: Site) -> None:
    ask = {"origin": "https://dash.example", "access-control-request-method": "GET"}
    assert "access-control-allow-origin" not in site.http.options("/reports", headers=ask).headers
    named = site.settings.model_copy(update={"api_origins": "https://dash.example, https://other.example"})
    with serving(named) as http:
        answer = http.options("/reports", headers=ask)
        assert answer.headers["access-control-allow-origin"] == "https://dash.example"
        assert "access-control-allow-credentials" not in answer.headers
        stranger = http.options("/reports", headers={**ask, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers


def test_every_answer_has_the_security_headers(site: Site) -> None:
    for path in ("/sign-in", "/reports", "/nowhere", "/static/site.css", "/health/live"):
        headers = site.http.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-request-id"]


@pytest.mark.parametrize("path", ["/auth/sign-in", "/runs", "/files"])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(site: Site, path: str) -> None:
    kind = "multipart/form-data; boundary=x" if path == "/files" else "application/json"
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.csv"\r\n\r\n' if path == "/files" else b""
    pieces = 11 * 1_024 if path == "/files" else 100
    headers = {"content-type": kind, **site.people["operator"].headers}
    answer = site.http.post(path, content=head + b"x" * pieces * 1_024, headers=headers)
    assert answer.status_code == 413

    def endless() -> Iterator[bytes]:
        yield head
        for _ in range(2 * pieces):
            yield b"x" * 1_024

    answer = site.http.post(path, content=endless(), headers=headers)
    assert answer.status_code == 413
    assert "larger than" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path", ["/health/live", "/reports/daily_activity?format=csv", "/reports/daily_activity?format=parquet", "/"]
)
def test_head_says_what_get_would_without_the_body(site: Site, path: str) -> None:
    """A monitor asks so, and so does DuckDB before it reads a Parquet file by its address."""
    head = site.http.head(path, headers=site.people["analyst"].headers)
    got = site.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag"):
        assert head.headers.get(name) == got.headers.get(name)


def test_head_of_a_runs_events_does_not_wait_for_them(site: Site) -> None:
    answer = site.http.head(f"/runs/{site.runs[0]}/events", headers=site.people["analyst"].headers, timeout=5)
    assert (answer.status_code, answer.content) == (200, b"")
