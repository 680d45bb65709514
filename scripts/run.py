"""`make run`: the nightly's command on the project that is set, or else on the local stack; with a page and a summary.

python -m scripts.run [the arguments of `python -m flows.nightly`]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deploy import project
from deploy.prefect_services import Prefect, ServiceError, ours, starting
from flows.engine import command
from flows.engine.outcome import RunOutcome
from local_stack.state import free_port
from scripts.ui import use_running
from tasks.errors import PipelineError, TerminalError
from tasks.settings import settings_over
from tasks.settings.environment import prefect_api_url


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once; exit codes as of `python -m flows.nightly`: `make` turns each that is not 0 into 2."""
    return command.main(arguments, prog="python -m scripts.run", run=_run)


def _run(options: command.Options) -> RunOutcome:
    try:
        with _prefect() as server:
            project.use()
            settings_over(options.form.transport)  # SettingsError where they cannot be used
            return _in_flow(options, server)
    except ServiceError as error:
        raise TerminalError(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Server:
    """Prefect's API for a run. ready: waits until it answers. stays: whether its pages can be opened afterwards."""

    ready: Callable[[], None] = lambda: None
    stays: bool = True


def _in_flow(options: command.Options, server: _Server) -> RunOutcome:
    from prefect.logging.handlers import APILogHandler

    from flows.engine.prefect_api import answer_of, prefect_answering
    from flows.nightly import nightly

    server.ready()
    try:
        with prefect_answering():
            outcome = answer_of(nightly, options.form)
    except PipelineError as error:
        error.facts = error.facts if server.stays else {**error.facts, "page": ""}
        raise
    finally:
        APILogHandler().flush()  # while the server is there to take it
    return outcome if server.stays else replace(outcome, page="")


@contextmanager
def _prefect() -> Iterator[_Server]:
    """Prefect's API for this run: the one that is set, that of `make ui`, or else a server that ends with the run.

    A server takes seconds to start, so it starts beside all that comes before it is needed.
    """
    project.set_up_prefect()
    home = Path(os.environ["PREFECT_HOME"])
    with ours(home):
        has_profile = (home / "profiles.toml").exists()
    if prefect_api_url() or has_profile or use_running(home):
        yield _Server()
    else:
        project.log_step("Starting Prefect")
        prefect = Prefect.at(home, port=free_port())
        os.environ.update(PREFECT_API_URL=f"{prefect.url}/api", PREFECT_API_AUTH_STRING=prefect.password)
        with starting(prefect, "--no-services") as ready:
            yield _Server(ready, stays=False)


if __name__ == "__main__":
    sys.exit(main())
