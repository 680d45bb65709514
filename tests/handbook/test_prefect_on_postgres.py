"""The blocks of Prefect's own server, in the page's order: its database, start, deployments, worker, backup, upgrade.

On a PostgreSQL of the system that has `pg_trgm`, which the local stack's has not; on Debian the package `postgresql`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from data.demo import load
from local_stack import Stack
from local_stack.accounts import unprivileged
from local_stack.state import free_port
from tests.conftest import temporary_home
from tests.handbook.blocks import ROOT, answers, block, environment, running, shell, with_own
from tests.handbook.served import Served

PAGE = (ROOT / "docs" / "operating.md").read_text()
FOLDERS = [
    *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    Path(shutil.which("initdb") or "/none").parent,
]
BIN = next((folder for folder in FOLDERS if (folder / "initdb").exists()), None)
TRGM = next((of for of in Path("/usr/share/postgresql").glob("*/extension/pg_trgm.control")), None)

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(BIN is None or TRGM is None, reason="there is no PostgreSQL with pg_trgm on this system"),
]


@dataclass(frozen=True)
class Database:
    """A PostgreSQL of this test's own; `admin` may do everything there."""

    address: str


@pytest.fixture
def database() -> Iterator[Database]:
    """On a free port of 127.0.0.1; its files go with it."""
    assert BIN
    with temporary_home() as home:
        cluster = home / "cluster"
        account = unprivileged(cluster)
        cluster.mkdir(mode=0o700)
        who = account.popen if account else {}
        if account:
            account.own(cluster)
        port = free_port()
        initdb = [f"{BIN}/initdb", "-D", str(cluster), "-U", "admin", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, cwd="/", capture_output=True, check=True, **who)
        options = ["-h", "127.0.0.1", "-p", str(port), "-c", "unix_socket_directories=", "-c", "fsync=off"]
        with (home / "log").open("wb") as log:
            started = subprocess.Popen(
                [f"{BIN}/postgres", "-D", str(cluster), *options], cwd="/", stdout=log, stderr=log, **who
            )
        try:
            ready = [f"{BIN}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            while subprocess.run(ready, check=False).returncode:
                assert started.poll() is None, (home / "log").read_text()
            yield Database(f"127.0.0.1:{port}")
        finally:
            started.terminate()
            started.wait(60)


SERVER = block("export PREFECT_SERVER_DATABASE_CONNECTION_URL", "prefect server start")
DEPLOY = block("export PREFECT_API_URL", "python -m scripts.bootstrap")
WORKER = block("prefect worker start")
BACKUP, RESTORE = block("pg_dump"), block("pg_restore")
PAUSE, TABLES, AGAIN = (
    block("prefect work-pool pause"),
    block("prefect server database"),
    block("python -m scripts.migr"),
)


def exports(text: str) -> str:
    """What a block leaves in the operator's shell for the next one."""
    return "".join(f"{line}\n" for line in text.splitlines() if line.startswith("export "))


@dataclass(frozen=True)
class Operator:
    """Somebody who follows the page, on this test's database, server and project."""

    database: Database
    served: Served
    env: dict[str, str]
    folder: Path

    def own(self, text: str) -> str:
        """A block with this test's hosts, passwords and files in place of the page's."""
        port = self.served.url.rpartition(":")[2]
        own = {"db.example.org": self.database.address, "https://prefect.example.org": self.served.url}
        own |= {
            "admin:PASSWORD": self.served.password,
            "port 4200": f"port {port}",
            "prefect.dump": f"{self.folder}/prefect.dump",
        }
        own["/opt/supabase-nightly"] = str(ROOT)
        return with_own(text, {name: value for name, value in own.items() if name in text})

    def run(self, text: str) -> str:
        return shell(self.own(text), self.env)

    def ask(self, sql: str, database: str = "postgres") -> str:
        """What the database answers to its administrator."""
        url = f"postgresql://admin@{self.database.address}/{database}"
        return shell(f"psql -qAt -v ON_ERROR_STOP=1 {url} <<'EOF'\n{sql}\nEOF", self.env)

    @contextmanager
    def server(self) -> Iterator[None]:
        log, health = self.folder / "server.log", f"{self.served.url}/api/health"
        with running(self.own(SERVER), self.env, log, until=lambda: answers(health)):
            yield
        assert "Traceback" not in log.read_text()

    @contextmanager
    def worker(self) -> Iterator[None]:
        def polls() -> bool:
            return bool(self.served.api("/work_pools/nightly-pool/workers/filter", {}))

        with running(self.own(WORKER), self.env, self.folder / "worker.log", until=polls):
            yield


@pytest.fixture
def operator(clean_stack: Stack, database: Database, tmp_path: Path) -> Operator:
    env = environment(tmp_path, {**clean_stack.env(), "ETL_DATA_DIR": str(tmp_path / "data")})
    served = Served(f"http://127.0.0.1:{free_port()}", "admin:its-own")
    return Operator(database, served, {**env, "PATH": f"{BIN}:{env['PATH']}", "COLUMNS": "250"}, tmp_path)


def test_prefect_on_postgres_is_set_up_works_is_upgraded_and_comes_back_from_its_backup(
    operator: Operator, clean_stack: Stack
) -> None:
    load(clean_stack.db_url, users=400, posts=1_200, days=130)
    (made,) = re.findall(r"```sql\n(create role prefect.*?)```", PAGE, re.DOTALL)
    operator.ask(made)
    with operator.server():
        operator.run(DEPLOY)
        assert {"nightly", "backfill", "doctor", "retention"} <= operator.served.deployments()
        with operator.worker():
            ended = operator.served.night()
            assert ended["state"]["name"] == "Completed", ended["state"]
            assert "report" in operator.served.artifacts(ended)
        assert clean_stack.query("select count(*) from public.etl_runs where status = 'committed'") == "1"
        assert httpx.get(f"{operator.served.url}/ui-settings").json()["api_url"] == f"{operator.served.url}/api"
        listed = operator.run(exports(WORKER) + with_own(PAUSE, {"--state-type RUNNING": "--state-type COMPLETED"}))
        assert ended["id"] in listed, "what runs would be listed so"
        assert operator.served.api("/work_pools/nightly-pool")["is_paused"]
        operator.run(BACKUP)
    operator.run(exports(SERVER) + TABLES)
    with operator.server():
        operator.run(exports(DEPLOY) + AGAIN)
        assert not operator.served.api("/work_pools/nightly-pool")["is_paused"]
    comes_back(operator, made, ended["id"])


def comes_back(operator: Operator, made: str, run_id: str) -> None:
    """The backup in an empty database: the server has its history, and the pool is paused as it was then."""
    operator.ask("drop database prefect")
    operator.ask(made.splitlines()[1])
    operator.run(RESTORE)
    with operator.server():
        assert operator.served.api(f"/flow_runs/{run_id}")["state"]["name"] == "Completed"
        assert operator.served.api("/work_pools/nightly-pool")["is_paused"]
