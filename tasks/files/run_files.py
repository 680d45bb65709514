"""All Parquet files of a run, written from its spools under `workspace.files`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime

from tasks.contracts import REPORTS, TABLES, Report
from tasks.files.clean import CleanFiles, FileShape
from tasks.files.manifest import FileEntry, entry_of
from tasks.files.parquet import write_report
from tasks.files.state import STATE, StateFiles, has_state
from tasks.files.steps import InSteps, write_in_steps
from tasks.platform.workers import HERE, Workers
from tasks.settings import Settings
from tasks.workspace import Workspace


def write_files(
    workspace: Workspace,
    *,
    as_of: datetime,
    settings: Settings,
    historical: bool = False,
    workers: Workers = HERE,
    tables: Sequence[FileEntry] | None = None,
) -> list[FileEntry]:
    """Write all Parquet files of a run under `workspace.files`, from its spools of reports and cleaned rows.

    A historical run (an earlier as_of, computed from current rows) has reports only, and they say so.
    tables: the files of the cleaned tables and the partial tables, where an incremental night has made them already.
    """
    made = ("reports",) if tables is not None else ("reports", "clean", STATE)
    for folder in made:
        shutil.rmtree(workspace.files / folder, ignore_errors=True)
    entries = [_write_report(workspace, report, as_of, historical=historical) for report in REPORTS]
    if tables is not None:
        return [*entries, *tables]
    return entries if historical else [*entries, *write_tables(workspace, settings, workers=workers)]


def write_tables(workspace: Workspace, settings: Settings, *, workers: Workers = HERE) -> list[FileEntry]:
    """Write the files of the cleaned tables, and the partial tables of each month, for the next night.

    Workers write all of them at once. One process writes one kind after the other, which takes less of the disk.
    """
    kinds: list[InSteps] = [CleanFiles(workspace, table, FileShape.of(settings)) for table in TABLES]
    if has_state(workspace):  # a cache: who lacks it computes it from the months' files
        kinds.append(StateFiles(workspace))
    steps = [kinds] if workers.count else [[kind] for kind in kinds]
    return [entry for of_step in steps for entry in write_in_steps(of_step, workers=workers)]


def _write_report(workspace: Workspace, report: Report, as_of: datetime, *, historical: bool) -> FileEntry:
    rows = workspace.report(report).table()
    path = workspace.files / "reports" / f"{report.name}.parquet"
    write_report(report, rows, path, as_of=as_of, historical=historical)
    return entry_of(path, workspace.files, rows=rows.num_rows, version=report.version, kind="report")
