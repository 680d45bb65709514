"""What a check says: one line, its level, and the remedy. A check that breaks is a finding too, never a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tasks.errors import AccessError, PipelineError, TransientError
from tasks.platform.identity import identity_of
from tasks.platform.storage_rights import BY_SQL
from tasks.retry import Retry
from tasks.settings import Settings

Level = Literal["ok", "warn", "fail"]
MARKS: dict[Level, str] = {"ok": "✓", "warn": "!", "fail": "✗"}
# One try: a doctor reports what is wrong now, and does not wait for it to pass.
ONCE = Retry(attempts=0)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report. `remedy` says what to do; empty when there is nothing to do."""

    check: str
    level: Level
    what: str
    remedy: str = ""


Check = Callable[[Settings], Iterable[Finding]]


def ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)


def warn(check: str, what: str, remedy: str) -> Finding:
    return Finding(check, "warn", what, remedy)


def fail(check: str, what: str, remedy: str) -> Finding:
    return Finding(check, "fail", what, remedy)


def guarded(name: str, check: Check, settings: Settings) -> Iterator[Finding]:
    """The findings of a check; what breaks in it is one more finding that says how to remedy it.

    Texts of errors that are not ours may hold a secret or a row, so only their type is named.
    """
    try:
        yield from check(settings)
    except PipelineError as error:
        yield fail(name, error.message, error.remedy or advice(error, settings))
    except Exception as error:  # noqa: BLE001 - see above
        yield fail(name, f"The check broke: {type(error).__name__}.", "This is a defect of the doctor: report it.")


def advice(error: PipelineError, settings: Settings) -> str:
    """The remedy for the four common troubles: cannot connect, not authorised, query error, upload refused."""
    if BY_SQL in error.remedy:  # as a run says it: the key is right, its role lacks a right
        return error.remedy
    if isinstance(error, AccessError):
        identity = identity_of(settings)
        if identity.kind != "service key":
            return identity.remedy if error.status == 401 else "Run `make migrate`."
        return (
            "The key or role may not do this. Take the secret key (sb_secret_…) from Project settings → API keys as "
            "SUPABASE_SERVICE_KEY, and run `make migrate` for the grants. Without that key: docs/keys.md."
        )
    if isinstance(error, TransientError):
        return (
            "The project does not answer: check SUPABASE_URL, the network, and whether the project is paused; "
            "status.supabase.com lists outages. On the local stack: `make up`."
        )
    return "The project refused the request: run `make migrate`, and compare tasks/contracts/ with the tables."
