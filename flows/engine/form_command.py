"""A flow as a command: its form's fields are the arguments, and a dry run is the default here, too."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prefect import Flow
from prefect.settings import PREFECT_UI_URL
from pydantic import ValidationError
from pydantic_settings import CliSettingsSource

from flows.engine.artifacts import reports_kept
from flows.engine.command import EXIT, USAGE, show_failure, stopped
from flows.engine.prefect_api import answer_of, prefect_answering, start_own_server
from flows.engine.stage import unexpected
from flows.forms import Form
from flows.terminal.display import show_error
from flows.terminal.output import last_output
from tasks.errors import PipelineError, SettingsError, said_of
from tasks.platform.interrupts import interruptible
from tasks.settings import settings_over

F = TypeVar("F", bound=Form)
_VALUES = {"date": "YYYY-MM-DD", "int": "N", "list[str]": "NAME,NAME", "str": None}  # None: the argument's name
_SAID = {  # in a form, and as Python writes a default → in the help of a command
    "Switch it off to write. (default: True)": "This is the default; --no-dry-run writes.",
    " (default: True)": " This is the default.",
    " (default: False)": "",
    " (default: None)": "",
    " (default factory: list)": "",
    "Empty:": "Left out:",
    "Empty takes": "Left out it takes",
}


def run_form(flow: Callable[[F], Any], form: type[F], name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a flow with what the command line says. Returns the exit code.

    0 when it ended well, 1 when it failed, 2 for arguments or settings that cannot be used, 130 when it was stopped by
    hand and 143 by SIGTERM; errors are sentences on stderr. An argument that there is not ends Python with 2. stdout
    has the report of the flow, in Markdown, and then its answer, if any, as one line of JSON. The same report is on the
    flow's page, where PREFECT_API_URL names a server.
    """
    with reports_kept() as reports:
        answer, code = _ended(flow, form, name, list(sys.argv[1:] if arguments is None else arguments))
    with last_output():
        for report in reports:
            sys.stdout.write(f"{report.rstrip()}\n\n")
        if answer is not None:
            sys.stdout.write(json.dumps(answer) + "\n")
    return code


def _ended(flow: Callable[[F], Any], form: type[F], name: str, given: list[str]) -> tuple[Any, int]:
    """The flow's answer, None if it has none or did not end well, and the exit code."""
    with interruptible() as signals:
        try:
            options = _parsed(form, name, given)
            with prefect_answering():
                if isinstance(flow, Flow):
                    settings_over(getattr(options, "transport", "auto"))  # before somebody waits for a server
                    start_own_server()
                return answer_of(flow, options), 0
        except ValidationError as error:
            show_error(" ".join(_sentence(problem) for problem in error.errors()))
            return None, USAGE
        except PipelineError as error:
            return None, _failed(error, USAGE if isinstance(error, SettingsError) else EXIT["failed"])
        except KeyboardInterrupt as stop:
            return None, _failed(*stopped(stop, signals))
        except Exception as error:  # noqa: BLE001 - a defect of ours: a sentence, and no value of a row
            return None, _failed(unexpected("The command", error, name), EXIT["failed"])


def _failed(error: PipelineError, code: int) -> int:
    if not PREFECT_UI_URL.value():  # a server of its own, which ends with the command, and its pages
        error.facts = {**error.facts, "page": ""}
    show_failure(error)
    return code


def _parsed(form: type[F], name: str, given: list[str]) -> F:
    """By the arguments alone. Pydantic's `CliApp` takes variables of a field's name as well: `dry_run=false` wrote."""
    settings: Any = form  # any model will do
    source: Any = CliSettingsSource(
        settings, cli_prog_name=f"python -m flows.{name}", cli_kebab_case=True, cli_implicit_flags=True,
        cli_hide_none_type=True, cli_avoid_json=True, add_argument_method=_add_argument,
    )  # fmt: skip
    return form.model_validate(source(args=given)())


def _add_argument(parser: Any, *names: str, **how: Any) -> Any:
    """Add an argument; its value and its help are in the words of a terminal, not in those of Python or a form."""
    if how.get("metavar") in _VALUES:
        how["metavar"] = _VALUES[how["metavar"]] or names[0].lstrip("-").replace("-", "_").upper()
    for said, instead in _SAID.items():
        how["help"] = how.get("help", "").replace(said, instead)
    return parser.add_argument(*names, **how)


def _sentence(problem: Any) -> str:
    said = said_of(problem)
    where = "".join(f"--{str(part).replace('_', '-')}: " for part in problem["loc"][:1])
    return f"{where}{said}{'' if said.endswith('.') else '.'}"
