"""`watch` on a real stack: by polling alone, and with a Realtime that loses, repeats, delays and goes deaf."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from data.demo import load
from local_stack import Stack
from tests.live.realtime import FAULTS, Realtime, realtime
from tests.pipeline.identities import identity_env

ROOT = Path(__file__).parents[2]
# A hosted project has the publication, empty; docs/watch.md adds the sources.
PUBLISH = (
    "create publication supabase_realtime; "
    + (ROOT / "docs" / "watch.md").read_text().split("```sql\n")[1].split("```")[0]
)
COMMITTED = "select count(*) from public.etl_runs where status = 'committed'"
CHANGES = {
    "insert": "insert into public.users (email, created_at) values (:'word' || '@example.com', now())",
    "update": "update public.users set name = :'word' where id = (select min(id::text)::uuid from public.users)",
    "delete": "delete from public.posts where id = (select max(id::text)::uuid from public.posts)",
}


class Watched:
    """A watch in a process of its own, and the project that it watches."""

    def __init__(self, stack: Stack, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.stack, self.folder, self.process = stack, folder, process

    @property
    def health(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "watch.json").read_text()))

    def change(self, kind: str) -> None:
        self.stack.query(CHANGES[kind], {"word": secrets.token_hex(6)})

    def committed(self) -> int:
        return int(self.stack.query(COMMITTED))

    def wait(self, until: Callable[[], bool], what: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert self.process.poll() is None, f"the watch has ended: {self.log()}"
            assert time.monotonic() < deadline, f"{what}: {self.log()} {self.health}"
            time.sleep(0.1)

    def wait_until_idle(self) -> None:
        """All changes are published and nothing is running."""
        self.wait(lambda: self.published() and self.idle(), "not published")

    def idle(self) -> bool:
        health = self.health
        return bool(health["pending"] == 0 and health["state"] == "watching")

    def published(self) -> bool:
        """What the sources hold is what the cleaned tables and rejects hold."""
        return self.stack.query(_SAME) == "t"

    def log(self) -> str:
        return (self.folder / "watch.log").read_text()


# Compared: which rows there are, and the one column that the changes change.
_SAME = """
select not exists (
  select from (select id, name from public.users) s
  full join (select id, name from public.clean_users) c using (id)
  where (s.id is null or c.id is null or s.name is distinct from c.name)
    and not exists (select from public.etl_rejects r where r."table" = 'users' and r.key = coalesce(s.id, c.id)::text)
) and not exists (
  select from public.posts s full join public.clean_posts c using (id)
  where (s.id is null or c.id is null)
    and not exists (select from public.etl_rejects r where r."table" = 'posts' and r.key = coalesce(s.id, c.id)::text)
)"""


@contextmanager
def watching(stack: Stack, folder: Path, *, kind: str = "service key", url: str = "", **more: str) -> Iterator[Watched]:
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("ETL_", "SUPABASE_", "PREFECT_"))},
        "PYTHONPATH": str(ROOT),
        "SUPABASE_URL": url or stack.url,
        **identity_env(stack, kind),
        "ETL_TRANSPORT": "rest",
        "ETL_DATA_DIR": str(folder),
        "ETL_LEASE_SECONDS": "5",
        "ETL_WATCH_CHANGES": "5",
        "ETL_WATCH_MINUTES": "0.02",
        "ETL_WATCH_EVERY_MINUTES": "0.02",
        "ETL_WATCH_POLL_SECONDS": "2",
        "ETL_WATCH_CLEAR_MINUTES": "0",
        **more,
    }
    with open(folder / "watch.log", "wb") as log:
        command = [sys.executable, "-m", "flows.watch"]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        watched = Watched(stack, folder, process)
        watched.wait((folder / "watch.json").exists, "no health file")
        yield watched
    finally:
        process.terminate()
        assert process.wait(60) == 0, "a clean end on SIGTERM"


@pytest.fixture
def filled(clean_stack: Stack) -> Stack:
    """Some tidy rows: their names are not changed by cleaning."""
    load(clean_stack.db_url, users=200, posts=300, until=datetime.fromisoformat("2026-01-31T00:00:00+00:00"))
    clean_stack.query("update public.users set name = 'Name ' || substr(id::text, 1, 8)")
    return clean_stack


@pytest.fixture
def published(filled: Stack) -> Iterator[Stack]:
    """Realtime is enabled for the sources."""
    filled.query(PUBLISH)
    yield filled
    filled.query("drop publication supabase_realtime")


@pytest.mark.parametrize("kind", ["service key", pytest.param("signed-in user", marks=pytest.mark.soak)])
def test_by_polling_alone_inserts_updates_and_deletes_are_published(filled: Stack, tmp_path: Path, kind: str) -> None:
    with watching(filled, tmp_path, kind=kind) as watched:
        watched.wait_until_idle()
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
    assert filled.query("select count(*) from public.etl_runs where status in ('running', 'loading')") == "0"


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


def test_a_watch_that_ends_in_the_middle_of_a_run_gives_the_lease_back(filled: Stack, tmp_path: Path) -> None:
    with watching(filled, tmp_path, ETL_LEASE_SECONDS="600") as watched:
        watched.wait(lambda: watched.health["state"] == "running", "no run")
        watched.wait(lambda: filled.query("select count(*) from public.etl_runs") == "1", "no lease")
        family = psutil.Process(watched.process.pid).children(recursive=True)
    assert filled.query("select status from public.etl_runs") in ("failed", "committed")
    psutil.wait_procs(family, timeout=20)
    assert not [process for process in family if process.is_running()], "nothing of it is left"


@pytest.mark.parametrize("seed", range(1))
def test_every_change_is_published_whatever_realtime_does(published: Stack, tmp_path: Path, seed: int) -> None:
    _misbehave(published, tmp_path, seed)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(100, 200))
def test_every_change_is_published_a_hundred_times(published: Stack, tmp_path: Path, seed: int) -> None:
    _misbehave(published, tmp_path, seed)


def _misbehave(stack: Stack, folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    with realtime(stack.url, faults=FAULTS, seed=seed) as server, watching(stack, folder, url=server.url) as watched:
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
        assert "secret text" not in watched.log() + (folder / "watch.json").read_text()
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
        assert all(of["select"] == ["id"] for of in server.joins[-1]["postgres_changes"]), "keys only"


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


def test_health_tells_a_watch_that_is_well_from_one_that_is_not(filled: Stack, tmp_path: Path) -> None:
    def health() -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), **filled.env(), "ETL_DATA_DIR": str(tmp_path)}
        command = [sys.executable, "-m", "flows.watch", "--health"]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    assert health().returncode == 1
    with watching(filled, tmp_path) as watched:
        watched.wait_until_idle()
        assert health().returncode == 0
        watched.process.send_signal(signal.SIGSTOP)
        content = watched.health
        (tmp_path / "watch.json").write_text(json.dumps({**content, "updated_at": "2026-01-01T00:00:00+00:00"}))
        checked = health()
        watched.process.send_signal(signal.SIGCONT)
        assert (checked.returncode, "hangs" in checked.stdout) == (1, True)
    assert "was stopped" in health().stdout
