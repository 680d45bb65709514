"""Every route and every kind of caller: what each gets, and that row-level security agrees."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.api.conftest import Site, serving

pytestmark = pytest.mark.xdist_group("api")

CALLERS = ("nobody", "customer", "analyst", "operator", "expired", "stranger", "foreign", "service")
# Statuses by caller, in the order of CALLERS.
OPEN = (200, 200, 200, 200, 200, 200, 200, 200)
SIGNED_IN = (401, 200, 200, 200, 401, 401, 401, 401)
READERS = (401, 403, 200, 200, 401, 401, 401, 401)
OPERATORS = (401, 403, 403, 200, 401, 401, 401, 401)
ROUTES = {
    "/health/live": OPEN,
    "/health/ready": OPEN,
    "/openapi.json": OPEN,
    "/auth/me": SIGNED_IN,
    "/reports": READERS,
    "/reports/daily_activity": READERS,
    "/reports/daily_activity?format=csv": READERS,
    "/reports/author_activity?format=parquet": READERS,
    "/dictionary": READERS,
    "/runs": READERS,
    "/runs/{run}": READERS,
    "/runs/{run}/events": READERS,
    "/files": READERS,
    "/files/latest.json": READERS,
    "/users": OPERATORS,
    "/users/{user}": OPERATORS,
    "/users/{user}/posts": OPERATORS,
    "/stats/users": OPERATORS,
}


def path_of(site: Site, route: str) -> str:
    user = site.stack.query("select user_id from public.clean_posts order by created_at, id limit 1")
    return route.format(run=site.runs[1], user=user)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("who", CALLERS)
def test_who_gets_what(site: Site, route: str, who: str) -> None:
    answer = site.get(path_of(site, route), None if who == "nobody" else who)
    assert answer.status_code == ROUTES[route][CALLERS.index(who)]
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert answer.json()["remedy"]


def test_the_last_commit_is_known_where_prefect_knows_of_none(site: Site) -> None:
    """Nights of cron, or a server of Prefect's on a new database. Nobody who is not signed in may ask the ledger."""
    wanted = site.stack.query("select max(finished_at) from public.etl_runs where status = 'committed'")
    with serving(site.settings) as http:
        assert http.get("/runs", headers=site.people["analyst"].headers).json()["items"]
        ready = http.get("/health/ready").json()
    assert (ready["status"], ready["prefect"]) == ("ok", "not set")
    assert datetime.fromisoformat(ready["last_commit_at"]) == datetime.fromisoformat(wanted)
    assert ready["last_commit_age_seconds"] > 0
    with serving(site.settings) as http:  # another process, or the same one started again: nobody has asked it yet
        assert http.get("/health/ready").json()["last_commit_at"] == ready["last_commit_at"]


class _Refusing(BaseHTTPRequestHandler):
    """Prefect's server to who has not its password, which its /health does not ask for."""

    def do_GET(self) -> None:
        self._answer(200 if self.path == "/api/health" else 401)

    def do_POST(self) -> None:
        self._answer(401)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, *_: object) -> None: ...


def test_a_prefect_server_that_refuses_is_the_part_that_fails(site: Site) -> None:
    refusing = HTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=refusing.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{refusing.server_port}/api"
    try:
        with serving(site.settings.model_copy(update={"prefect_api_url": url})) as http:
            answer = http.get("/health/ready")
    finally:
        refusing.shutdown()
        refusing.server_close()
    words = {name: answer.json()[name] for name in ("status", "database", "storage", "auth", "prefect")}
    ok = dict.fromkeys(("database", "storage", "auth"), "ok")
    assert (answer.status_code, words) == (503, {"status": "fails", **ok, "prefect": "fails"})


def test_it_is_alive_while_every_thread_waits_for_the_project(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.app.THREADS", 1)
    with socket.create_server(("127.0.0.1", 0)) as busy:
        url = f"http://127.0.0.1:{busy.getsockname()[1]}"
        with serving(site.settings.model_copy(update={"supabase_url": url})) as http, ThreadPoolExecutor(1) as pool:
            asked = pool.submit(http.get, "/health/ready")
            question, _ = busy.accept()
            assert http.get("/health/live", timeout=5).json() == {"status": "ok"}
            busy.close()
            question.close()
            assert asked.result().status_code == 503


WRITES = {
    ("POST", "/runs"): OPERATORS,
    ("POST", "/files"): READERS,
    ("DELETE", "/files/exports/2026-01-01/x.csv"): OPERATORS,
}


@pytest.mark.parametrize("route", WRITES, ids=" ".join)
@pytest.mark.parametrize("who", ["nobody", "customer", "analyst", "expired", "stranger", "foreign", "service"])
def test_who_may_not_change_anything(site: Site, route: tuple[str, str], who: str) -> None:
    method, path = route
    wanted = WRITES[route][CALLERS.index(who)]
    headers = site.people[who].headers if who != "nobody" else {}
    answer = site.http.request(method, path, headers=headers, json={})
    assert answer.status_code == (422 if wanted == 200 else wanted)
