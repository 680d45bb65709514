"""A whole run through a session pooler, as hosted projects have one: each session has a connection of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from data.demo import DemoCounts
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from local_stack.state import free_port, taken
from tests.pipeline.kit import AS_OF, Project

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={database}
[pgbouncer]
pool_mode = session
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
logfile = {folder}/log
"""


@pytest.fixture
def pooler(project: Project) -> Iterator[str]:
    """The database's URL by way of a pooler in session mode."""
    if PGBOUNCER is None:
        pytest.skip("no pgbouncer here: apt-get install pgbouncer")
    url, port = urlsplit(project.stack.db_url), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder, files = Path(name), {"users.txt": f'"{url.username}" "{url.password}"\n'}
        files["pgbouncer.ini"] = CONFIGURATION.format(database=url.port, port=port, folder=folder)
        for file, text in files.items():
            (folder / file).touch(mode=0o600)
            (folder / file).write_text(text)
        process = subprocess.Popen([PGBOUNCER, "-q", *_account(folder), str(folder / "pgbouncer.ini")])
        try:
            _wait(port)
            yield project.stack.db_url.replace(f":{url.port}/", f":{port}/")
        finally:
            process.terminate()
            process.wait(20)


def _account(folder: Path) -> list[str]:
    """pgbouncer refuses to be root; then its files are another account's."""
    if os.geteuid():
        return []
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, "nobody")
    return ["-u", "nobody"]


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while not taken(port):
        assert time.monotonic() < deadline, "pgbouncer does not start"
        time.sleep(0.05)


def test_a_run_through_a_session_pooler(
    pooler: str, project: Project, demo: DemoCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**project.env("postgres"), "SUPABASE_DB_URL": pooler}.items():
        monkeypatch.setenv(name, value)
    first, again = (run_pipeline(RunRequest(as_of=AS_OF)) for _ in range(2))
    for table in ("users", "posts"):
        assert first.tables[table]["inserted"] == again.tables[table]["unchanged"] == demo[table].kept
    project.assert_whole()
