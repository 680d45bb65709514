"""What goes wrong between the API and the project is an error of ours, so that a person reads a sentence and no 500."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from api.problems import of_error
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
