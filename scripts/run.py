"""`make run`: the whole pipeline once, on the project that is set or else on the local stack.

python -m scripts.run [--as-of now|midnight|resume|INSTANT] [--transport auto|rest|postgres] [--accept NAME] [--dry-run]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from deploy import project
from deploy.prefect_services import Prefect, ServiceError, auth_string, starting
from flows.forms import NightlyForm
from local_stack.state import free_port
from scripts.ui import running
from tasks.errors import PipelineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and say what came of it: 0 done, 1 failed, 2 asked for in a way that cannot be, 3 held."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ValidationError as error:
        for problem in error.errors():
            _complain(str(problem["msg"]).removeprefix("Value error, "))
        return 2
    except ServiceError as error:
        _complain(str(error))
        return 1
    except PipelineError as error:
        _complain(error.message, error.remedy)
        return 3 if type(error).__name__ == "RunHeld" else 1
    except KeyboardInterrupt:
        _complain(
            "Stopped by hand.", "Nothing half done is visible; `make run ARGS='--as-of resume'` goes on from here."
        )
        return 130


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")  # the summary says it; the run page has the log
    form = NightlyForm(as_of=options.as_of, transport=options.transport, accept=options.accept, dry_run=options.dry_run)
    with _prefect() as ready:
        name = project.use()
        from prefect.logging.handlers import APILogHandler

        from flows.engine.progress import DISPLAY
        from flows.nightly import nightly
        from scripts.summary import show

        ready()
        try:
            with DISPLAY.terminal():
                outcome = nightly(form)
        finally:
            APILogHandler().flush()  # while the server is there to take it
        show(outcome, name)
    return 0


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make run", description="Run the whole pipeline once.")
    parser.add_argument("--as-of", default="now", help="now (default), midnight, resume, or an instant of the past")
    parser.add_argument("--transport", default="auto", choices=("auto", "rest", "postgres"))
    parser.add_argument("--accept", action="append", default=[], metavar="NAME", help="let this held figure pass")
    parser.add_argument("--dry-run", action="store_true", help="read, clean and count; write nothing")
    return parser


def _complain(message: str, remedy: str = "") -> None:
    console = Console(stderr=True, soft_wrap=True)
    console.print(f"✗ {message}", style="bold red", markup=False, highlight=False)
    if remedy:
        console.print(f"  {remedy}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
