"""The nightly as a command, for a person, cron, systemd or CI: its arguments, its exit codes, its line of JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, get_args

from pydantic import ValidationError

from flows.engine.outcome import RunOutcome, RunRequest
from flows.forms import NightlyForm
from flows.forms.base import one_each
from flows.terminal.display import TERMINAL, show_error
from flows.terminal.output import last_output
from tasks.errors import ConfigurationError, LeaseHeld, PipelineError, RunHeld, SettingsError, carried, said_of
from tasks.files.layout import manifest_path
from tasks.ledger.as_of import AsOf
from tasks.ledger.guard import require_known
from tasks.platform.interrupts import interruptible
from tasks.settings import TransportChoice

EXIT = {"committed": 0, "dry_run": 0, "failed": 1, "held": 3, "declined": 4}
USAGE = 2
EXIT_CODES = """\
exit codes:
  0    committed, or a dry run that is sound
  1    failed: the message says what happened, what was written, what to do
  2    usage or settings: nothing was started
  3    held: a metric is outside its bounds, and a person decides
  4    declined: another run holds the lease
  130  stopped by hand (Ctrl-C); 143 by SIGTERM, 129 by SIGHUP"""
AS_OF_HELP = (
    "the instant that the reports are as of, exclusive. A day is the midnight with which it begins: 2026-02-01 covers "
    "whole days up to and including 2026-01-31. An instant: 2026-02-01T12:00Z. midnight: that of today, UTC. now: this "
    "moment. resume: that of the last run, if it failed, else midnight (default: %(default)s)"
)
TRANSPORT_HELP = (
    "how to reach the project. postgres is best for large tables and needs SUPABASE_DB_URL; rest needs no database "
    "password; auto is postgres where that is set (default: auto)"
)
_COUNTS = {  # name in the line of JSON → names in an outcome: of a run, and of a dry run
    "read": ("read",),
    "kept": ("kept",),
    "rejected": ("rejected",),
    "after_as_of": (),
    "inserted": ("inserted", "inserts"),
    "updated": ("updated", "updates"),
    "unchanged": ("unchanged",),
    "deleted": ("deleted", "deletes"),
    "refused": ("refused",),
}


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments: what to run, and whether to end with a line of JSON. given: as on the command line."""

    given: argparse.Namespace
    form: NightlyForm

    @property
    def request(self) -> RunRequest:
        """What the run is asked for."""
        form = self.form
        return RunRequest(
            as_of=AsOf.instant(form.instant) if form.instant else AsOf.parse(form.as_of),
            transport=form.transport,
            accept=frozenset(form.accept),
            dry_run=form.dry_run,
            full_refresh=form.full_refresh,
        )


class UsageError(PipelineError):
    """Arguments that cannot be used."""


def _arguments_of(prog: str) -> str:
    return f"`{prog} --help` lists the arguments."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}.", remedy=_arguments_of(self.prog))


def main(arguments: Sequence[str] | None, *, prog: str, run: Callable[[Options], RunOutcome]) -> int:
    """Parse, run, report. Returns the exit code: see `EXIT_CODES`.

    run: does it. While it runs stderr shows its stages, or with -v its log; stdout ends with a summary, or with --json
    one JSON object on one line, whatever happened. Errors are on stderr in either case.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    failed = partial(_failed, as_json="--json" in given)
    try:
        options = _parse(given, prog)
    except (UsageError, ConfigurationError) as error:
        return failed(error, USAGE)
    if meaning := AsOf.explain_day(options.given.as_of):
        sys.stderr.write(f"· {meaning}\n")
    with interruptible() as signals:
        try:
            with TERMINAL.open(verbose=options.given.verbose):
                outcome = run(options)
        except PipelineError as error:
            return failed(error, USAGE if isinstance(error, SettingsError) else EXIT[status_of(error)])
        except KeyboardInterrupt as stop:
            return failed(*stopped(stop, signals))
        except Exception as error:  # noqa: BLE001 - a defect of ours: a sentence, and no value of a row
            from flows.engine.stage import unexpected  # Prefect reads the environment when it is imported: not before

            return failed(unexpected("The command", error, "command"), EXIT["failed"])
    if options.given.json:
        _print_json(json_of(outcome))
    else:
        _show(outcome)
    return EXIT[outcome.status]


def stopped(stop: KeyboardInterrupt, signals: Sequence[int]) -> tuple[PipelineError, int]:
    """What there is to say of a command that was ended by a signal, and its exit code: 128 and the signal's number.

    A run has put into `stop` which one it was and what it had written; Prefect, which signal it caught.
    """
    number = [*signals, *(of for of in stop.args if isinstance(of, int)), signal.SIGINT][0]
    by = "by hand" if number == signal.SIGINT else f"by {signal.Signals(number).name}"
    error = carried(stop) or PipelineError("Stopped.", remedy="Readers never see a partial run.")
    error.message = error.message.replace("Stopped", f"Stopped {by}", 1)
    return error, 128 + number


def show_failure(error: PipelineError) -> None:
    """What went wrong, what was written by then, what to do, and the run's page, on stderr: a line each."""
    written, page = error.written, error.facts.get("page")
    show_error(
        error.message,
        f"Written: {written}" if written and written not in error.message else "",
        error.remedy,
        f"The run's page: {page}" if page else "",
    )


def _show(outcome: RunOutcome) -> None:
    from flows.terminal.summary import show

    with last_output():
        show(outcome)


def _parse(given: list[str], prog: str) -> Options:
    namespace = parser(prog).parse_args(given)
    require_known(one_each(namespace.accept))
    try:
        form = NightlyForm(
            as_of=namespace.as_of,
            transport=namespace.transport,
            accept=namespace.accept,
            dry_run=namespace.dry_run,
            full_refresh=namespace.full_refresh,
        )
    except ValidationError as error:
        said = [said_of(problem) for problem in error.errors()]
        message = " ".join([*said, AsOf.explain_day(namespace.as_of)]).rstrip()
        raise UsageError(message, remedy=_arguments_of(prog)) from None
    return Options(namespace, form)


def parser(prog: str) -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = _Parser(
        prog=prog,
        description="Run the whole pipeline once: read, clean, report, publish, write back, commit.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # `--js` would be taken for --json by some and not by others
    )
    parser.add_argument("--as-of", default="now", metavar="WHEN", help=AS_OF_HELP)
    parser.add_argument("--transport", default="auto", choices=get_args(TransportChoice), help=TRANSPORT_HELP)
    parser.add_argument("--full-refresh", action="store_true", help="read and clean every row, not only what changed")
    parser.add_argument("--accept", action="append", default=[], metavar="NAME", help="let this held metric pass")
    parser.add_argument("--dry-run", action="store_true", help="read, clean and count; write nothing")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line of stdout")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the log instead of the stages' bars")
    return parser


def status_of(error: PipelineError) -> str:
    """How the run of an error ended: `held`, `declined` or `failed`."""
    return "held" if isinstance(error, RunHeld) else "declined" if isinstance(error, LeaseHeld) else "failed"


def _failed(error: PipelineError, code: int, *, as_json: bool) -> int:
    show_failure(error)
    if as_json:
        print_json_of_error(error)
    return code


def print_json_of_error(error: PipelineError) -> None:
    """The line of JSON of a command that failed."""
    _print_json(json_of_error(error))


def _print_json(facts: Mapping[str, Any]) -> None:
    with last_output():
        sys.stdout.write(json.dumps(facts) + "\n")


def json_of(outcome: RunOutcome) -> dict[str, Any]:
    """The line of JSON of a run that ended well."""
    return {
        "run_id": outcome.run_id,
        "status": outcome.status,
        "mode": outcome.mode,
        "as_of": outcome.as_of.isoformat(),
        "transport": outcome.transport,
        "tables": {name: _counts(outcome, name) for name in outcome.tables},
        "manifest": manifest_path(outcome.run_path) if outcome.run_path else None,
        **_by_stage(outcome.stages),
        "base_run": outcome.base_run,
        "full_because": outcome.full_because,
        "not_read": dict(outcome.not_read),
        "drifted": outcome.drifted,
    }


def json_of_error(error: PipelineError) -> dict[str, Any]:
    """The same names for a run that did not; what it did not get to know is null or empty."""
    return {
        "run_id": error.run_id or None,
        "status": "committed" if error.facts.get("committed") else status_of(error),
        "mode": error.facts.get("mode"),
        "as_of": error.facts.get("as_of"),
        "transport": error.facts.get("transport"),
        "tables": {},
        "manifest": None,
        **_by_stage(error.facts.get("stages", {})),
        "base_run": error.facts.get("base_run"),
        "full_because": error.facts.get("full_because"),
        "not_read": dict(error.facts.get("not_read", {})),
        "drifted": error.facts.get("drifted"),
        "error": error.message,
        "remedy": error.remedy,
        "written": error.written,
    }


def _counts(outcome: RunOutcome, table: str) -> dict[str, int]:
    of = outcome.tables[table]
    counts = {name: next((of[key] for key in keys if key in of), 0) for name, keys in _COUNTS.items()}
    return {**counts, "after_as_of": int(outcome.headline.get(f"{table}_after_as_of") or 0)}


def _by_stage(stages: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    return {
        "seconds": {title: stage["seconds"] for title, stage in stages.items()},
        "bytes": {title: {way: int(stage[way]) for way in ("sent", "received")} for title, stage in stages.items()},
    }
