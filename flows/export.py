"""The export: one report of the latest committed run, or a part of it, as a file with a signed link."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from prefect import get_run_logger

from flows.engine.artifacts import Page, show_report
from flows.engine.declare import etl_flow, etl_task
from flows.engine.form_command import run_form
from flows.engine.run_page import size, table
from flows.forms import ExportForm, report_named
from tasks.platform.identity import claims_of, expiry_of
from tasks.publish.export import encode, export_folder, select, span, upload_export
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
    with export_folder(settings) as folder:
        file = make_file(settings, options, folder)
        get_run_logger().info("export %s", file.summary)
        if options.dry_run:
            show_report(dry_page(file, options.report), key="export", description=HOLDS)
            return None
        path, link = upload(settings, file.path, options)
    show(link, path, file, options)
    return path


@dataclass(frozen=True, slots=True)
class Export:
    """A file on this machine, and what it holds."""

    path: Path
    rows: int
    columns: Sequence[str]
    summary: str


@etl_task("make the file")
def make_file(settings: Settings, options: ExportForm, folder: Path) -> Export:
    """The file that the form asks for, in the folder."""
    report = report_named(options.report)
    run = find_run(Choice(settings=settings), may_be_offline=False)  # others take the file for the latest run's
    whole = run.report(options.report, engine="arrow")
    part = select(whole, report, columns=options.columns, first=options.date_from, last=options.date_to)
    path, rows, columns = folder / f"{options.report}.{options.format}", part.num_rows, part.column_names
    encode(part, options.format, path)
    days = span(whole, report) if (options.date_from or options.date_to) and not rows else None
    why = f" (the run's days go from {days[0]} to {days[1]})" if days else ""
    summary = f"{options.report}: {rows:,} rows{why}, {len(columns)} columns, {size(path.stat().st_size)}"
    return Export(path, rows, columns, summary)


@etl_task("upload")
def upload(settings: Settings, file: Path, options: ExportForm) -> tuple[str, str]:
    """Path in the bucket, and the signed link to it."""
    return upload_export(settings, file, options.report, options.format, link_seconds=options.link_days * 86_400)


def dry_page(file: Export, name: str) -> str:
    """What the file would hold, and every column of the report to choose from."""
    columns = report_named(name).columns
    rows = [(f"`{c.name}`", "yes" if c.name in file.columns else "no", c.description) for c in columns]
    listed = table("lll", ["column", "in the file", "meaning"], rows)
    empty = "" if file.rows else "; the file would hold no rows"
    return f"# A dry run: nothing was uploaded{empty}\n\n{file.summary}.\n\n{listed}"


def show(link: str, path: str, file: Export, options: ExportForm) -> None:
    """The link on the run's page, and below it what the file is."""
    until = valid_until(link, options.link_days)
    facts = [("file", f"`{path}`"), ("holds", file.summary), ("link works until", f"{until:%Y-%m-%d %H:%M} UTC")]
    download = f"[Download {options.report}.{options.format}]({link})"
    outcome = "The file is ready" if file.rows else "The file holds no rows"
    page = f"# {outcome}: {download}\n\n{table('ll', ['', ''], facts)}\n\nWhoever has the link can read the file."
    show_report(page, Page("export-link", "markdown", "The link alone.", download), key="export", description=HOLDS)


def valid_until(link: str, days: int) -> datetime:
    """When a link ends, as its token says: Storage's clock made it. This machine's counts for one without."""
    token = parse_qs(urlsplit(link).query).get("token", [""])[0]
    return expiry_of(claims_of(token)) or datetime.now(UTC) + timedelta(days=days)


if __name__ == "__main__":
    sys.exit(run_form(export, ExportForm, "export"))
