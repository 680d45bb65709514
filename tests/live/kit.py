"""What the tests of `watch` share: a watch in a process of its own, and the project that it watches."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from local_stack import Stack
from tests.pipeline.identities import identity_env

ROOT = Path(__file__).parents[2]
# A hosted project has the publication, empty; docs/watch.md adds the sources.
PUBLISH = (
    "create publication supabase_realtime; "
    + (ROOT / "docs" / "watch.md").read_text().split("```sql\n")[1].split("```")[0]
)
T_SECONDS, POLL_SECONDS = 1.2, 2.0
COMMITTED = "select count(*) from public.etl_runs where status = 'committed'"
CHANGES = {
    "insert": "insert into public.users (email, created_at) values (:'word' || '@example.com', now())",
    "update": "update public.users set name = :'word' where id = (select min(id::text)::uuid from public.users)",
    "delete": "delete from public.posts where id = (select max(id::text)::uuid from public.posts)",
}


class Watched:
    """A watch, mostly in a process of its own, and the project that it watches."""

    process: subprocess.Popen[bytes]

    def __init__(
        self, stack: Stack, folder: Path, session: psycopg.Connection[Any], is_alive: Callable[[], bool]
    ) -> None:
        self.stack, self.folder, self._session, self._is_alive = stack, folder, session, is_alive
        self.changed: list[float] = []  # when, by the database's clock

    @property
    def health(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "watch.json").read_text()))

    def change(self, kind: str) -> None:
        """By a session that ends: one that stays open may report its counts ten seconds later."""
        sql = f"{CHANGES[kind]}; select extract(epoch from clock_timestamp())"
        self.changed.append(float(self.stack.query(sql, {"word": secrets.token_hex(6)})))

    def delays(self) -> list[float]:
        """Seconds from each change, or from the end of the run that was running, to the start of the run with it."""
        listed = ", ".join(f"({at})" for at in self.changed)
        return [float(row[0]) for row in self._session.execute(_DELAYS.format(changes=listed))]

    def committed(self) -> int:
        return int(self._value(COMMITTED))

    def _value(self, sql: str) -> Any:
        """The one value that a query yields; asked often, so by one session and not by psql."""
        row = self._session.execute(sql).fetchone()
        return row[0] if row else None

    def wait(self, until: Callable[[], bool], what: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert self._is_alive(), f"the watch has ended: {self.log()}"
            assert time.monotonic() < deadline, f"{what}: {self.log()} {self.health}"
            time.sleep(0.1)

    def wait_until_idle(self) -> None:
        """All changes are published and nothing is running."""
        self.wait(lambda: self.idle() and self.published() and self.idle(), "not published")

    def idle(self) -> bool:
        health = self.health
        return bool(health["pending"] == 0 and health["state"] == "watching")

    def published(self) -> bool:
        """What the sources hold is what the cleaned tables and rejects hold."""
        return bool(self._value(_SAME))

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


# Two runs are T apart at least, too. A change while a run was reading may be in that one, and then has no later one.
_DELAYS = f"""
with changes (at) as (select to_timestamp(x) from (values {{changes}}) v (x))
select extract(epoch from r.started_at - greatest(c.at, b.finished_at, b.started_at + interval '{T_SECONDS} seconds'))
from changes c
cross join lateral (select * from public.etl_runs r where r.status = 'committed' and r.began >= c.at
                    order by r.began limit 1) r
left join lateral (select * from public.etl_runs b where b.started_at < r.started_at
                   order by b.started_at desc limit 1) b on true"""


def environment(stack: Stack, folder: Path, *, kind: str = "service key", url: str = "") -> dict[str, str]:
    """The settings of a watch in a hurry."""
    return {
        "SUPABASE_URL": url or stack.url,
        **identity_env(stack, kind),
        "ETL_TRANSPORT": "rest",
        "ETL_DATA_DIR": str(folder),
        "ETL_LEASE_SECONDS": "5",
        "ETL_WATCH_CHANGES": "5",
        "ETL_WATCH_MINUTES": str(T_SECONDS / 60),
        "ETL_WATCH_EVERY_MINUTES": str(T_SECONDS / 60),
        "ETL_WATCH_POLL_SECONDS": str(POLL_SECONDS),
        "ETL_WATCH_CLEAR_MINUTES": "0",
    }


@contextmanager
def watching(stack: Stack, folder: Path, *, kind: str = "service key", url: str = "", **more: str) -> Iterator[Watched]:
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("ETL_", "SUPABASE_", "PREFECT_"))},
        "PYTHONPATH": str(ROOT),
        **environment(stack, folder, kind=kind, url=url),
        **more,
    }
    with open(folder / "watch.log", "wb") as log:
        command = [sys.executable, "-m", "flows.watch"]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        with psycopg.connect(stack.db_url, autocommit=True) as session:
            watched = Watched(stack, folder, session, lambda: process.poll() is None)
            watched.process = process
            watched.wait((folder / "watch.json").exists, "no health file")
            yield watched
    finally:
        process.terminate()
        assert process.wait(60) == 0, "a clean end on SIGTERM"
