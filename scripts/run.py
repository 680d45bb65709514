"""`make run`: the nightly's command on the project that is set, or else on the local stack; with a page and a summary.

python -m scripts.run [the arguments of `python -m flows.nightly`]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from deploy import project
from deploy.prefect_services import Prefect, ServiceError, auth_string, starting
from flows.engine import command
from flows.engine.outcome import RunOutcome
from local_stack.state import free_port
from scripts.ui import running
from tasks.errors import TerminalError
from tasks.settings import load_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once; exit codes as of `python -m flows.nightly`, which `make` turns into 2 when they are not 0."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # the summary says it; the run page has the log
    return command.main(arguments, prog="python -m scripts.run", run=_run, show=_show, as_of="now")


def _run(options: command.Options) -> RunOutcome:
    try:
        with _prefect() as ready:
            project.use()
            command.require_settings(options.form.transport)
            return _in_flow(options, ready)
    except ServiceError as error:
        raise TerminalError(str(error)) from None


def _in_flow(options: command.Options, ready: Callable[[], None]) -> RunOutcome:
    from prefect.logging.handlers import APILogHandler

    from flows.engine.progress import DISPLAY
    from flows.nightly import nightly

    ready()
    try:
        with DISPLAY.terminal():
            return nightly(options.form)
    finally:
        APILogHandler().flush()  # while the server is there to take it


def _show(outcome: RunOutcome) -> None:
    from scripts.summary import show

    url = load_settings().supabase_url
    show(outcome, "the local stack" if urlsplit(url).hostname in ("127.0.0.1", "localhost") else url)


@contextmanager
def _prefect() -> Iterator[Callable[[], None]]:
    """Prefect's API for this run: the one that is set, that of `make ui`, or else a server that ends with the run.

    A server takes seconds to start, so it starts beside all that comes before it is needed; what is yielded waits.
    """
    project.set_up_prefect()
    home = Path(os.environ["PREFECT_HOME"])
    if "PREFECT_API_URL" in os.environ or (home / "profiles.toml").exists():
        yield lambda: None
    elif url := running(home):
        os.environ["PREFECT_API_URL"] = f"{url}/api"  # this run gets its page there
        os.environ["PREFECT_API_AUTH_STRING"] = auth_string(home)
        yield lambda: None
    else:
        project.tell("Starting Prefect")
        prefect = Prefect.at(home, port=free_port())
        os.environ.update(PREFECT_API_URL=f"{prefect.url}/api", PREFECT_API_AUTH_STRING=prefect.password)
        with starting(prefect, "--no-services") as ready:
            yield ready


if __name__ == "__main__":
    sys.exit(main())
