"""The one error of the embedded stack."""

from __future__ import annotations

from pathlib import Path

from tasks.errors import PipelineError

_TAIL_LINES = 12


class StackError(PipelineError):
    """The embedded stack could not do what was asked; the message says why, the remedy what to do."""


def tail(log: Path, *, since: int = 0) -> str:
    """The last lines of a log file from byte `since` on, indented, or a word that there are none."""
    try:
        with log.open("rb") as file:
            file.seek(since)
            lines = file.read()[-20_000:].decode(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    if not lines:
        return f"\n  ({log} is empty)"
    return f"\n  {log} ends with:\n" + "\n".join(f"  | {line}" for line in lines[-_TAIL_LINES:])
