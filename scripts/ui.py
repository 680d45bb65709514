"""`make ui`: Prefect's server, deployments, automations and a worker on this machine; Ctrl-C ends all of it.

Works on the project that is set, or else on the local stack, which it starts if need be, and stops unless another
command uses it by then or has left it running.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
from rich.console import Console

from deploy import project
from deploy.prefect_services import ROOT, Prefect, ServiceError, answers, auth_string, server, worker
from local_stack import uses
from local_stack.arguments import folder, port
from tasks.errors import PipelineError

HOME = Path("data/local/prefect")
POOL = "nightly-pool"
WELCOME = """
  {url}
  Password: {password}   (kept in {file})

Deployments → nightly → Run starts a run. Ctrl-C ends everything."""


def main(arguments: list[str] | None = None) -> int:
    """Start everything and wait for Ctrl-C; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if already := running(options.home):
        print(f"It runs already: {already} (password: {options.home / 'auth'})")
        return 0
    end_on_signals()
    try:
        with local_project(), _services(options, console) as (prefect, crew):
            end_on_signals()  # the database driver has put a handler of its own in place meanwhile
            print(WELCOME.format(url=prefect.url, password=prefect.password, file=prefect.home / "auth"), flush=True)
            crew.wait()
            raise ServiceError(f"The worker ended by itself; {prefect.home / 'worker.log'} says why.")
    except (PipelineError, ServiceError) as error:
        console.print(f"error: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Ended.")
        return 0


def end_on_signals() -> None:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt, also in a shell's background job, which begins with it ignored.

    So does a terminal that is closed, unless `nohup` has it ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


@contextmanager
def local_project() -> Iterator[None]:
    """The project to work on; a local stack that no other command uses or is to leave running stops afterwards."""
    with nullcontext() if project.is_set() else uses(project.LOCAL_HOME, say=project.log_step):
        project.use(keep=False)
        yield


@contextmanager
def _services(options: argparse.Namespace, console: Console) -> Iterator[tuple[Prefect, subprocess.Popen[bytes]]]:
    """Server, deployments, automations, worker, in this order; ended in the other."""
    prefect = Prefect.at(options.home, port=options.port)
    with console.status("Starting Prefect's server, about 20 s …") as line, server(prefect), _noted(prefect):
        line.update("Deploying the flows, setting up automations …")
        bootstrap(prefect)
        with worker(prefect, POOL) as crew:
            line.stop()
            yield prefect, crew


def bootstrap(prefect: Prefect) -> None:
    """Run scripts.bootstrap against that server, as a process: Prefect reads its settings once, at import."""
    command = [sys.executable, "-m", "scripts.bootstrap", "--replace"]  # this server is ours alone
    done = subprocess.run(command, cwd=ROOT, env=prefect.env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"The server could not be set up:\n{(done.stderr or done.stdout).strip()[-2000:]}")


@contextmanager
def _noted(prefect: Prefect) -> Iterator[None]:
    """While it runs, `ui.json` says where, for a second `make ui`."""
    note = prefect.home / "ui.json"
    note.write_text(json.dumps({"url": prefect.url, "pid": os.getpid()}))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def running(home: Path) -> str | None:
    """The address of this folder's own server, if it answers; a note left by a killed one is ignored."""
    try:
        note = json.loads((home / "ui.json").read_text())
        return str(note["url"]) if _is_one(note["pid"]) and answers(note["url"]) else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def use_running(home: Path) -> bool:
    """Have this process use the folder's own server, if it answers; whether it does."""
    url = running(home)
    if url:
        os.environ.update(PREFECT_API_URL=f"{url}/api", PREFECT_API_AUTH_STRING=auth_string(home))
    return bool(url)


def _is_one(pid: int) -> bool:
    """Whether that process is this command, and no later one of the same number. When it started does not say so:
    that moves with the system's clock."""
    return any(argument.endswith(("scripts.ui", "scripts/ui.py")) for argument in psutil.Process(pid).cmdline())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.ui", description="Prefect's server and a worker.")
    parser.add_argument("--home", type=folder, default=HOME, help=f"folder for all of its state ({HOME})")
    parser.add_argument("--port", type=port, help="port of the server (4200, or a free one when that is taken)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
