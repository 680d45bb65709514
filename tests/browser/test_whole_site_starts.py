"""Runs that operators start through the API: the real server and worker, followed to the end, linked to their pages."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from adbc_driver_postgresql import dbapi

from api.app import READY_SECONDS
from tests.api.conftest import Person, make_account, serving, settings_for
from tests.browser.conftest import Product

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.xdist_group("browser"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def api(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The API beside Prefect's server and its worker."""
    more = {
        "prefect_api_url": f"{product.prefect.url}/api",
        "prefect_api_auth_string": product.prefect.env.get("PREFECT_API_AUTH_STRING", ""),
    }
    with serving(settings_for(product.stack, tmp_path_factory.mktemp("api"), **more)) as http:
        yield http


@pytest.fixture(scope="module")
def operator(product: Product) -> Person:
    return make_account(product.stack, "operator")


def start(api: httpx.Client, person: Person, key: str | None, deployment: str, **options: Any) -> httpx.Response:
    headers = {**person.headers, **({"Idempotency-Key": key} if key else {})}
    return api.post("/runs", headers=headers, json={"deployment": deployment, "options": options})


def stream(api: httpx.Client, person: Person, run: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a run as they come, until the stream ends by itself."""
    with api.stream("GET", f"/runs/{run}/events", headers=person.headers, timeout=180) as answer:
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def events(api: httpx.Client, person: Person, run: str) -> list[tuple[str, dict[str, Any]]]:
    """All events of a run."""
    return list(stream(api, person, run))


@contextmanager
def locked(product: Product, table: str, how: str) -> Iterator[Callable[[], None]]:
    """Another session holds a lock on a table until the function that is yielded is called."""
    with dbapi.connect(product.stack.db_url) as session, session.cursor() as cursor:
        cursor.execute(f"lock table public.{table} in {how} mode")
        yield session.rollback


def seen_at_two_stages(api: httpx.Client, person: Person, product: Product) -> tuple[str, list[dict[str, Any]]]:
    """A night that is started once, and its events. It is held up at its first stage and where it first writes."""
    with (
        locked(product, "posts", "access exclusive") as release_reading,
        locked(product, "clean_posts", "share") as release_writing,
    ):
        first = start(api, person, "night-1", "nightly", as_of="now", dry_run=False, full_refresh=True)
        assert first.status_code == 201, first.text
        run, seen = first.json()["id"], []
        again = start(api, person, "night-1", "nightly", as_of="now", dry_run=False, full_refresh=True)
        assert (again.status_code, again.json()["id"], again.json()["is_new"]) == (200, run, False)
        other = start(api, person, "night-1", "nightly", as_of="midnight", dry_run=False, full_refresh=True)
        assert other.status_code == 409
        for name, facts in stream(api, person, run):
            seen.append({"event": name, **facts})
            if facts["stage"]:
                release_reading()
            if str(facts["stage"]).startswith(("compare", "verify", "load")):
                release_writing()
    return run, seen


def test_a_nightly_is_started_once_a_key_followed_and_linked(
    api: httpx.Client, operator: Person, product: Product
) -> None:
    run, seen = seen_at_two_stages(api, operator, product)
    assert [facts["event"] for facts in seen].count("end") == 1
    assert (seen[-1]["event"], seen[-1]["status"]) == ("end", "committed")
    assert len({facts["stage"] for facts in seen if facts["stage"]}) > 1
    row = api.get(f"/runs/{run}", headers=operator.headers).json()
    assert row["flow_run_id"] == run
    assert row["page"] == f"{product.prefect.url}/runs/flow-run/{run}"
    assert api.get(f"/runs/{row['run_id']}", headers=operator.headers).json() == row
    product.ended(run)  # the ledger knew of the commit before Prefect knew of the end
    health = api.get("/health/ready").json()
    assert (health["status"], health["prefect"]) == ("ok", "ok")
    assert 0 <= health["last_commit_age_seconds"] < 600
    dry = start(api, operator, None, "nightly").json()["id"]
    assert events(api, operator, dry)[-1][1]["status"] == "completed"
    time.sleep(READY_SECONDS)  # so long an answer is shared
    assert api.get("/health/ready").json()["last_commit_at"] == health["last_commit_at"], "a dry run commits nothing"


def test_an_export_has_no_row_in_the_ledger_and_is_followed_all_the_same(api: httpx.Client, operator: Person) -> None:
    before = set(exports(api, operator))
    run = start(api, operator, None, "export", report="daily_activity", format="csv", dry_run=False).json()["id"]
    assert events(api, operator, run)[-1][1]["status"] == "completed"
    (made,) = set(exports(api, operator)) - before
    assert "/daily_activity-" in made
    assert made.endswith(".csv")


def exports(api: httpx.Client, person: Person) -> Iterator[str]:
    """The paths of all exported files."""
    for folder in api.get("/files", params={"prefix": "exports"}, headers=person.headers).json()["items"]:
        below = api.get("/files", params={"prefix": folder["path"], "limit": 100}, headers=person.headers)
        yield from (item["path"] for item in below.json()["items"])


WRONG = {
    "an unknown deployment": {"deployment": "retention", "options": {}},
    "an unknown field": {"deployment": "nightly", "options": {"as_off": "now"}},
    "an instant in the future": {"deployment": "nightly", "options": {"instant": "2999-01-01T00:00Z"}},
    "a column of another report": {"deployment": "export", "options": {"report": "data_quality", "columns": ["posts"]}},
    "days in disorder": {"deployment": "backfill", "options": {"first_day": "2026-02-02", "last_day": "2026-02-01"}},
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_the_form_refuses_the_api_refuses(api: httpx.Client, operator: Person, what: str) -> None:
    answer = api.post("/runs", headers=operator.headers, json=WRONG[what])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"]


def test_a_stopped_server_is_reported_by_its_name(product: Product, operator: Person, tmp_path: Path) -> None:
    more = {"prefect_api_url": "http://127.0.0.1:9/api"}
    with serving(settings_for(product.stack, tmp_path, **more)) as http:
        health = http.get("/health/ready")
        assert (health.status_code, health.json()["prefect"], health.json()["database"]) == (503, "fails", "ok")
        answer = start(http, operator, None, "nightly", as_of="now")
        assert (answer.status_code, "Prefect" in answer.json()["detail"]) == (503, True)
