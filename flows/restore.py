"""The restore: shows readers an earlier committed run again. The cleaned tables hold today's rows and stay."""

from __future__ import annotations

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.engine.run_page import failure, table
from flows.forms import RestoreForm
from tasks.errors import ConfigurationError, PipelineError
from tasks.ledger.ledger import Ledger
from tasks.platform.functions import open_database
from tasks.publish.restore import Restored
from tasks.publish.restore import restore as restore_run
from tasks.settings import Settings, load_settings

PREVIOUS = "previous"


@flow(name="restore", flow_run_name="restore {options.run}, dry run: {options.dry_run}")
def restore(options: RestoreForm = RestoreForm()) -> str:  # noqa: B008 - the form is frozen
    """Make an earlier committed run the one that readers see; returns its id.

    Args:
        options: Which run, and whether to move anything.
    """
    settings = load_settings()
    try:
        run_id = previous(settings) if options.run == PREVIOUS else options.run
        restored = move_back(settings, run_id, dry_run=options.dry_run)
    except PipelineError as error:
        failure(error, stage="restore", written="Nothing was moved, or all of it: see latest.json.", prefix="restore-")
        raise
    get_run_logger().info("restore run=%s as_of=%s dry_run=%s", run_id, restored.as_of.isoformat(), options.dry_run)
    create_markdown_artifact(page(restored, dry_run=options.dry_run), key="restore")
    return run_id


def previous(settings: Settings) -> str:
    """The run that was current before the one that is now. ConfigurationError when there is none."""
    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        current = ledger.current() or {}
        runs = ledger.runs(status="committed", kind="run", historical=False)
    earlier = [run["run_id"] for run in runs if current and run["started_at"] < current["started_at"]]
    if not earlier:
        raise ConfigurationError("No run was committed before the current one.", remedy="Nothing to go back to.")
    return str(earlier[0])


@task(name="move back", cache_policy=NO_CACHE, persist_result=False)
def move_back(settings: Settings, run_id: str, *, dry_run: bool) -> Restored:
    """The aggregates in Postgres and latest.json, or in a dry run the proof that the run's files are whole."""
    return restore_run(settings, run_id, dry_run=dry_run)


def page(restored: Restored, *, dry_run: bool) -> str:
    """What was moved, or would be."""
    facts = [
        ("run", f"`{restored.run_id}`"),
        ("as of", f"{restored.as_of:%Y-%m-%d %H:%M} UTC"),
        ("manifest", f"`{restored.manifest_path}`"),
        *((f"rows of {name}", rows) for name, rows in restored.rows.items()),
    ]
    title = "Dry run: its files are whole; nothing was moved" if dry_run else "Restored"
    return f"# {title}\n\n{table('ll', ['', ''], facts)}\n\nThe cleaned tables hold today's rows and stay as they are."


if __name__ == "__main__":
    restore()
