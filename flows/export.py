"""The export: one report of the latest committed run, or a part of it, as a file with a signed link."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger

from flows.engine.artifacts import Page, show_report
from flows.engine.declare import etl_flow, etl_task
from flows.engine.form_command import run_form
from flows.engine.run_page import size, table
from flows.forms import ExportForm, report_named
from tasks.publish.export import encode, select, upload_export
from tasks.read.options import Choice
from tasks.read.run import find_run
from tasks.settings import Settings, load_settings

HOLDS = "What the file holds, and the link to it."


@etl_flow(name="export", run_name="export {options.report} as {options.format}{options.if_dry}")
def export(options: ExportForm = ExportForm()) -> str | None:  # noqa: B008 - the form is frozen
    """Export a report of the latest committed run, or some of its columns and days, as Parquet or CSV.

    Args:
        options: What to export.
    """
    settings = load_settings()
    body, rows, columns = make_file(settings, options)
    summary = f"{options.report}: {rows:,} rows, {len(columns)} columns, {size(len(body))}"
    get_run_logger().info("export %s", summary)
    if options.dry_run:
        show_report(dry_page(options.report, summary, columns), key="export", description=HOLDS)
        return None
    path, link = upload(settings, body, options)
    show(link, path, summary, options)
    return path


@etl_task("make the file")
def make_file(settings: Settings, options: ExportForm) -> tuple[bytes, int, list[str]]:
    """The bytes of the file, its rows and its columns."""
    report = report_named(options.report)
    run = find_run(Choice(settings=settings), may_be_offline=False)  # others take the file for the latest run's
    whole = run.report(options.report, engine="arrow")
    part = select(whole, report, columns=options.columns, first=options.date_from, last=options.date_to)
    return encode(part, options.format), part.num_rows, part.column_names


@etl_task("upload")
def upload(settings: Settings, body: bytes, options: ExportForm) -> tuple[str, str]:
    """Path in the bucket, and the signed link to it."""
    return upload_export(settings, body, options.report, options.format, link_seconds=options.link_days * 86_400)


def dry_page(name: str, summary: str, chosen: Sequence[str]) -> str:
    """What the file would hold, and every column of the report to choose from."""
    rows = [(f"`{c.name}`", "yes" if c.name in chosen else "no", c.description) for c in report_named(name).columns]
    listed = table("lll", ["column", "in the file", "meaning"], rows)
    return f"# A dry run: nothing was uploaded\n\n{summary}.\n\n{listed}"


def show(link: str, path: str, summary: str, options: ExportForm) -> None:
    """The link on the run's page, and below it what the file is."""
    until = datetime.now(UTC) + timedelta(days=options.link_days)
    facts = [("file", f"`{path}`"), ("holds", summary), ("link works until", f"{until:%Y-%m-%d %H:%M} UTC")]
    download = f"[Download {options.report}.{options.format}]({link})"
    page = (
        f"# The file is ready: {download}\n\n{table('ll', ['', ''], facts)}\n\nWhoever has the link can read the file."
    )
    show_report(page, Page("export-link", "markdown", "The link alone.", download), key="export", description=HOLDS)


if __name__ == "__main__":
    sys.exit(run_form(export, ExportForm, "export"))
