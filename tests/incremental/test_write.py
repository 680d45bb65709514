"""What an incremental night plans to write: the touched rows against what is stored of them, and no other."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from tasks.cleaning.counts import CleanCounts, save_counts
from tasks.contracts import TABLES, USERS
from tasks.files.manifest import Manifest
from tasks.incremental.base import Base
from tasks.incremental.gather import Gathered, Touched
from tasks.incremental.known import KNOWN_SCHEMA
from tasks.incremental.night import IncrementalNight
from tasks.incremental.write import plan_changes
from tasks.settings import Settings
from tasks.sink.model import TablePlan, changes, deletes
from tasks.source.changes import Changes
from tasks.workspace import Workspace
from tests.sink.kit import AS_OF, Night, Row, clean_rows, fill, user, uuid


def known(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist([*rows], schema=KNOWN_SCHEMA)


def stored(number: int, **values: object) -> Row:
    """What is known of a cleaned row that is as `user` has it."""
    row = clean_rows(USERS, [user(number)]).to_pylist()[0]
    return {"key": row["id"], **{name: row[name] for name in ("row_hash", "fingerprint", "rule_mask")}, **values}


def planned(folder: Path, rows: Night, of_users: pa.Table) -> tuple[TablePlan, Workspace]:
    workspace = Workspace.create(folder, "night")
    fill(workspace, rows)
    touched = {t.name: Touched(Changes(t, target_rows=10), t.raw_schema.empty_table()) for t in TABLES}
    for table in TABLES:
        save_counts(workspace, CleanCounts(table.name, 10, 10, 0, ()))
    manifest = Manifest(run="runs/2026-01-31/r", run_id="r", as_of=AS_OF, started_at=AS_OF, files=())
    night = IncrementalNight(Settings(_env_file=None), workspace, Base("r", False, "s", manifest), 0)
    night.gathered = Gathered(touched["users"], touched["posts"], tuple(touched[t.name] for t in TABLES[2:]))
    night.known = {t.name: of_users if t is USERS else known() for t in TABLES}
    return plan_changes(night)["users"], workspace


def test_a_rule_that_changes_no_value_is_stored_all_the_same(tmp_path: Path) -> None:
    """A flag of a rule without a column may depend on another row: neither hash nor fingerprint shows it."""
    plan, workspace = planned(tmp_path, Night([user(1), user(4, rule_mask=1)]), known(stored(1), stored(4)))
    assert plan == TablePlan(0, 0, 0, unchanged=10, target_rows=10, restamped=1)
    assert [batch["id"].to_pylist() for batch in changes(workspace, USERS).batches()] == [[uuid(4)]]


def test_a_row_that_was_rejected_before_is_not_one_that_goes(tmp_path: Path) -> None:
    """Its key is known by its reject alone. Counted, it could hold a night for rows that are all gone."""
    rejected = {"key": uuid(2), "rule": "missing_created_at", "reject_mask": 0, "reject_id": f"{uuid(2)}\x1fx"}
    plan, workspace = planned(tmp_path, Night(), known(stored(1), rejected))
    assert plan == TablePlan(0, 0, 1, unchanged=10, target_rows=10)
    assert [batch["id"].to_pylist() for batch in deletes(workspace, USERS).batches()] == [[uuid(1)]]
