"""What every test may ask for: a real stack of the session's own, and a clean one.

Each process of pytest-xdist has its own stack, so that a test may empty it without asking the others.
"""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from local_stack import Stack, StackError, down, postgres, up
from local_stack.home import Home
from local_stack.state import load

# Prefect reads these once, when it is imported.
os.environ.update(
    {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
)
# Otherwise each of a few hundred processes compiles all modules again, where an image says that none keeps them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A developer's own project must be out of reach of the tests.
for _name in [name for name in os.environ if name.startswith(("SUPABASE_", "ETL_"))]:
    del os.environ[_name]

# `make test ARGS=…` is for pytest, not for a make that a test calls.
for _name in ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES"):
    os.environ.pop(_name, None)

# How long an example takes depends on what else the machine does.
hypothesis_settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("untimed")

_PREFIX = "supabase-nightly-test-"

_EMPTY_TABLES = """
do $$ declare tables text; begin
  select string_agg(format('public.%I', tablename), ', ') into tables from pg_tables
  where schemaname = 'public'
    and (tablename in ('users', 'posts', 'user_statistics', 'daily_activity') or tablename ~ '^(clean|etl)_')
    and tablename not in ('etl_seed', 'etl_migrations')
    and pg_relation_size(format('public.%I', tablename)::regclass) > 0;  -- an empty one takes as long as a full one
  if tables is not null then execute 'truncate ' || tables || ' restart identity cascade'; end if;
end $$"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Until all is imported nothing is garbage: to look for it took a fifth of the time."""
    gc.disable()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share a fixture of their module run in one process, which makes it once.

    Those of the soak are mixed: an hour of tests that wait would leave the processors idle, and one of others none.
    """
    for item in items:
        found = getattr(item, "_fixtureinfo", None)
        shared = found and any(of[-1].scope == "module" for of in found.name2fixturedefs.values())
        if shared and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    if config.getoption("markexpr") == "soak":
        items.sort(key=_by_chance)


def _by_chance(item: pytest.Item) -> bytes:
    """The same in each process; a group stays together."""
    group = item.get_closest_marker("xdist_group")
    return hashlib.sha256((group.args[0] if group else item.nodeid).encode()).digest()


class _Groupless:
    """Where the results arrive: a test has its own name there, without the group that pytest-xdist puts behind it.

    Otherwise `--last-failed` knows none of the names, and takes all tests for failed ones.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        report.nodeid = without_group(report.nodeid)


def without_group(nodeid: str) -> str:
    """The name of a test without `@group` at its end; an @ among its parameters stays."""
    name, at, group = nodeid.rpartition("@")
    return name if at and "]" not in group else nodeid


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # pytest-xdist's own processes need the groups
        config.pluginmanager.register(_Groupless())


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Without its groups the suite still passes, and takes twice as long: nobody would notice."""
    if getattr(session.config.option, "loadgroup", False):
        lost = [
            item.nodeid for item in session.items if item.get_closest_marker("xdist_group") and "@" not in item.nodeid
        ]
        assert not lost, f"pytest-xdist does not know the groups of {len(lost)} tests"
    # What was imported stays: to look through it for garbage again and again took a sixth of the time.
    gc.freeze()
    gc.enable()
    gc.set_threshold(50_000, 20, 20)


def pytest_unconfigure() -> None:
    """What ends with Python may be collected again: modules in C report what is left as leaks."""
    gc.unfreeze()


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A folder for a stack; nothing of it, and no process, is left afterwards."""
    home = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    home.chmod(0o711)  # under root PostgreSQL runs as another account, which passes through here
    try:
        yield home
    finally:
        _remove(home)


@contextmanager
def temporary_stack() -> Iterator[Stack]:
    """A stack without demo data in a folder and on ports of its own."""
    with temporary_home() as home:
        stack = up(home, empty=True, access_token_hook="public.etl_access_token")
        _spare_the_disk(home)
        yield stack


def _spare_the_disk(home: Path) -> None:
    """Nothing waits for the disk: what was committed outlives a killed server all the same, only not a power cut."""
    state = load(Home.at(home))
    assert state is not None
    for change in ("fsync = off", "full_page_writes = off"):
        postgres.query(state.url(postgres.ADMIN, state.admin_password), f"alter system set {change}")
    postgres.query(state.url(postgres.ADMIN, state.admin_password), "select pg_reload_conf()")


def _remove(home: Path) -> None:
    down(home)
    shutil.rmtree(home)


def _remove_leftovers() -> None:
    """Stacks of test sessions that were killed before they could clean up."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = home.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)) and os.access(home, os.W_OK):
            with suppress(StackError, FileNotFoundError):  # another process of this session may be at it too
                down(home)
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack of this test process: migrated, without demo data. It may hold what earlier tests left."""
    _remove_leftovers()
    with temporary_stack() as running:
        yield running


@pytest.fixture
def clean_stack(stack: Stack) -> Stack:
    """The session's stack with empty tables and an empty bucket `reports`, both services up."""
    return emptied(stack)


def emptied(stack: Stack) -> Stack:
    """A stack, once its tables and its bucket `reports` are empty."""
    try:
        socket.create_connection(("127.0.0.1", urlsplit(stack.url).port or 0)).close()
        _empty(stack)
    except (OSError, psycopg.OperationalError):  # a test before this one killed something
        up(stack.home, empty=True)
        _empty(stack)
    return stack


def _empty(stack: Stack) -> None:
    with psycopg.connect(stack.db_url) as connection:  # some thousand times: a process of psql takes twice as long
        connection.execute(f"{_EMPTY_TABLES};\ndelete from storage.objects where bucket_id = 'reports'".encode())
    shutil.rmtree(Home.at(stack.home).storage / "reports", ignore_errors=True)


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """This process and those that it starts hear SIGINT, also where the suite runs in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
