"""What the plan and the load hand to each other: the spools of differences, and their counts."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from tasks.contracts import REJECT_SCHEMA, Table
from tasks.workspace import Spool, Workspace

ID_SCHEMA = pa.schema([("id", pa.string())])
SUSPECT_SCHEMA = pa.schema([("id", pa.string()), ("depends_on", pa.string())])
REFUSED_RULE = "refused_by_database"


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What a table needs: rows that are not there, that differ, that left the source, that are equal.

    target_rows: rows of the cleaned table before the run. restamped: of the equal rows, those whose fingerprint or rule
    mask is another one: they are written, and count as unchanged.
    """

    inserts: int
    updates: int
    deletes: int
    unchanged: int
    target_rows: int
    restamped: int = 0


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """What became of a table: kept rows = inserted + updated + unchanged + refused."""

    inserted: int
    updated: int
    unchanged: int
    deleted: int
    refused: int


def changes(workspace: Workspace, table: Table) -> Spool:
    """Rows to insert or update, in key order, as the cleaned table holds them."""
    return workspace.spool("changes", table.name, table.clean_schema)


def rows_to_write(workspace: Workspace, table: Table, plan: TablePlan) -> Spool:
    """Rows that are new or differ; into an empty table the cleaned rows as they are."""
    return changes(workspace, table) if plan.target_rows else workspace.clean(table)


def suspects(workspace: Workspace, table: Table) -> Spool:
    """Keys, as text, of rows that differ although their fingerprint is the stored one, and the key they depend on."""
    return workspace.spool("suspects", table.name, SUSPECT_SCHEMA)


def deletes(workspace: Workspace, table: Table) -> Spool:
    """Keys, as text, of rows that left the source."""
    return workspace.spool("deletes", table.name, ID_SCHEMA)


def reject_changes(workspace: Workspace, table: Table) -> Spool:
    """Rejects that are new or say something else than before."""
    return workspace.spool("reject_changes", table.name, REJECT_SCHEMA)


def reject_deletes(workspace: Workspace, table: Table) -> Spool:
    """Ids (key, U+001F, rule) of rejects that were fixed or left the source."""
    return workspace.spool("reject_deletes", table.name, ID_SCHEMA)
