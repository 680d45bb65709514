"""A Prefect server and a worker as children of this process, on 127.0.0.1, with all of their state in one folder.

Each runs in a session of its own, so that Ctrl-C reaches this process only, which then ends them in order. When this
process is killed they end by themselves.
"""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil

from local_stack.state import free_port, taken
from tasks.platform.whole_file import whole_file
from tasks.settings.environment import EVERYWHERE

ROOT = Path(__file__).parents[1]
DEFAULT_PORT = 4200
START_SECONDS = 180.0  # a fresh database on a busy machine; usually about 20
STOP_SECONDS = 20.0
TRIES = 10


class ServiceError(Exception):
    """A service that did not start or ended by itself; the message names its log."""


@dataclass
class Prefect:
    """Where the server of a folder is reached, and the environment of everything that belongs to it."""

    home: Path
    port: int
    env: dict[str, str] = field(repr=False)

    @classmethod
    def at(cls, home: Path, *, port: int | None = None, extra: Mapping[str, str] | None = None) -> Prefect:
        """The server of the folder `home`. Port: the one given, else 4200, else a free one.

        Raises ServiceError when the port given is taken, or the folder is not ours to write.
        """
        home = home.resolve()
        if port and taken(port):
            who = "Another Prefect server" if answers(f"http://127.0.0.1:{port}") else "Another program"
            raise ServiceError(
                f"{who} uses port {port}. Nothing was started or changed there. Give another --port, or none: then a "
                "free one is taken."
            )
        with ours(home):
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            env = environment(home, port or (DEFAULT_PORT if not taken(DEFAULT_PORT) else free_port()))
        return cls(home, int(env["PREFECT_SERVER_API_PORT"]), {**os.environ, **env, **(extra or {})})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password(self) -> str:
        """What the server asks of people and programs, as `user:password`."""
        return self.env["PREFECT_API_AUTH_STRING"]


@contextmanager
def ours(folder: Path) -> Iterator[None]:
    """A folder that this user may not write is a sentence."""
    try:
        yield
    except OSError as error:
        raise ServiceError(
            f"{folder} cannot be made or written: {error.strerror}. Name another folder (PREFECT_HOME for `make run`, "
            "--home for `make ui`), or make this one yours."
        ) from None


def auth_string(home: Path) -> str:
    """`admin:<password>` of the server of this folder, made once and readable by its owner only.

    Never an empty one, which a disk that was full may have left: with that, the server asks for no password.
    """
    path = home / "auth"
    with suppress(FileNotFoundError):
        if kept := path.read_text().strip():
            return kept
    text = f"admin:{secrets.token_urlsafe(12)}"
    with whole_file(path, private=True) as part:
        part.write_text(text)
    return text


def own_temporary_folder(home: Path) -> Path:
    """A temporary folder of this user alone: Prefect's `runner_storage` in the shared one belongs to whoever was first.

    It is short, since sockets lie in it; below `home` where somebody else has taken that name.
    """
    folder = Path(tempfile.gettempdir()) / f"supabase-nightly-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    facts = folder.lstat()
    if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077:
        return folder
    folder = home / "tmp"
    folder.mkdir(exist_ok=True, mode=0o700)
    return folder


def environment(home: Path, port: int) -> dict[str, str]:
    """Prefect's settings: state under `home`, reachable from this machine and with its password only, no telemetry.

    What the environment or .env says of the pages and the gateway of another server is not for this one: its pages sent
    whoever opened them, with this password, to the API of that one, and a gateway's `Authorization` stood in its place.
    """
    password, url = auth_string(home), f"http://127.0.0.1:{port}"
    return {
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_API_AUTH_STRING": password,
        "TMPDIR": str(own_temporary_folder(home)),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_CLIENT_CUSTOM_HEADERS": "{}",
        "PREFECT_UI_URL": url,
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_UI_SERVE_BASE": "/",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///file:{quote(str(home))}/prefect.db?uri=true",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # SQLite: wait for a lock rather than fail an automation
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage"),
        "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "300",
        **EVERYWHERE,
        "ETL_PROJECT_DIR": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def server(prefect: Prefect) -> Iterator[None]:
    """The server, answering when the body begins, gone after it. ServiceError when it does not come up."""
    with starting(prefect) as ready:
        ready()
        yield


@contextmanager
def starting(prefect: Prefect, *flags: str) -> Iterator[Callable[[], None]]:
    """The server while it still starts, which takes several seconds; what is yielded waits until it answers."""
    port = str(prefect.port)
    command = ["server", "start", "--host", "127.0.0.1", "--port", port, "--analytics-off", *flags]
    if taken(prefect.port):
        raise ServiceError(f"Port {prefect.port} was taken by another program meanwhile. Start again.")
    with _child("server", command, prefect) as process:
        yield lambda: _wait(process, prefect)


@contextmanager
def worker(prefect: Prefect, pool: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process worker of the pool: runs what is due. At its end the flows that it runs are ended too.

    Without a limit of its own: Prefect's worker dies of that when a run whose process still ends is started again.
    """
    command = ["worker", "start", "--pool", pool, "--name", "local"]
    with _child("worker", command, prefect) as process:
        yield process


@contextmanager
def _child(name: str, arguments: list[str], prefect: Prefect) -> Iterator[subprocess.Popen[bytes]]:
    log = _log(prefect, name)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.tether", *arguments],
            cwd=ROOT,
            env=prefect.env,
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)
        if process.stdin:
            process.stdin.close()


def _log(prefect: Prefect, name: str) -> Path:
    return prefect.home / f"{name}.log"


def _wait(process: subprocess.Popen[bytes], prefect: Prefect) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if answers(prefect.url) and listens(process.pid, prefect.port):
            return
        time.sleep(0.2)
    raise ServiceError(f"Prefect's server did not start; {_log(prefect, 'server')} says why.")


def listens(pid: int, port: int) -> bool:
    """Whether that process, or a child of it, holds the port: another server that answers there is not ours."""
    try:
        process = psutil.Process(pid)
        for member in (process, *process.children(recursive=True)):
            if any(c.laddr and c.laddr.port == port for c in member.net_connections("tcp") if c.status == "LISTEN"):
                return True
    except psutil.Error:
        return False
    return False


def answers(url: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        return _http().get(f"{url}/api/health", timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def api(prefect: Prefect, path: str, body: object | None = None) -> Any:
    """What the server's API answers to a request, from JSON; a body makes it a POST."""
    return request(prefect, "GET" if body is None else "POST", path, body).raise_for_status().json()


def request(prefect: Prefect, method: str, path: str, body: object | None = None) -> httpx.Response:
    """What the server's API answers to one request.

    SQLite under load makes the server answer 503 for a moment, or late: it is asked again, after a late answer only
    where doing it twice is doing it once.
    """
    user, _, password = prefect.password.partition(":")
    may_repeat = method != "POST" or path.endswith("/filter")
    for left in reversed(range(TRIES)):
        try:
            answer = _http().request(method, f"{prefect.url}/api{path}", json=body, auth=(user, password), timeout=30)
        except httpx.ReadTimeout:
            if not (left and may_repeat):
                raise
            continue
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        time.sleep(1)
    return answer


@cache
def _http() -> httpx.Client:
    """One for all requests, as reading the certificates takes longer than a request. It keeps no connection."""
    return httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, patience, then SIGKILL to whatever of its family is left."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=3)
    for relative in alive:
        relative.kill()
    psutil.wait_procs(alive, timeout=5)
