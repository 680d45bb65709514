"""The block that serves the reports site, as it stands."""

from __future__ import annotations

from pathlib import Path

import httpx
import psutil
import pytest

from local_stack import Stack
from local_stack.state import free_port
from tests.api.conftest import make_account
from tests.handbook.blocks import answers, block, environment, running, with_own


@pytest.mark.slow
def test_the_site_runs_as_the_page_says_and_has_no_service_key(stack: Stack, tmp_path: Path) -> None:
    port = free_port()
    text = with_own(
        block("env -u SUPABASE_SERVICE_KEY"), {"--port 8300": f"--port {port}", "--workers 4": "--workers 2"}
    )
    given = {**stack.env(), "SUPABASE_JWT_SECRET": stack.jwt_secret, "ETL_CACHE_DIR": str(tmp_path / "cache")}
    url, env = f"http://127.0.0.1:{port}", environment(tmp_path, given)
    with running(text, env, tmp_path / "log", until=lambda: answers(f"{url}/health/live")) as group:
        for process in psutil.Process(group).children(recursive=True):
            assert not {"SUPABASE_SERVICE_KEY", "SUPABASE_DB_URL"} & process.environ().keys()
        sign_in_behind_a_proxy(url, stack)
    assert stack.key not in (tmp_path / "log").read_text()


def sign_in_behind_a_proxy(url: str, stack: Stack) -> None:
    """As a browser does that the proxy has reached over TLS: its cookies are Secure, and the overview is its page."""
    ana = make_account(stack, "analyst")
    proxied = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7", "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=url, headers={**proxied, "Accept": "text/html"}, timeout=30) as browser:
        assert browser.get("/").headers["location"].startswith("/sign-in")
        assert "password" in browser.get("/sign-in").text
        signed_in = browser.post("/auth/sign-in", data={"email": ana.email, "password": ana.password})
        assert signed_in.status_code == 303, signed_in.text
        cookies = signed_in.headers.get_list("set-cookie")
        assert cookies
        assert all("Secure" in cookie and cookie.startswith("__Host-") for cookie in cookies)
        browser.headers["Cookie"] = "; ".join(cookie.partition(";")[0] for cookie in cookies)
        assert ana.email in browser.get("/").text
