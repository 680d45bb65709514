"""A pooler between a client and a stack's database, as hosted projects have one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest

from local_stack import Stack
from local_stack.state import free_port, taken

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={database}
[pgbouncer]
pool_mode = {mode}
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
logfile = {folder}/log
server_round_robin = {round_robin}
server_reset_query = {reset}
"""


@contextmanager
def pgbouncer(
    stack: Stack,
    mode: Literal["session", "transaction"],
    *,
    round_robin: bool = False,
    resets: bool = True,
    port: int | None = None,
) -> Iterator[str]:
    """The database's URL by way of a pooler; skips the test where pgbouncer is not installed.

    resets: whether it resets what a client of a session gives back.
    """
    if PGBOUNCER is None:
        pytest.skip("no pgbouncer here: apt-get install pgbouncer")
    url, port = urlsplit(stack.db_url), port or free_port()
    with tempfile.TemporaryDirectory() as name:
        folder, files = Path(name), {"users.txt": f'"{url.username}" "{url.password}"\n'}
        files["pgbouncer.ini"] = CONFIGURATION.format(
            database=url.port,
            port=port,
            folder=folder,
            mode=mode,
            round_robin=int(round_robin),
            reset="discard all" if resets else "",
        )
        for file, text in files.items():
            (folder / file).touch(mode=0o600)
            (folder / file).write_text(text)
        process = subprocess.Popen([PGBOUNCER, "-q", *_account(folder), str(folder / "pgbouncer.ini")])
        try:
            _wait(port)
            yield stack.db_url.replace(f":{url.port}/", f":{port}/")
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
