"""The retention: what is past its time leaves the bucket."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from prefect import get_run_logger
from prefect.runtime import flow_run

from flows.engine.artifacts import show_report
from flows.engine.declare import etl_flow, etl_task
from flows.engine.form_command import run_form
from flows.engine.run_page import table
from flows.engine.schedule import as_scheduled
from flows.forms import RetentionForm
from tasks.incremental.base import base_run
from tasks.ledger.ledger import Ledger
from tasks.platform.functions import open_database
from tasks.publish.retention import Action, retain
from tasks.settings import Settings, load_settings

LEDGER_ROWS = 100_000  # of each status
# A watch commits a run every few minutes, and what is not named counts as committed. In the order of a run's life, so
# that one that goes on meanwhile is seen.
UNCOMMITTED = ("running", "loading", "held", "failed")
WORDS = {"keep": "stays", "prune": "**loses user ids**", "remove": "**goes**"}


def _run_name() -> str:
    options = as_scheduled(RetentionForm.model_validate(flow_run.parameters["options"]))
    return f"retention{options.if_dry}"


@etl_flow(name="retention", run_name=_run_name)
def retention(options: RetentionForm = RetentionForm()) -> dict[str, int]:  # noqa: B008 - the form is frozen
    """Remove published files that are past their time.

    - Every run of the last **30 days** (`ETL_KEEP_DAYS`) stays whole.
    - Of older runs the **last of each month** stays, without the files that name user ids; its manifest says so.
    - What `latest.json` names and the run that the next night starts from stay as they are; a running run is not
      touched.
    - What a run left half published goes after a day, and exports go with the runs.

    A dry run lists all of this and removes nothing.

    Args:
        options: How long files stay, and whether to remove or only to list.
    """
    options = as_scheduled(options)
    actions = clean_up(load_settings(), options)
    counts = {verb: sum(action.verb == verb for action in actions) for verb in WORDS}
    get_run_logger().info("retention %s", outcome(counts, dry_run=options.dry_run))
    text = page(actions, counts, dry_run=options.dry_run)
    show_report(text, key="retention", description="What became of each run in the bucket.")
    return counts


@etl_task("clean up the bucket")
def clean_up(settings: Settings, options: RetentionForm) -> list[Action]:
    """What was done, or in a dry run would be, with each run in the bucket."""
    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        rows = [row for status in UNCOMMITTED for row in ledger.runs(LEDGER_ROWS, status=status)]
        base, now = base_run(database), ledger.clock()  # this machine's clock may be wrong, and what goes is gone
    statuses = {row.run_id: row.status for row in rows}
    return retain(settings, statuses, now=now, keep_days=options.keep_days, dry_run=options.dry_run, base=base)


def outcome(counts: dict[str, int], *, dry_run: bool) -> str:
    """The outcome in one sentence."""
    would = "would go" if dry_run else "went"
    return (
        f"{counts['keep']} runs stay as they are, {counts['prune']} keep aggregates only, {counts['remove']} {would}."
    )


def page(actions: Sequence[Action], counts: dict[str, int], *, dry_run: bool) -> str:
    """All actions as Markdown, removals first."""
    order = ("remove", "prune", "keep")
    rows = [
        (WORDS[action.verb], f"`{action.path}`", action.why)
        for action in sorted(actions, key=lambda action: (order.index(action.verb), action.path))
    ]
    said = outcome(counts, dry_run=dry_run)
    head = f"# Dry run: nothing was removed\n\n{said}" if dry_run else f"# {said.rstrip('.')}"
    return f"{head}\n\n{table('lll', ['', 'run', 'why: it …'], rows)}"


if __name__ == "__main__":
    sys.exit(run_form(retention, RetentionForm, "retention"))
