"""The restore: shows readers an earlier committed run again. The cleaned tables hold current rows and stay."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from prefect import get_run_logger

from flows.engine.artifacts import show_report
from flows.engine.declare import etl_flow, etl_task
from flows.engine.form_command import run_form
from flows.engine.run_page import table
from flows.forms import PREVIOUS, RestoreForm
from tasks.errors import ChoiceError, PipelineError, report_of
from tasks.ledger.ledger import Ledger
from tasks.ledger.row import LedgerRow
from tasks.platform.functions import open_database
from tasks.publish.restore import Restored, restorable
from tasks.publish.restore import restore as restore_run
from tasks.settings import Settings, load_settings

LISTED = 100  # runs, on the page


@etl_flow(name="restore", run_name="restore {options.run}{options.if_dry}")
def restore(options: RestoreForm = RestoreForm()) -> str:  # noqa: B008 - the form is frozen
    """Make an earlier committed run the one that readers see; returns its id.

    Args:
        options: Which run, and whether to move anything.
    """
    settings = load_settings()
    try:
        run_id = previous(settings) if options.run == PREVIOUS else options.run
        restored = move_back(settings, run_id, dry_run=options.dry_run)
    except (PipelineError, KeyboardInterrupt) as error:
        report = report_of(error)
        report.written = report.written or "Nothing was moved."
        raise
    get_run_logger().info("restore run=%s as_of=%s dry_run=%s", run_id, restored.as_of.isoformat(), options.dry_run)
    runs = listed_runs(settings) if options.dry_run else []
    about = "Which run readers see now, or would."
    show_report(page(restored, runs, dry_run=options.dry_run), key="restore", description=about)
    return run_id


def previous(settings: Settings) -> str:
    """The run that was current before the one that is now. ChoiceError when there is none."""
    with open_database(settings) as database:
        current = Ledger(database, settings).current()
    limit = LISTED
    while current:
        runs = committed_runs(settings, limit)
        earlier = next((run.run_id for run in runs if run.started_at < current.started_at), None)
        if earlier:
            return earlier
        if len(runs) < limit:
            break
        limit *= 10  # readers see a run of long ago, and a watch commits hundreds a day
    now = f", {current.run_id}" if current else ""
    raise ChoiceError(
        f"No run was committed before the current one{now}. Nothing was moved.",
        remedy="There is nothing to go back to until the next `nightly` was committed; `backfill` makes reports of "
        "past days.",
    )


def listed_runs(settings: Settings) -> list[LedgerRow]:
    """The runs that can be restored, newest first."""
    with open_database(settings) as database:
        return restorable(settings, Ledger(database, settings), LISTED)


def committed_runs(settings: Settings, limit: int) -> list[LedgerRow]:
    """The runs that were ever current, newest first."""
    with open_database(settings) as database:
        return Ledger(database, settings).runs(limit, status="committed", kind="run", historical=False)


@etl_task("move back")
def move_back(settings: Settings, run_id: str, *, dry_run: bool) -> Restored:
    """The aggregates in Postgres and latest.json, or in a dry run the proof that the run's files are whole."""
    return restore_run(settings, run_id, dry_run=dry_run)


def page(restored: Restored, runs: Sequence[LedgerRow], *, dry_run: bool) -> str:
    """What was moved, or would be; runs: those that can be restored, listed below."""
    facts = [
        ("run", f"`{restored.run_id}`"),
        ("as of", f"{restored.as_of:%Y-%m-%d %H:%M} UTC"),
        ("manifest", f"`{restored.manifest_path}`"),
        *((f"rows of {name}", rows) for name, rows in restored.rows.items()),
    ]
    dry = f"A dry run: the files of run `{restored.run_id}` are whole; nothing was moved"
    title = dry if dry_run else f"Readers now see run `{restored.run_id}` again"
    parts = [f"# {title}", table("ll", ["", ""], facts), "The cleaned tables hold current rows and stay as they are."]
    if runs:
        known = [(f"`{run.run_id}`", f"{run.as_of:%Y-%m-%d %H:%M} UTC") for run in runs]
        parts += ["## Runs that can be restored", table("ll", ["run", "as of"], known)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(run_form(restore, RestoreForm, "restore"))
