"""A run that is started while Prefect's server is busy: asked for again, and started once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest

import scripts.api
from api import prefect, vendor
from api.app import create_app
from api.prefect import Prefect
from api.problems import Problem
from local_stack import StackError
from local_stack.state import free_port
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]
SETTINGS = Settings(_env_file=None, prefect_api_url="http://127.0.0.1:4200/api")


def server(*statuses: int, started_before: str = "") -> tuple[Prefect, list[dict[str, object]]]:
    """A server that answers the start of a run with each of these in turn, and the bodies that it was sent.

    started_before: the deployment that the key has started already.
    """
    sent: list[dict[str, object]] = []
    left: Iterator[int] = iter(statuses)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"id": "deployment"})
        if request.url.path.endswith("/flow_runs/filter"):
            return httpx.Response(200, json=[{"deployment_id": started_before}] if started_before else [])
        sent.append(json.loads(request.content))
        return httpx.Response(next(left), json={"id": "run"})

    return Prefect(SETTINGS, transport=httpx.MockTransport(answer)), sent


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect, "_PAUSES", (0.0, 0.0, 0.0))


@pytest.mark.parametrize("key", ["a-key", None])
@pytest.mark.parametrize("busy", [503, 429])
def test_a_busy_server_is_asked_again_for_the_same_run(key: str | None, busy: int) -> None:
    asked, sent = server(busy, busy, 201)
    run = asked.start("nightly", {"dry_run": True}, key)
    assert (run.id, run.is_new) == ("run", True)
    assert len(sent) == 3
    assert len({str(body["idempotency_key"]) for body in sent}) == 1
    assert sent[0]["idempotency_key"] is not None
    assert key in (None, sent[0]["idempotency_key"])


def test_a_server_that_stays_busy_is_named() -> None:
    asked, sent = server(503, 503, 503, 503)
    with pytest.raises(Problem, match="Prefect's server answered 503") as caught:
        asked.start("nightly", {}, None)
    assert (caught.value.status, len(sent)) == (503, 4)


@pytest.mark.parametrize(
    ("answer", "says", "names"),
    [
        (
            httpx.Response(200, html="<title>Prefect</title>"),
            "no API of Prefect's",
            "PREFECT_API_URL, which ends in /api",
        ),
        (httpx.Response(401, json={}), "answered 401", "PREFECT_API_AUTH_STRING"),
    ],
)
def test_a_wrong_address_or_password_of_prefects_server_is_named(answer: httpx.Response, says: str, names: str) -> None:
    """Without /api in its address the site answered 500; with a wrong password it was to be tried again in a moment."""
    asked = Prefect(SETTINGS, transport=httpx.MockTransport(lambda _: answer))
    with pytest.raises(Problem, match=says) as at_start:
        asked.start("nightly", {}, None)
    with pytest.raises(Problem, match=says) as of_a_run:
        asked.run("0193c5c8-7a52-7c57-a9f2-6f3f2a5d2f10")
    for caught in (at_start.value, of_a_run.value):
        assert (caught.status, names in caught.remedy) == (503, True)


def test_a_key_starts_no_second_run_by_another_deployment() -> None:
    assert server(200, started_before="deployment")[0].start("nightly", {}, "a-key").is_new is False
    asked, sent = server(201, started_before="another")
    with pytest.raises(Problem, match="another deployment") as caught:
        asked.start("nightly", {}, "a-key")
    assert (caught.value.status, sent) == (409, [])


def test_the_page_of_a_run_is_named_without_the_servers_password() -> None:
    settings = SETTINGS.model_copy(update={"prefect_api_url": "https://me:hush@prefect.example.org/api"})
    assert Prefect(settings).page("run") == "https://prefect.example.org/runs/flow-run/run"


@pytest.mark.parametrize(
    ("status", "known", "linked"), [(200, ["a"], ["a"]), (200, [], []), (503, [], ["a", "b"]), (401, [], ["a", "b"])]
)
def test_a_run_that_the_servers_database_lacks_has_no_link(status: int, known: list[str], linked: list[str]) -> None:
    answer = httpx.Response(status, json=[{"id": one} for one in known])
    asked = Prefect(SETTINGS, transport=httpx.MockTransport(lambda _: answer))
    assert asked.pages(["a", None, "b"]) == {one: asked.page(one) for one in linked}


def test_of_more_runs_than_the_server_lists_at_once_the_known_ones_have_links() -> None:
    """It refuses to list more than 200, and /runs has pages of 500: all of them had a link."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        known = [{"id": one} for one in body["flow_runs"]["id"]["any_"] if one != "lost"]
        return httpx.Response(200, json=known) if body["limit"] <= 200 else httpx.Response(422)

    asked = Prefect(SETTINGS, transport=httpx.MockTransport(answer))
    runs = [f"run {number}" for number in range(450)]
    assert asked.pages(["lost", *runs]) == {one: asked.page(one) for one in runs}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SUPABASE_KEY", "", "SUPABASE_URL and SUPABASE_KEY"),
        ("ETL_API_SIGN_IN_RATE", "often", "ETL_API_SIGN_IN_RATE is no rate"),
        ("ETL_API_LIMITS_STORE", "redis", "ETL_API_LIMITS_STORE names no store"),
        ("ETL_API_LIMITS_STORE", "async+memory://", "ETL_API_LIMITS_STORE names no store"),
        ("ETL_API_LIMITS_STORE", "redis://127.0.0.1:9?foo=x", "ETL_API_LIMITS_STORE names no store"),
        ("ETL_API_LIMITS_STORE", "redis://127.0.0.1:9?protocol=4", "ETL_API_LIMITS_STORE names no store"),
        ("ETL_API_LIMITS_STORE", "redis+cluster://127.0.0.1:9", "No node of the Redis cluster in ETL_API_LIMITS_STORE"),
        ("ETL_CACHE_DIR", "/dev/null/cache", "ETL_CACHE_DIR, /dev/null/cache, cannot be made"),
    ],
)
def test_a_setting_that_the_site_cannot_use_is_a_sentence(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """uvicorn makes the application so, and printed a traceback."""
    usable = {"SUPABASE_URL": "https://project.supabase.co", "SUPABASE_KEY": "sb_x", "ETL_CACHE_DIR": str(tmp_path)}
    for one, given in {**usable, name: value}.items():
        monkeypatch.setenv(one, given)
    with pytest.raises(SystemExit, match=f"^error: .*{says}"):
        create_app()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("is_there", [True, False], ids=["of the release before", "none"])
def test_javascript_that_is_not_laid_out_in_somebody_elses_clone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """After an update that nobody has started there yet it was a traceback."""
    (folder := tmp_path / "static").mkdir()
    if is_there:
        (folder / "vendor").mkdir(mode=0o555)
    else:
        folder.chmod(0o555)
    monkeypatch.setattr(vendor, "VENDOR", folder / "vendor")
    monkeypatch.setattr("local_stack.npm.install", lambda *_, **__: False)
    with pytest.raises(StackError, match="JavaScript is not installed yet, and this user may not write"):
        vendor.install(print)


def test_what_the_server_refuses_is_not_asked_again() -> None:
    asked, sent = server(422)
    with pytest.raises(Problem, match="refused these options"):
        asked.start("nightly", {}, None)
    assert len(sent) == 1


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_in_order_also_when_its_terminal_is_closed(ended_by: signal.Signals, tmp_path: Path) -> None:
    """Otherwise the local stack that it had started went on."""
    port = free_port()
    project = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_KEY": "sb_x", "SUPABASE_JWT_SECRET": "s" * 40}
    environment = {**os.environ, **project, "ETL_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "scripts.api", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            while status_on(port) != httpx.codes.OK:
                assert process.poll() is None
            process.send_signal(ended_by)
            assert process.wait(60) == 0
        finally:
            process.kill()


def status_on(port: int) -> int:
    """What the site on that port answers; 0 before it does."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/live").status_code
    except httpx.TransportError:
        time.sleep(0.2)
        return 0


def test_the_site_of_a_project_does_not_look_at_the_local_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is damaged, or another account's, ended it."""
    (tmp_path / "data/local/stack").mkdir(parents=True)
    (tmp_path / "data/local/stack/stack.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPABASE_JWT_SECRET", raising=False)
    assert started_beside_nothing(monkeypatch) == 0


def test_a_site_without_a_prefect_server_says_so_when_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started before `make ui`, it never learns of that server."""
    monkeypatch.setenv("SUPABASE_JWT_SECRET", "secret")
    assert started_beside_nothing(monkeypatch) == 0
    assert "start runs from the site set PREFECT_API_URL or start `make ui`" in capsys.readouterr().out
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    scripts.api.main([])
    assert "Prefect" not in capsys.readouterr().out


def started_beside_nothing(monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a site on a hosted project, which ends at once."""
    monkeypatch.setattr(scripts.api, "end_on_signals", lambda: None)
    monkeypatch.setattr(scripts.api, "local_project", nullcontext)
    monkeypatch.setattr("api.vendor.install", lambda say: None)
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: None)
    monkeypatch.setattr(scripts.api, "use_running", lambda home: False)
    monkeypatch.setenv("SUPABASE_URL", "https://project.supabase.co")
    for name in ("PREFECT_API_URL", *scripts.api.MASTER):
        monkeypatch.setenv(name, "")
    return scripts.api.main([])
