"""REST, Auth and Storage: @supabase/lite under our launcher, on Node.js from its wheel."""

from __future__ import annotations

import hashlib
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from local_stack import npm, processes
from local_stack.errors import StackError, tail
from local_stack.home import Home
from local_stack.state import State, require_free

NAME = "api"
SOURCE = Path(__file__).with_name("lite")
_START_SECONDS = 60


def install(say: Callable[[str], None]) -> None:
    """Install what the lock file names, once; again only when the lock file changed."""
    npm.install(SOURCE, "@supabase/lite", say)


def start(home: Home, state: State, say: Callable[[str], None]) -> None:
    """Start it unless it runs with these very settings and answers. Returns when it answers."""
    settings = _settings(home, state)
    log = home.log(NAME)
    if processes.running(service(home)):
        if not _port_answers(home):
            processes.kill(service(home))  # a process that hangs does not hear a request to stop
        elif home.launcher_settings.read_text() == settings:
            return
        stop(home)
    say("Starting REST, Auth and Storage")
    require_free(state.api_port, "--api-port")
    home.write_private(home.launcher_settings, settings)
    written = log.stat().st_size if log.exists() else 0
    arguments = [npm.node(), SOURCE / "launcher.mjs", home.launcher_settings]
    process = processes.spawn(processes.Command(service(home), arguments, log, npm.environment()))
    if not processes.wait_until(lambda: answers(state), process, seconds=_START_SECONDS):
        stop(home)
        raise StackError(f"The API did not start.{tail(log, since=written)}\n", remedy="Fix the cause and start again.")


def service(home: Home) -> processes.Service:
    """Its process: the launcher with the home's settings."""
    return processes.Service(home.pid_file(NAME), "launcher.mjs", home.launcher_settings, home.path)


def stop(home: Home) -> bool:
    """Let it finish its requests, at most three seconds. True when it ran."""
    return processes.stop(service(home), signals=(signal.SIGTERM,), patience=5)


def answers(state: State) -> bool:
    """Whether it answers a ping within five seconds."""
    return _ask("GET", state.api_port, "/_system/ping")


def _port_answers(home: Home) -> bool:
    try:
        port = json.loads(home.launcher_settings.read_text())["port"]
    except (OSError, ValueError, KeyError):
        return False
    return _ask("GET", port, "/_system/ping")


def reload_schema(state: State) -> None:
    """Make it see tables and functions that are new, before this returns."""
    if not _ask("POST", state.api_port, "/_system/reload", state.secret_key):
        raise StackError("The API did not read the database's schema again.", remedy="Run `down`, then `up`.")


def _ask(method: str, port: int, path: str, key: str = "") -> bool:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, headers={"apikey": key})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business here
    try:
        with opener.open(request, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _settings(home: Home, state: State) -> str:
    settings = {
        "database_url": state.url("lite", state.lite_password),
        "port": state.api_port,
        "jwt_secret": state.jwt_secret,
        "publishable_key": state.publishable_key,
        "secret_key": state.secret_key,
        "more_secret_keys": state.more_secret_keys,
        "signing_keys": state.signing_keys,
        "storage_dir": str(home.storage),
        "max_rows": state.max_rows,
        "file_size_limit_mib": state.max_file_mib,
        "jwt_expiry": state.jwt_expiry,
        "access_token_hook": state.access_token_hook,
        # A launcher that changed is started again.
        "version": hashlib.sha256(b"".join(file.read_bytes() for file in _sources())).hexdigest(),
    }
    return json.dumps(settings, indent=2)


def _sources() -> list[Path]:
    return [*sorted(SOURCE.glob("*.mjs")), SOURCE / "package-lock.json"]
