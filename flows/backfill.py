"""The backfill: reports for past days, oldest first, each computed from current rows. It resumes where it stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta

from prefect import get_run_logger

from flows.engine.artifacts import show_report
from flows.engine.declare import etl_flow, etl_task
from flows.engine.form_command import run_form
from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.run_page import table
from flows.engine.series import run_series
from flows.forms import BackfillForm
from tasks.errors import PipelineError, report_of
from tasks.files.layout import as_of_day
from tasks.files.manifest import HISTORICAL_NOTE
from tasks.ledger.ledger import Ledger
from tasks.platform.functions import open_database
from tasks.publish.retention import run_ids
from tasks.settings import Settings, settings_over

LEDGER_ROWS = 100_000


@etl_flow(name="backfill", run_name="backfill {options.label}{options.if_dry}")
def backfill(options: BackfillForm = BackfillForm()) -> list[str]:  # noqa: B008 - the form is frozen
    """Publish reports for a range of past days, oldest first; days that are published already are skipped.

    Args:
        options: Which days.
    """
    wanted = options.days()
    done = set() if options.redo else published_days(settings_over(options.transport), wanted)
    days = [day for day in wanted if day not in done]
    get_run_logger().info("backfill %d days asked for, %d of them to do", len(wanted), len(days))
    if options.dry_run:
        show(options, {day: "to do" if day in days else "done before" for day in wanted})
        return []
    return run_days(options, days, skipped=[day for day in wanted if day in done])


def run_days(options: BackfillForm, days: list[date], *, skipped: Iterable[date]) -> list[str]:
    """One reading, and one run a day; the page lists the outcome of each. Returns their paths in the bucket.

    Between two days, and before the first, a run that waits for the lease goes first. Days that another backfill
    commits meanwhile are left out.
    """
    state = dict.fromkeys(skipped, "done before") | dict.fromkeys(days, "not started")
    paths = []

    def commit(instant: datetime, work: Callable[[], RunOutcome]) -> None:
        day = day_before(instant)
        state[day] = "failed"
        path = run_day.with_options(name=f"{day}")(work)
        state[day] = f"`{path}`"
        paths.append(path)

    try:
        run_series(request_of(options), [as_of_day(day) for day in days], commit)
        state = {day: "done before" if word == "not started" else word for day, word in state.items()}
    except (PipelineError, KeyboardInterrupt) as error:
        say_published(report_of(error), len(paths), of=len(days))
        raise
    finally:
        show(options, state)
    return paths


def request_of(options: BackfillForm) -> RunRequest:
    """What each of the runs is asked for, but for its day."""
    return RunRequest(transport=options.transport, historical=True, scheduled=True, yields=True)


def say_published(report: PipelineError, published: int, *, of: int) -> None:
    """Add to what is said of the run that ended how many days were published before."""
    if published:
        rest = report.written or "Nothing."
        report.written = f"{published:,} of {of:,} days are published, whole. Of the next one: {rest}"


@etl_task("day")
def run_day(work: Callable[[], RunOutcome]) -> str:
    """The reports of one day: as_of is the midnight with which it ended. Returns the run's path in the bucket."""
    return str(work().run_path)


def day_before(instant: datetime) -> date:
    """The last day before a midnight."""
    return instant.date() - timedelta(days=1)


def published_days(settings: Settings, wanted: Sequence[date]) -> set[date]:
    """Those of the days that have a run as of the midnight after them: committed, by the ledger, and still there."""
    instants = [as_of_day(day).isoformat() for day in wanted]
    with open_database(settings) as database:
        rows = Ledger(database, settings).runs(LEDGER_ROWS, status="committed", kind="run", as_of=instants)
    days = {row.run_id: day_before(row.as_of) for row in rows if row.as_of}
    there = run_ids(settings, {day.isoformat() for day in days.values()})
    return {day for run_id, day in days.items() if run_id in there}


def show(options: BackfillForm, state: dict[date, str]) -> None:
    """The days and the outcome of each, on the run's page."""
    rows = [(day.isoformat(), word) for day, word in sorted(state.items())]
    page = f"# {verdict(options, state)}\n\n> {HISTORICAL_NOTE}\n\n{table('ll', ['day', 'run'], rows)}"
    show_report(page, key="backfill", description="The days of this backfill.")


def verdict(options: BackfillForm, state: dict[date, str]) -> str:
    """The outcome in one sentence."""
    words = list(state.values())
    before = f", {words.count('done before'):,} done before" if "done before" in words else ""
    if options.dry_run:
        return f"A dry run: {words.count('to do'):,} of {len(words):,} days would be published{before}"
    published = sum(word.startswith("`") for word in words)
    stopped = ", then it failed" if "failed" in words else ", then it stopped" if "not started" in words else ""
    return f"{published:,} of {len(words):,} days published beside the current run{before}{stopped}"


if __name__ == "__main__":
    sys.exit(run_form(backfill, BackfillForm, "backfill"))
