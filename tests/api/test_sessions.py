"""Sessions while the project refuses them, or does not answer, and behind a proxy with a password of its own."""

from __future__ import annotations

import secrets

import httpx
import pytest
from pydantic import SecretStr

from api.session import ACCESS, REFRESH
from local_stack import rekey, up
from tests.api.conftest import FORM, Site, make_account, mint, origin, serving, sign_in_by_form

pytestmark = pytest.mark.xdist_group("api")


def test_a_session_that_the_project_refuses_leads_to_the_form(site: Site, browser: httpx.Client) -> None:
    """After a key was revoked this site still took its tokens: the form sent back to the page, and so on."""
    sign_in_by_form(site, browser, site.people["analyst"])
    browser.follow_redirects = True
    rekey(site.stack.home, jwt_secret=secrets.token_hex(24))
    try:
        page = browser.get("/history", headers=FORM)
    finally:
        rekey(site.stack.home, jwt_secret=site.stack.jwt_secret)
    assert (page.status_code, page.url.path) == (200, "/sign-in")
    assert 'name="next" value="/history"' in page.text
    assert not browser.cookies


def test_who_has_signed_out_is_not_signed_in_again_by_an_earlier_request_of_another_tab(
    site: Site, browser: httpx.Client
) -> None:
    sign_in_by_form(site, browser, make_account(site.stack, "analyst"))
    expired = mint(site.stack, etl_role="analyst", expires_in=-600).token
    earlier = {ACCESS: expired, REFRESH: browser.cookies[REFRESH]}
    browser.cookies.set(ACCESS, expired, domain=browser.base_url.host)
    assert httpx.get(f"{site.http.base_url}/auth/me", cookies=earlier).status_code == 200
    assert browser.post("/auth/sign-out", headers=origin(site)).status_code == 303
    answer = httpx.get(f"{site.http.base_url}/auth/me", cookies=earlier)
    assert (answer.status_code, dict(answer.cookies)) == (401, {})


def test_a_password_that_a_proxy_asks_for_is_none_of_this_sites(site: Site, browser: httpx.Client) -> None:
    """A browser sends it with each request, and the page that asks to sign in led to itself."""
    browser.headers["authorization"] = "Basic bWU6aHVzaA=="
    browser.follow_redirects = True
    assert 'name="password"' in browser.get("/", headers=FORM).text
    sign_in_by_form(site, browser, site.people["analyst"])
    assert browser.get("/auth/me").status_code == 200
    browser.cookies.clear()
    assert browser.get("/auth/me").json()["detail"] == "Authorization takes `Bearer` and a token."


def test_while_auth_is_away_a_token_counts_to_its_end_and_one_can_sign_out(site: Site, browser: httpx.Client) -> None:
    sign_in_by_form(site, browser, site.people["other analyst"])
    soon = mint(site.stack, etl_role="analyst", expires_in=40)
    site.stack.kill_api()
    try:
        cookies = {ACCESS: soon.token, REFRESH: "r"}
        assert httpx.get(f"{site.http.base_url}/auth/me", cookies=cookies, timeout=30).json()["id"] == soon.id
        answer = browser.post("/auth/sign-out", headers=origin(site))
    finally:
        up(site.stack.home, empty=True)
    assert (answer.status_code, dict(browser.cookies)) == (503, {})
    assert "This browser is signed out, but the project did not answer" in answer.text


def test_a_key_that_the_project_refuses_is_no_wrong_password_and_ends_no_session(
    site: Site, browser: httpx.Client
) -> None:
    person = site.people["analyst"]
    sign_in_by_form(site, browser, person)
    settings = site.settings.model_copy(update={"supabase_key": SecretStr("sb_publishable_of_last_year")})
    with serving(settings) as http:
        answer = http.post("/auth/sign-in", json={"email": person.email, "password": person.password})
        page = httpx.get(f"{http.base_url}/history", headers=FORM, cookies=browser.cookies)
        out = http.post("/auth/sign-out", headers=person.headers)
        own = {**FORM, "origin": str(http.base_url).rstrip("/")}
        left = httpx.post(f"{http.base_url}/auth/sign-out", headers=own, cookies=browser.cookies)
    assert (answer.status_code, answer.json()["detail"][:45]) == (503, "The project does not take this site's SUPABAS")
    assert (page.status_code, page.headers.get_list("set-cookie")) == (503, [])
    assert "The project does not take this site&#39;s SUPABASE_KEY" in page.text
    assert (out.status_code, out.json()["detail"][:45]) == (503, answer.json()["detail"][:45])
    assert (left.status_code, dict(left.cookies)) == (503, {})
    assert "signed out, but the project still holds the session. The project does not take this" in left.text
    assert "Max-Age=0" in left.headers["set-cookie"]


@pytest.mark.parametrize("content", [b"{", b"[" * 60_000, b"\xff"], ids=["open", "deep", "no text"])
def test_a_body_that_is_no_json_is_said_to_be_so(site: Site, content: bytes) -> None:
    answer = site.http.post("/auth/sign-in", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (422, "The body is no JSON.")


def test_a_store_of_tries_that_does_not_answer_is_named(site: Site) -> None:
    with serving(site.settings.model_copy(update={"api_limits_store": "redis://127.0.0.1:9"})) as http:
        answer = http.post("/auth/sign-in", json={"email": "somebody@example.com", "password": "wrong"})
    assert (answer.status_code, answer.json()["remedy"]) == (503, "The operator looks at ETL_API_LIMITS_STORE.")
