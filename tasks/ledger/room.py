"""Whether the disk has room for a run: asked of the database's planner, before the first row is read."""

from __future__ import annotations

from tasks.platform.functions import Database
from tasks.source import Preflight
from tasks.workspace import MINIMUM_FREE_BYTES, Workspace, require_free

# Bytes in the run's folder per byte of the rows that are read, at its fullest: over Postgres sorted rows, as they are,
# and raw rows, packed; over REST raw rows, which stay until the run ends, and cleaned rows, both packed, and what is to
# be published.
SHARE = {"postgres": 1.7, "rest": 1.5}


def require_room(database: Database, workspace: Workspace, found: Preflight, *, transport: str) -> int:
    """ConfigurationError when the disk has less room than the run is estimated to need; returns the bytes needed."""
    answer = database.call("etl_estimate", p_tables=[_wanted(found, name) for name in found.tables])
    rows = sum(float(table["rows"]) * float(table["width"]) for table in answer)
    needed = MINIMUM_FREE_BYTES + int(SHARE[transport] * rows)
    require_free(workspace.root, needed)
    return needed


def _wanted(found: Preflight, name: str) -> dict[str, object]:
    info = found.tables[name]
    columns = [column.source_name for column in info.columns]
    return {"schema": info.table.source_schema, "table": info.table.source, "columns": columns}
