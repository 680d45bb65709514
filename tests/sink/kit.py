"""Runs without reading or cleaning: a night's cleaned rows are given, and written through the ledger as a run does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from local_stack import Stack
from tasks.cleaning.row_hash import row_hashes
from tasks.contracts import DAILY_ACTIVITY, POSTS, REJECT_SCHEMA, STAMPS, TABLES, USER_STATISTICS, USERS, Report, Table
from tasks.files.manifest import ManifestRef
from tasks.ledger.as_of import AsOf
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger, Start
from tasks.platform.functions import open_database
from tasks.platform.progress import Progress, no_progress
from tasks.reports.figures import RunCounts
from tasks.settings import Settings, Transport
from tasks.sink import LoadCounts, TablePlan, load, plan
from tasks.workspace import Workspace

TRANSPORTS: tuple[Transport, ...] = ("rest", "postgres")
AS_OF = datetime(2026, 2, 1, tzinfo=UTC)
MANIFEST_PATH = "runs/2026-01-31/x/manifest.json"
SHA256 = "0" * 64
# Everything of ours but the ledger, which has a row a run: equal before and after means that no row was written.
WRITTEN = (*(t.clean for t in TABLES), "user_statistics", "daily_activity", "etl_reject_rows", "etl_batches")
Row = dict[str, Any]


def settings_for(stack: Stack, transport: Transport, folder: Path, **more: object) -> Settings:
    """Settings that write to the stack in batches so small that a few rows need several."""
    values: dict[str, object] = {
        "supabase_url": stack.url,
        "supabase_service_key": stack.service_key,
        "supabase_db_url": stack.db_url,
        "transport": transport,
        "data_dir": folder,
        "retry_base": 0.02,
        "write_rows": 3,
        "batch_rows": 4,
        "lease_seconds": 30,
        "max_refused_share": 1,
    }
    return Settings(_env_file=None, **{**values, **more})  # type: ignore[arg-type]


def uuid(number: int) -> str:
    """A key; their order is not that of the numbers."""
    return str(UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835 + 7) % 2**128))


def user(number: int, **values: Any) -> Row:
    row = {"id": uuid(number), "name": f"Name {number}", "email": None, "bio": None, "status": "active"}
    return {**row, "duplicate_of": None, "created_at": AS_OF, "updated_at": AS_OF, **values}


def post(number: int, **values: Any) -> Row:
    row = {"id": uuid(number), "user_id": uuid(1), "title": f"Title {number}", "content": "one two"}
    counts = {"word_count": 2, "char_count": 7, "is_before_signup": False}
    return {**row, **counts, "created_at": AS_OF, "updated_at": AS_OF, **values}


def reject(number: int, rule: str = "orphan", **values: Any) -> Row:
    row = {"table": "posts", "key": uuid(number), "rule": rule, "column": "user_id"}
    return {**row, "came": "an id", "expected": "the id of a kept user", **values}


@dataclass(frozen=True)
class Night:
    """What a run has after cleaning and aggregating."""

    users: Sequence[Row] = ()
    posts: Sequence[Row] = ()
    rejects: Sequence[Row] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    days: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Outcome:
    run: Lease
    plans: dict[str, TablePlan]
    counts: dict[str, LoadCounts]


def work(settings: Settings, night: Night, *, as_of: datetime = AS_OF, rows_in_batch: int = 5) -> Outcome:
    """One run with these rows, from its lease to its commit."""
    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        run = start(ledger, settings, as_of)
        workspace = Workspace.create(settings.data_dir, run.run_id)
        fill(workspace, night, as_of=as_of, rows_in_batch=rows_in_batch)
        with ledger.holding(run):
            plans = plan(settings, workspace, run)
            counts = write(settings, workspace, run)
    return Outcome(run, plans, counts)


def write(
    settings: Settings, workspace: Workspace, run: Lease, *, progress: Progress = no_progress
) -> dict[str, LoadCounts]:
    """The load of a planned run."""
    return load(
        settings,
        workspace,
        run,
        plan(settings, workspace, run),
        manifest=ManifestRef(path=MANIFEST_PATH, sha256=SHA256),
        counts=RunCounts.model_validate({"nights": 1}),
        progress=progress,
    )


def start(ledger: Ledger, settings: Settings, as_of: datetime = AS_OF) -> Lease:
    wait = settings.lease_wait(scheduled=False)
    run = ledger.start(Start(AsOf.instant(as_of), settings.resolved_transport, wait=wait))
    return ledger.begin(run, datetime.now(UTC))


def fill(workspace: Workspace, night: Night, *, as_of: datetime = AS_OF, rows_in_batch: int = 5) -> None:
    """The spools that cleaning and aggregating would leave."""
    of_table = {USERS.name: night.users, POSTS.name: night.posts}
    for table in TABLES:
        cleaned = clean_rows(table, of_table.get(table.name, ()))
        spool = workspace.spool("clean", table.name, table.clean_schema)
        spool.clear()
        for index, start_row in enumerate(range(0, cleaned.num_rows, rows_in_batch)):
            spool.write(index, cleaned.slice(start_row, rows_in_batch).to_batches())
        rejects = [row for row in night.rejects if row["table"] == table.name]
        spool = workspace.spool("rejects", table.name, REJECT_SCHEMA)
        spool.write(0, pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA).to_batches())
    _report(workspace, USER_STATISTICS, [{"as_of": as_of, **night.statistics}])
    days = night.days or [{"date": date(2026, 1, 30)}, {"date": date(2026, 1, 31)}]
    _report(workspace, DAILY_ACTIVITY, days)


def clean_rows(table: Table, rows: Sequence[Row]) -> pa.Table:
    """Rows in key order with their hashes, as the clean spool has them."""
    ordered = sorted(rows, key=lambda row: row["id"])
    schema = pa.schema([f for f in table.clean_schema if f.name != "row_hash"])
    batch = pa.RecordBatch.from_pylist(ordered, schema=schema)
    hashed = pa.Table.from_batches([batch.append_column("row_hash", row_hashes(batch, table))])
    return hashed.select(table.clean_schema.names).cast(table.clean_schema)


def _report(workspace: Workspace, report: Report, rows: Sequence[Mapping[str, Any]]) -> None:
    zeros = {c.name: 0 for c in report.columns if c.kind == "int"}
    full = pa.Table.from_pylist([{**zeros, **row} for row in rows], schema=report.schema)
    workspace.spool("reports", report.name, report.schema).write(0, full.to_batches())


def rows_of(stack: Stack, table: str, columns: str = "*", order: str = "1, 2, 3") -> list[Row]:
    """Rows of a table as the database writes them in JSON."""
    query = f"select coalesce(json_agg(t), '[]') from (select {columns} from public.{table} order by {order}) t"
    return list(json.loads(stack.query(query)))


def hashes(stack: Stack, table: Table) -> dict[str, str]:
    """Key and hash of a cleaned table's rows, the hash computed by Postgres from what it holds."""
    texts = [_canonical(c.name, c.kind) for c in table.columns if c.name not in STAMPS]
    computed = f"md5(concat_ws(E'\\x1f', {', '.join(texts)}))"
    rows = rows_of(stack, table.clean, f"id, row_hash, {computed} as computed", "id")
    assert [row["row_hash"] for row in rows] == [row["computed"] for row in rows]
    return {row["id"]: row["row_hash"] for row in rows}


def _canonical(name: str, kind: str) -> str:
    text = f"(extract(epoch from {name}) * 1000000)::bigint::text" if kind == "timestamptz" else f"{name}::text"
    return f"coalesce({text}, E'\\x1e')"


def wanted(table: Table, rows: Sequence[Row]) -> dict[str, str]:
    cleaned = clean_rows(table, rows)
    return dict(zip(cleaned["id"].to_pylist(), cleaned["row_hash"].to_pylist(), strict=True))


def versions(stack: Stack) -> str:
    """Where each row of ours is and which transaction wrote it: the same before and after, when nothing was written."""
    parts = (f"select '{name}' as name, ctid::text, xmin::text from public.{name}" for name in WRITTEN)
    return stack.query(f"select name, ctid, xmin from ({' union all '.join(parts)}) x order by 1, 2")


def empty(stack: Stack) -> None:
    """Forget every run and row of ours."""
    stack.query(f"truncate public.etl_runs, {', '.join(f'public.{name}' for name in WRITTEN)}")


def expected_state(stack: Stack, night: Night) -> None:
    """The database holds just this night's rows."""
    for table, rows in ((USERS, night.users), (POSTS, night.posts)):
        assert hashes(stack, table) == wanted(table, rows)


def days_before(days: int) -> datetime:
    return AS_OF - timedelta(days=days)
