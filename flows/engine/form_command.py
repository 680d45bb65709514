"""A flow as a command: its form's fields are the arguments, and a dry run is the default here, too."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource

from flows.engine.command import EXIT, USAGE
from flows.forms import Form
from flows.terminal.display import show_error
from tasks.errors import PipelineError, said_of

F = TypeVar("F", bound=Form)


def run_form(flow: Callable[[F], Any], form: type[F], name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a flow with what the command line says; its answer, if any, is a line of JSON. Returns the exit code.

    0 when it ended well, 1 when it failed, 2 for arguments that cannot be used; errors are sentences on stderr. An
    argument that there is not ends Python with 2. The flow's pages are on the Prefect server of PREFECT_API_URL.
    """
    settings: Any = form  # any model will do, says CliApp
    source: Any = CliSettingsSource(
        settings, cli_prog_name=f"python -m flows.{name}", cli_kebab_case=True, cli_implicit_flags=True,
        cli_hide_none_type=True, cli_avoid_json=True,
    )  # fmt: skip
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        answer = flow(CliApp.run(form, cli_args=given, cli_settings_source=source))
    except ValidationError as error:
        show_error(" ".join(_sentence(problem) for problem in error.errors()))
        return USAGE
    except PipelineError as error:
        show_error(error.message, error.remedy)
        return EXIT["failed"]
    if answer is not None:
        sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _sentence(problem: Any) -> str:
    said = said_of(problem)
    where = "".join(f"--{str(part).replace('_', '-')}: " for part in problem["loc"][:1])
    return f"{where}{said}{'' if said.endswith('.') else '.'}"
