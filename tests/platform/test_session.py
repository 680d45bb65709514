"""What a login or a database has set for all its sessions is not what ours run with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from adbc_driver_postgresql import dbapi

from local_stack import Stack
from tasks.errors import ConfigurationError
from tasks.platform import postgres
from tasks.platform.libpq import address
from tasks.platform.postgres import connect, release
from tests.source.kit import settings_for


@pytest.mark.parametrize(
    ("name", "value", "ours"),
    [
        # With it a heartbeat beside a long load ends the load, and starts that wait for each other never see the other.
        ("default_transaction_isolation", "'repeatable read'", "read committed"),
        ("client_encoding", "latin1", "UTF8"),
        ("standard_conforming_strings", "off", "on"),
        ("row_security", "off", "on"),
        ("lock_timeout", "'1s'", "0"),  # its error was final, whoever held the lock
    ],
)
def test_what_a_login_has_set_is_not_ours(stack: Stack, tmp_path: Path, name: str, value: str, ours: str) -> None:
    stack.query(f"alter role postgres set {name} = {value}")
    try:
        connection = connect(settings_for(stack, "postgres", tmp_path))
        with connection.cursor() as cursor:
            cursor.execute(f"select current_setting('{name}')")
            assert cursor.fetchone() == (ours,)
        release(connection)
    finally:
        stack.query(f"alter role postgres reset {name}")


def test_a_login_that_quotes_every_name_is_refused_in_a_sentence(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_VERIFIED", {})
    stack.query("alter role postgres set quote_all_identifiers = on")
    try:
        with pytest.raises(ConfigurationError, match="quote_all_identifiers") as caught:
            connect(settings_for(stack, "postgres", tmp_path))
        assert "alter role" in caught.value.remedy
    finally:
        stack.query("alter role postgres reset quote_all_identifiers")


def test_a_connection_that_the_driver_has_miscounted_is_closed(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's count of its connections is not safe between threads: one below zero, and every last one fails."""
    connection = connect(settings_for(stack, "postgres", tmp_path))
    miscounted = _Miscounted(connection._conn)
    monkeypatch.setattr(connection, "_conn", miscounted)
    release(connection)
    assert miscounted.closed == 2
    assert connection._closed, "Python would warn of it, and count it as open until the process ends"


class _Miscounted:
    """A connection of the driver's that is closed, and reported as not."""

    def __init__(self, connection: Any) -> None:
        self._connection, self.closed = connection, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def close(self) -> None:
        self.closed += 1
        self._connection.close()
        if self.closed == 1:
            raise dbapi.InternalError("[libpq] Open connection count underflowed", status_code=9)


OF_OTHERS = {
    "PGHOSTADDR": "192.0.2.1",  # an address of nobody's: our password would go there
    "PGSERVICE": "another-project",
    "PGOPTIONS": "-c no_such_setting=on",
    "PGTARGETSESSIONATTRS": "standby",
    "PGSSLMODE": "require",
    "PGCHANNELBINDING": "require",
}


@pytest.mark.slow
def test_what_the_environment_says_of_another_database_is_not_ours(stack: Stack, tmp_path: Path) -> None:
    """It named the address, the service and the options of every connection, whatever SUPABASE_DB_URL says."""
    env = {**os.environ, **stack.env(), **OF_OTHERS}
    command = [sys.executable, "-m", "scripts.migrations"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "nothing to apply\n"), done.stderr


def test_what_asks_for_security_holds_outside_this_machine() -> None:
    assert address("postgresql://u:p@db.example.org/x") == "postgresql://u:p@db.example.org/x"
    assert address("postgresql://u:p@localhost/x?sslmode=require").count("sslmode=") == 1
