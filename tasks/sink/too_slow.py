"""A load that the statement timeout ends although a single row was sent: what happened, what is written, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tasks.errors import PipelineError, ServiceUnavailable
from tasks.platform.functions import Database
from tasks.platform.remedies import remedy_for
from tasks.retry import is_statement_timeout
from tasks.sink.job import LoadJob


@contextmanager
def explained(database: Database, job: LoadJob, doing: str, relation: str) -> Iterator[None]:
    """The block's statement timeout, which only a request with a single row raises, as an error that says all of this.

    doing: the work, with its number of rows. relation: the table that is written.
    """
    try:
        yield
    except ServiceUnavailable as error:
        if not is_statement_timeout(error):
            raise
        message = (
            f"{doing} in {relation}: one of them takes longer than the statement timeout{_limit(database)}, although "
            f"it was sent alone. At least {job.done:,} of {job.total:,} changed rows were written before. Nothing is "
            "committed, and `latest.json` did not move."
        )
        explaining = ServiceUnavailable(message, remedy=_remedy(error, relation))
        explaining.code, explaining.status = error.code, error.status
        raise explaining from None


def _limit(database: Database) -> str:
    """The limit of this role, in words; nothing where the database does not say it."""
    with suppress(PipelineError):
        return f" of {int(database.call('etl_doctor')['statement_timeout_ms']) / 1000:g} s"
    return ""


def _remedy(error: ServiceUnavailable, relation: str) -> str:
    return (
        f"Look at {relation}: a lock that another session holds, a slow trigger, or a foreign key without an index "
        f"that refers to it. Or give it more time. {remedy_for(error.status, error.code)} Then start the run again: it "
        "reads everything, and writes the rest."
    )
