"""The errors of the pipeline.

PipelineError
├── TransientError          a retry or a new start can fix it
│   ├── ServiceUnavailable  network, overload, a body cut short
│   ├── ProofFailed         what was stored is not what was read
│   └── LeaseHeld           another run holds the lease
└── TerminalError           needs a person; nothing is retried
    ├── ConfigurationError  settings, contracts, a missing table or column
    │   ├── ChoiceError     a run or metric that was asked for and is not there
    │   └── SettingsError   settings that cannot be used; nothing was started
    ├── RequestRefused      the API said no, and would say so again
    │   └── AccessError     a key or role that may not do what the run needs
    ├── PreflightError      the sources cannot be trusted to be seen whole
    ├── ReadError           a read that could not be verified as complete
    │   └── NotThere        a run that a reader asked for, or what that run does not have
    ├── WriteError          the database refused what it should take
    ├── PublishError        a file could not be stored or verified
    │   └── FileLost        one of an earlier run is gone from the bucket, or damaged there
    ├── LeaseLost           another run took over; this one must write no more
    └── RunHeld             a metric is outside its bounds; a person accepts it by name

A message says what happened, to which table, page or file, and what was and was not written; the remedy says what to
do. Neither ever holds a secret, an e-mail, a name, a title or a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

DAY, INSTANT = "day like 2026-01-31", "instant like 2026-01-31T12:00Z"


def said_of(problem: Mapping[str, Any]) -> str:
    """What pydantic says of one wrong value (an item of `ValidationError.errors()`)."""
    return in_words(str(problem["msg"]))


def in_words(message: str) -> str:
    """A message of pydantic's, without its prefix; of a wrong day or instant how one is written."""
    message = message.removeprefix("Value error, ")
    message = re.sub("^Input should be a valid datetime.*", f"This is no {INSTANT}.", message)
    return re.sub("^(Input should be a valid date|Datetimes provided to dates).*", f"This is no {DAY}.", message)


class PipelineError(Exception):
    """Base of all; `message` is what happened, `remedy` what to do about it.

    A run that ends with it adds its id, the stage, and what was written until then.
    """

    run_id: str = ""
    stage: str = ""
    written: str = ""
    facts: Mapping[str, Any]

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.facts = {}  # as_of, transport, stages and mode of the run that ended with it

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        # Prefect pickles exceptions; keyword-only arguments need help to survive that.
        return (_rebuild, (type(self), self.message, self.remedy))


def _rebuild(kind: type[PipelineError], message: str, remedy: str) -> PipelineError:
    return kind(message, remedy=remedy)


def carried(signal: BaseException) -> PipelineError | None:
    """The error in a signal's args, which says how far it got what the signal ended; None where nobody has said."""
    return next((of for of in signal.args if isinstance(of, PipelineError)), None)


def report_of(error: BaseException) -> PipelineError:
    """What says how far it got: the error, or of a signal the one in its args, which is made where there is none."""
    found = error if isinstance(error, PipelineError) else carried(error)
    if found is None:
        found = PipelineError("Stopped.", remedy="Start it again.")
        error.args = (*error.args, found)
    return found


class TransientError(PipelineError):
    """A retry or a new start can fix it."""


class ServiceUnavailable(TransientError):
    """The network or the service failed for now; `retry_after` in seconds when the server said so."""

    retry_after: float | None = None
    code: str | None = None
    status: int = 0


class LeaseHeld(TransientError):
    """Another run holds the lease."""


class ProofFailed(TransientError):
    """What was stored is not what was read; nothing of it was committed, and the next start reads everything."""


class TerminalError(PipelineError):
    """Needs a person; a retry would fail the same way."""


class ConfigurationError(TerminalError):
    """Settings, contracts, or a table or column that is not there."""


class ChoiceError(ConfigurationError):
    """A run or a metric that somebody asked for and that is not there. The remedy says what to ask for instead."""


class SettingsError(ConfigurationError):
    """Settings that cannot be used, found before anything was started."""


class RequestRefused(TerminalError):
    """The API answered with an error that a retry would not change."""

    status: int = 0
    code: str | None = None


class AccessError(RequestRefused):
    """A key or role that may not do what the run needs."""


class PreflightError(TerminalError):
    """The sources cannot be trusted to be seen whole."""


class ReadError(TerminalError):
    """A read that could not be verified as complete."""


class NotThere(ReadError):
    """A run that a reader asked for, or a report, table or column of it, that is not there; others may be."""


class WriteError(TerminalError):
    """The database refused what it should take."""

    code: str | None = None


class PublishError(TerminalError):
    """A file could not be stored or verified."""


class FileLost(PublishError):
    """A file of an earlier run is gone from the bucket, or damaged there. problem: which one, in words after `because`.

    Storage may list a file, with its size and checksum, whose content it has lost: only who asks for that finds out.
    """

    problem: str

    def __init__(self, message: str, *, remedy: str = "", problem: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.problem = problem or message.rstrip(".")


class LeaseLost(TerminalError):
    """Another run took over; this one must write no more."""


class RunHeld(TerminalError):
    """A metric is outside its bounds; a person accepts it by name and starts the run again. values: by name."""

    values: Mapping[str, float]

    def __init__(self, message: str, *, remedy: str = "", values: Mapping[str, float] | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.values = dict(values or {})
