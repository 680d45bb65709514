"""All Parquet files of a run, written from its spools under `workspace.files`."""

from __future__ import annotations

import shutil
from datetime import datetime

from tasks.contracts import REPORTS, TABLES, Report
from tasks.files.clean import write_clean
from tasks.files.manifest import FileEntry, entry_of
from tasks.files.parquet import write_report
from tasks.platform.workers import HERE, Workers
from tasks.settings import Settings
from tasks.workspace import Workspace


def write_files(
    workspace: Workspace, *, as_of: datetime, settings: Settings, historical: bool = False, workers: Workers = HERE
) -> list[FileEntry]:
    """Write all Parquet files of a run under `workspace.files`, from its spools of reports and cleaned rows.

    A historical run (an earlier as_of, computed from current rows) has reports only, and they say so.
    """
    for folder in ("reports", "clean"):
        shutil.rmtree(workspace.files / folder, ignore_errors=True)
    entries = [_write_report(workspace, report, as_of, historical=historical) for report in REPORTS]
    if not historical:
        for table in TABLES:
            entries += write_clean(workspace, table, settings, workers=workers)
    return entries


def _write_report(workspace: Workspace, report: Report, as_of: datetime, *, historical: bool) -> FileEntry:
    rows = workspace.spool("reports", report.name, report.schema).table()
    path = workspace.files / "reports" / f"{report.name}.parquet"
    write_report(report, rows, path, as_of=as_of, historical=historical)
    return entry_of(path, workspace.files, rows=rows.num_rows, version=report.version, kind="report")
