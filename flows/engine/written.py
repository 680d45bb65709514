"""What a run has written that ends in a stage, in words: no reader of `latest.json` sees any of it."""

from __future__ import annotations

from tasks.ledger.lease import Lease
from tasks.publish.upload import FILES_LEFT

_FILES = "All files, which nothing points to. No row changed"
_COMMITTED = "Everything, and it is committed"


def written_before(stage: str, run: Lease, *, has_stored: bool = False) -> str:
    """What a run that ends in this stage has written. has_stored: files, before the stage that publishes."""
    if stage == "Load and commit":
        return _before_commit(run)
    if stage == "Move pointer" and run.historical:
        return f"{_COMMITTED}. `latest.json` names another run, as this one is for a past instant."
    if stage == "Move pointer":
        return f"{_COMMITTED}; only `latest.json` did not move. The next start moves it."
    return FILES_LEFT if stage == "Publish" or has_stored else "Nothing: no file and no row."


def _before_commit(run: Lease) -> str:
    if run.historical:
        return f"{_FILES}: a run for a past instant writes none."
    if run.transport == "rest":
        return "All files and some of the changed rows; the next run writes the others. `latest.json` did not move."
    return f"{_FILES}: the transaction was rolled back."
