"""A stack starts, is found, breaks and comes back: a clear message and a way out, never a hang, never data lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from local_stack import Stack, StackError, api, down, find, postgres, reset, status, up
from local_stack.home import Home
from local_stack.processes import running
from tests.conftest import temporary_home, temporary_stack

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("stack-lifecycle")]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A stack of these tests' own, to be broken."""
    with temporary_stack() as running_stack:
        running_stack.query("create table kept (id int); insert into kept values (42)")
        yield running_stack


@pytest.fixture
def empty_home() -> Iterator[Path]:
    """A folder that no stack has been in."""
    with temporary_home() as home:
        yield home


def process_of(stack: Stack, name: str) -> psutil.Process:
    """The process `api` or `postgres` of a stack."""
    process = running({"api": api, "postgres": postgres}[name].service(Home.at(stack.home)))
    assert process
    return process


def family(stack: Stack) -> list[psutil.Process]:
    """Every process of a stack."""
    heads = [process_of(stack, name) for name in ("api", "postgres")]
    return [relative for head in heads for relative in (head, *head.children(recursive=True))]


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m local_stack`."""
    line = [sys.executable, "-m", "local_stack", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)


def serves(stack: Stack) -> bool:
    """Whether REST answers, with what was kept."""
    assert stack.query("select id from kept") == "42"
    return httpx.get(f"{stack.url}/rest/v1/", headers={"apikey": stack.service_key}).status_code < 500


# --- beside others, closed to others ---


def test_stacks_live_side_by_side(own: Stack, stack: Stack) -> None:
    assert own.query("select count(*) from pg_tables where tablename = 'kept'") == "1"
    assert stack.query("select count(*) from pg_tables where tablename = 'kept'") == "0"
    assert httpx.get(f"{own.url}/rest/v1/kept", headers={"apikey": stack.service_key}).status_code == 401


def test_it_listens_on_this_machine_only(own: Stack) -> None:
    listening = {
        connection.laddr.ip
        for process in family(own)
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_secrets_are_where_only_the_owner_reads(own: Stack) -> None:
    state = json.loads((own.home / "stack.json").read_text())
    secrets = [value for name, value in state.items() if isinstance(value, str) and name != "access_token_hook"]
    assert len(set(secrets)) == 6
    seen = repr(own) + "".join(" ".join(process.cmdline()) for process in family(own))
    logs = "".join(log.read_text() for log in (own.home / "logs").iterdir())
    assert not [secret for secret in secrets if secret in seen or secret in logs]
    for name in ("stack.json", "api.json"):
        assert stat.S_IMODE((own.home / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((own.home / "postgres").stat().st_mode) == 0o700


def test_the_database_has_a_password(own: Stack) -> None:
    with pytest.raises(StackError, match="password authentication failed"):
        Stack(own.home, own.url, "", "", own.db_url.replace(own.db_url.split(":")[2].split("@")[0], "wrong"), "").query(
            "select 1"
        )


def test_the_owner_is_as_on_the_hosted_platform(own: Stack) -> None:
    facts = "select rolsuper, rolcreaterole, rolcreatedb, rolbypassrls from pg_roles where rolname = current_user"
    assert own.query(facts) == "f|t|t|t"
    assert own.query("select current_user, nspowner::regrole from pg_namespace where nspname = 'public'") == (
        "postgres|postgres"
    )


# --- found again ---


def test_up_again_finds_it(own: Stack) -> None:
    before = [process_of(own, name).pid for name in ("api", "postgres")]
    assert up(own.home, empty=True) == own == find(own.home)
    assert [process_of(own, name).pid for name in ("api", "postgres")] == before


@pytest.mark.parametrize("note", [None, "", '{"pid": 999999999}', '{"pid": 1, "started_at": 1.0}'])
def test_what_no_pid_file_leads_to_is_found(own: Stack, note: str | None) -> None:
    """Whoever started it was killed before it noted the pid, or the file is of another time."""
    before = [process_of(own, name).pid for name in ("api", "postgres")]
    looking = [subprocess.Popen(["tail", "-f", own.home / name]) for name in ("api.json", "postgres")]
    for path in (own.home / "api.pid", own.home / "postgres.pid"):
        path.unlink() if note is None else path.write_text(note)
    assert status(own.home).complete
    assert up(own.home, empty=True) == own
    assert [process_of(own, name).pid for name in ("api", "postgres")] == before, "and not who only looks at its files"
    for stranger in looking:
        stranger.kill()
        stranger.wait()


def test_down_keeps_the_data_and_the_ports(own: Stack) -> None:
    processes = family(own)
    (own.home / "api.pid").unlink()
    (own.home / "postgres.pid").write_text("")
    assert down(own.home), "a pid that was not noted, or not whole, is no reason to leave it running"
    assert not [process for process in processes if process.is_running()]
    assert not status(own.home).complete
    assert not down(own.home)
    assert up(own.home, empty=True) == own
    assert serves(own)


def test_a_home_that_was_moved_while_it_ran_is_found(own: Stack) -> None:
    """Its database went on in the moved folder, and a second one could have been started on the same files."""
    moved = own.home.rename(own.home.with_name(f"{own.home.name}-moved"))
    try:
        assert status(moved).complete
        assert serves(up(moved, empty=True))
        assert down(moved)
    finally:
        moved.rename(own.home)
    assert up(own.home, empty=True) == own


def test_a_copy_of_a_home_whose_stack_runs_can_have_one_of_its_own(own: Stack, empty_home: Path) -> None:
    subprocess.run(["cp", "-a", f"{own.home}/.", str(empty_home)], check=True)
    with pytest.raises(StackError, match="needs ARGS='--api-port 0 --db-port 0'"):
        up(empty_home, empty=True)
    copied = up(empty_home, empty=True, api_port=0, db_port=0)
    assert (serves(copied), serves(own)) == (True, True)


@pytest.mark.parametrize("service", ["api", "database"])
def test_what_was_killed_comes_back(own: Stack, service: str) -> None:
    getattr(own, f"kill_{service}")()
    assert not getattr(status(own.home), service)
    assert up(own.home, empty=True) == own
    assert serves(own)


def test_a_database_whose_programs_are_gone_is_started_again(own: Stack) -> None:
    """As when .venv was made again under a running stack: functions ask for libraries that are not there any more."""
    own.kill_database()
    (programs := own.home / "bin").symlink_to(postgres.program("postgres").parent)
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("LOCAL_STACK_POSTGRES", str(programs))
        up(own.home, empty=True)
    started = process_of(own, "postgres")
    programs.unlink()
    assert up(own.home, empty=True) == own
    assert (process_of(own, "postgres") != started, serves(own)) == (True, True)


def test_an_api_that_hangs_is_replaced(own: Stack) -> None:
    hanging = process_of(own, "api")
    hanging.send_signal(signal.SIGSTOP)
    assert up(own.home, empty=True) == own
    assert process_of(own, "api") != hanging
    assert serves(own)


def test_stale_files_never_point_at_a_stranger(own: Stack) -> None:
    """After a restart of the machine a pid may be somebody else's: here, that of this test."""
    own.kill_api()
    own.kill_database()
    (own.home / "api.pid").write_text(json.dumps({"pid": os.getpid()}))
    postmaster = own.home / "postgres" / "postmaster.pid"
    lines = postmaster.read_text().split("\n")
    postmaster.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    assert up(own.home, empty=True) == own
    assert serves(own)


def test_reset_starts_from_scratch_with_the_same_keys(own: Stack) -> None:
    assert reset(own.home, empty=True) == own
    assert own.query("select count(*) from pg_tables where tablename = 'kept'") == "0"
    own.query("create table kept (id int); insert into kept values (42)")


# --- refused, with a way out ---


@pytest.mark.parametrize("option", ["api_port", "db_port"])
def test_a_taken_port_is_named_and_nothing_changes(own: Stack, option: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StackError, match=rf"Port {port} is taken.*--{option.replace('_', '-')}"):
            up(own.home, empty=True, **{option: port})
    assert up(own.home, empty=True) == own


def test_a_remembered_port_that_is_taken_has_a_way_out(own: Stack) -> None:
    down(own.home)
    port = int(own.url.rsplit(":", 1)[1])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(StackError, match=r"make up ARGS='--api-port 0' \(0 picks a free one\)"):
            up(own.home, empty=True)  # as `make run` does, which has no such option
        moved = up(own.home, empty=True, api_port=0)
        assert moved.url != own.url
    assert up(own.home, empty=True, api_port=port) == own


def test_an_api_that_cannot_start_shows_its_log(own: Stack) -> None:
    state = own.home / "stack.json"
    sound = state.read_text()
    state.write_text(json.dumps({**json.loads(sound), "lite_password": "wrong-on-purpose"}))
    with pytest.raises(StackError, match=r"The API did not start[\s\S]*password authentication failed") as refused:
        up(own.home, empty=True)
    assert "wrong-on-purpose" not in str(refused.value)
    state.write_text(sound)
    assert up(own.home, empty=True) == own


def test_a_damaged_state_is_named(empty_home: Path) -> None:
    (empty_home / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"stack\.json is damaged"):
        up(empty_home, empty=True)
    (empty_home / "stack.json").unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_a_full_disk_is_named(empty_home: Path) -> None:
    small = empty_home / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", small], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        with pytest.raises(StackError, match="MB free"):
            up(small, empty=True)
    finally:
        subprocess.run(["umount", small], check=True)


# --- as a command ---


def test_two_commands_at_once_give_one_stack(empty_home: Path) -> None:
    line = [sys.executable, "-m", "local_stack", "up", "--empty", "--show-keys", "--home", str(empty_home)]
    both = [subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in "12"]
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    names = [line.split("=")[0] for line in answers[0][0].splitlines()]
    assert names == ["SUPABASE_URL", "SUPABASE_KEY", "SUPABASE_SERVICE_KEY", "SUPABASE_DB_URL"]
    plain = command("up", "--home", empty_home)
    values = dict(line.split("=", 1) for line in answers[0][0].splitlines())
    assert values["SUPABASE_URL"] in plain.stdout
    assert str(empty_home / "stack.json") in plain.stdout
    for name in ("SUPABASE_KEY", "SUPABASE_SERVICE_KEY", "SUPABASE_DB_URL"):
        assert values[name] not in plain.stdout + plain.stderr, "keys are printed on request only"
    assert values["SUPABASE_DB_URL"].split(":")[2].split("@")[0] not in plain.stdout + plain.stderr
    assert command("status", "--home", empty_home).returncode == 0
    assert command("down", "--home", empty_home).returncode == 0
    assert command("status", "--home", empty_home).returncode == 1
