"""`watch` on a real stack: by polling alone, and with a Realtime that loses, repeats, delays and goes deaf."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from data.demo import load
from flows import watch
from local_stack import Stack
from tasks.contracts import TABLES
from tests.live.here import watching_here
from tests.live.kit import CHANGES, POLL_SECONDS, PUBLISH, ROOT, T_SECONDS, Watched, environment, watching
from tests.live.realtime import FAULTS, Realtime, realtime

pytestmark = pytest.mark.slow

SLACK_SECONDS = 10.0  # of a busy machine: exactly it is shown in simulated time, tests/live/test_in_time.py


@pytest.fixture
def filled(clean_stack: Stack) -> Stack:
    """Some tidy rows of two months: names that cleaning leaves as they are, and few files for each run to copy."""
    load(clean_stack.db_url, users=200, posts=1_200, until=datetime.fromisoformat("2026-01-31T00:00:00+00:00"))
    clean_stack.query("update public.users set name = 'Name ' || substr(id::text, 1, 8)")
    clean_stack.query("delete from public.posts where created_at < '2025-12-01+00'")
    return clean_stack


@pytest.fixture
def published(filled: Stack) -> Iterator[Stack]:
    """Realtime is enabled for the sources."""
    filled.query(PUBLISH)
    yield filled
    filled.query("drop publication supabase_realtime")


@pytest.mark.parametrize("kind", ["service key", pytest.param("signed-in user", marks=pytest.mark.soak)])
def test_by_polling_alone_inserts_updates_and_deletes_are_published(filled: Stack, tmp_path: Path, kind: str) -> None:
    with watching(filled, tmp_path, kind=kind, **git_that_says(tmp_path, "loaded")) as watched:
        watched.wait_until_idle()
        git_that_says(tmp_path, "pulled meanwhile")
        runs = watched.committed()
        for number, change in enumerate(CHANGES, 1):
            watched.change(change)
            watched.wait(lambda: watched.committed() == runs + number, change)  # noqa: B023
            watched.wait_until_idle()
        time.sleep(5)
        assert watched.committed() == runs + len(CHANGES), "quiet when nothing changed"
        assert watched.health["runs"]["without_changes"] == 0
        assert watched.health["realtime"]["state"] == "off"
    assert watched.health["state"] == "stopped"
    assert filled.query("select distinct code_version from public.etl_runs") == "loaded", "which is the code that ran"
    assert filled.query("select count(*) from public.etl_runs where status in ('running', 'loading')") == "0"


def git_that_says(folder: Path, version: str) -> dict[str, str]:
    """The environment in which that is the version of the code on the disk."""
    git = folder / "bin" / "git"
    git.parent.mkdir(exist_ok=True)
    git.write_text(f"#!/bin/sh\necho {version}\n")
    git.chmod(0o755)
    return {"PATH": f"{git.parent}:{os.environ['PATH']}"}


def test_a_new_start_runs_for_nothing_only_where_nobody_knows(filled: Stack, tmp_path: Path) -> None:
    with watching(filled, tmp_path) as watched:
        watched.wait_until_idle()
        runs = watched.committed()
    (tmp_path / "watch.json").unlink()
    with watching(filled, tmp_path) as watched:
        time.sleep(6)
        assert watched.committed() == runs
    watched.change("update")  # while nobody watches
    (tmp_path / "watch.json").unlink()
    with watching(filled, tmp_path) as watched:
        watched.wait_until_idle()
        assert watched.committed() == runs + 1


def test_a_night_as_of_midnight_is_followed_by_a_run_with_what_changed_since(filled: Stack, tmp_path: Path) -> None:
    """The reports of readers lacked it until the next change."""
    with watching(filled, tmp_path) as watched:
        watched.wait_until_idle()
        watched.change("insert")
        watched.wait_until_idle()
        runs = watched.committed()
        night = [sys.executable, "-m", "flows.nightly", "--as-of", "midnight"]
        subprocess.run(night, cwd=ROOT, env=environment(filled, tmp_path), check=True, capture_output=True)
        watched.wait(lambda: watched.committed() == runs + 2, "no run after the night")
        watched.wait_until_idle()
    newest = "select as_of from public.etl_runs where status = 'committed' order by started_at desc limit 1"
    assert filled.query(f"select ({newest}) > now() - interval '10 minutes'") == "t", "as of now"


@pytest.mark.parametrize("of_terminal", [None, signal.SIGINT, signal.SIGHUP], ids=["stopped", "Ctrl-C", "closed"])
def test_a_watch_that_ends_in_the_middle_of_a_run_gives_the_lease_back(
    filled: Stack, tmp_path: Path, of_terminal: signal.Signals | None
) -> None:
    """of_terminal: what all that a command has started gets at once."""
    with watching(filled, tmp_path, ETL_LEASE_SECONDS="600") as watched:
        watched.wait(lambda: watched.health["state"] == "running", "no run")
        watched.wait(lambda: filled.query("select count(*) from public.etl_runs") == "1", "no lease")
        family = psutil.Process(watched.process.pid).children(recursive=True)
        if of_terminal:
            os.killpg(watched.process.pid, of_terminal)
            assert watched.process.wait(60) == 0
    assert filled.query("select status from public.etl_runs") in ("failed", "committed")
    psutil.wait_procs(family, timeout=20)
    assert not [process for process in family if process.is_running()], "nothing of it is left"


@pytest.mark.parametrize("seed", range(1))
def test_every_change_is_published_whatever_realtime_does(published: Stack, tmp_path: Path, seed: int) -> None:
    with (
        realtime(published.url, faults=FAULTS, seed=seed) as server,
        watching(published, tmp_path, url=server.url) as watched,
    ):
        _misbehave(server, watched, seed)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 200))
def test_every_change_is_published_a_hundred_times(published: Stack, tmp_path: Path, seed: int) -> None:
    """They mostly wait: `make soak ARGS="-n 6 -k is_published_a_hundred_times"` takes a quarter of an hour."""
    with (
        realtime(published.url, faults=FAULTS, seed=seed) as server,
        watching_here(published, tmp_path, url=server.url) as watched,
    ):
        _misbehave(server, watched, seed)
        late = [of for of in watched.delays() if of > T_SECONDS + POLL_SECONDS + SLACK_SECONDS]
    assert not late, "within T plus one poll"


def _misbehave(server: Realtime, watched: Watched, seed: int) -> None:
    """Change and publish at random."""
    chance = random.Random(seed)
    server.refuse_joins, server.refuse_connections = chance.randint(0, 2), chance.randint(0, 1)
    watched.wait_until_idle()
    for _ in range(chance.randint(3, 6)):
        for _ in range(chance.randint(1, 4)):
            kind = chance.choice(list(CHANGES))
            watched.change(kind)
            server.publish("posts" if kind == "delete" else "users", kind.upper())
            time.sleep(chance.uniform(0, 1.0))
        watched.wait_until_idle()
    runs = watched.committed()
    server.publish("users", "INSERT", 20, faults=("duplicate", "delay"))  # old news
    time.sleep(4)
    assert watched.committed() == runs, "a message that announces nothing starts nothing"
    assert "secret text" not in watched.log() + (watched.folder / "watch.json").read_text()
    assert server.counts["connections"] >= 1


def listening(server: Realtime, watched: Watched) -> bool:
    return bool(server.listeners) and watched.health["realtime"]["state"] == "listening"


def test_a_hint_starts_a_run_long_before_the_next_poll(published: Stack, tmp_path: Path) -> None:
    with (
        realtime(published.url) as server,
        watching(
            published, tmp_path, url=server.url, ETL_WATCH_POLL_SECONDS="600", ETL_WATCH_MINUTES="0.01"
        ) as watched,
    ):
        watched.wait_until_idle()
        watched.wait(lambda: listening(server, watched), "not listening")
        watched.change("insert")
        server.publish("users")
        watched.wait_until_idle()
        assert watched.health["realtime"]["messages"] == 1
        asked = {of["table"]: of["select"] for of in server.joins[-1]["postgres_changes"]}
    assert asked == {table.source: [table.key.source_name] for table in TABLES}, "keys only"


@pytest.mark.soak
def test_a_connection_that_is_deaf_is_replaced(published: Stack, tmp_path: Path) -> None:
    """Heartbeats are answered, nothing else comes: the polls find what Realtime does not announce."""
    with realtime(published.url) as server, watching(published, tmp_path, url=server.url) as watched:
        watched.wait_until_idle()
        watched.wait(lambda: listening(server, watched), "not listening")
        connections = server.counts["connections"]
        server.publish("users", faults=("deafen",), times=3)
        for _ in range(4):
            watched.change("insert")
            watched.wait_until_idle()
            time.sleep(2.5)
        watched.wait(lambda: server.counts["connections"] > connections and bool(server.listeners), "still deaf")


def test_a_session_is_signed_in_for_realtime_and_its_token_kept_fresh(published: Stack, tmp_path: Path) -> None:
    from local_stack import up

    up(published.home, empty=True, jwt_expiry=10)
    try:
        with (
            realtime(published.url) as server,
            watching(published, tmp_path, kind="signed-in user", url=server.url) as watched,
        ):
            watched.wait(lambda: listening(server, watched), "not listening")
            watched.wait(lambda: len(set(server.tokens)) >= 3, "the token is not refreshed")
            assert server.counts["access_token"] >= 2
            assert server.counts["connections"] == 1
    finally:
        up(published.home, empty=True, jwt_expiry=3600)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_memory_is_flat_over_a_hundred_thousand_messages(published: Stack, tmp_path: Path) -> None:
    with realtime(published.url) as server, watching(published, tmp_path, url=server.url) as watched:
        watched.wait_until_idle()
        watched.wait(lambda: listening(server, watched), "not listening")
        sizes: list[float] = []
        for _ in range(10):
            server.publish("posts", "UPDATE", 10_000)
            watched.wait(lambda: watched.health["realtime"]["messages"] >= 10_000 * (len(sizes) + 1), "lost")
            sizes.append(psutil.Process(watched.process.pid).memory_info().rss / 2**20)
        assert max(sizes[5:]) - max(sizes[:5]) < 5, sizes
        assert watched.committed() == 1


@pytest.mark.parametrize(
    ("wrong", "code", "says"),
    [
        ({"SUPABASE_SERVICE_KEY": "junk"}, 1, "SUPABASE_SERVICE_KEY must be the current secret key"),
        ({"ETL_WATCH_CHANGES": "many"}, 2, "ETL_WATCH_CHANGES"),
        ({"ETL_WATCH_CLEAR_MINUTES": "1440"}, 2, "ETL_WATCH_CLEAR_MINUTES is 1440, and the scheduled nights"),
        ({}, 130, "✗ Stopped by hand."),
    ],
)
def test_what_ends_it_before_it_watches_is_said_at_once(
    clean_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    wrong: dict[str, str], code: int, says: str,
) -> None:  # fmt: skip
    """Also where the counts come over Postgres, to which a wrong key is nothing."""

    async def until_signal(watching: object) -> None:
        if not wrong:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch, "_until_signal", until_signal)
    for name, value in {**clean_stack.env(), "ETL_DATA_DIR": str(tmp_path), **wrong}.items():
        monkeypatch.setenv(name, value)
    assert watch.main([]) == code
    assert says in capsys.readouterr().err


def test_health_tells_a_watch_that_is_well_from_one_that_is_not(filled: Stack, tmp_path: Path) -> None:
    """A probe needs no project in its settings: a watch on the local stack has none there."""

    def health() -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "ETL_DATA_DIR": str(tmp_path)}
        command = [sys.executable, "-X", "importtime", "-m", "flows.watch", "--health"]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    nobody = health()
    assert nobody.returncode == 1
    imported = {line.rpartition("|")[2].strip() for line in nobody.stderr.splitlines()}
    assert "tasks.live.health" in imported
    assert not imported & {"prefect", "pyarrow", "pandas"}, "a probe waits ten seconds at most, on a small machine too"
    with watching(filled, tmp_path) as watched:
        watched.wait_until_idle()
        assert health().returncode == 0
        watched.process.send_signal(signal.SIGSTOP)
        content, found = watched.health, []
        for written, said in (("2026-01-01", "it hangs"), ("2126-01-01", "clock of this machine was set back")):
            (tmp_path / "watch.json").write_text(json.dumps({**content, "updated_at": f"{written}T00:00:00+00:00"}))
            checked = health()
            found.append((checked.returncode, said in checked.stdout))
        watched.process.send_signal(signal.SIGCONT)
        assert found == [(1, True)] * 2
    assert "was stopped" in health().stdout
