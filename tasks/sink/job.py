"""One load: what is to be written, the outcome, and the commit that ends it. Shared by both transports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from tasks.arrow.rebatch import slices
from tasks.contracts import REPORTS, TABLES, Report, Table
from tasks.errors import PipelineError, TransientError
from tasks.files.manifest import ManifestRef
from tasks.ledger.lease import Lease
from tasks.platform.functions import Database, Json, too_many_refused
from tasks.platform.progress import Progress
from tasks.reports.figures import RunCounts
from tasks.retry import GiveUp, in_halves
from tasks.settings import Settings
from tasks.sink.model import LoadCounts, TablePlan, reject_changes, reject_deletes, rows_to_write
from tasks.sink.refused import contributions
from tasks.sink.rows import as_array, cut, to_json
from tasks.workspace import Spool, Workspace

REJECTS_IN_ONE_CALL = 5_000
# Refused rows are held in memory until the commit; this many are no accident whatever the share.
MOST_REFUSED = 100_000
# What the database itself says of a commit that it did not carry out; not that a connection broke.
_NOT_CARRIED_OUT = re.compile(r"(?!08|57P0)[0-9A-Z]{5}")
_BECAUSE = {
    "09000": "a row that no trigger of the table keeps out",
    "22": "a value that the column can hold",
    "23502": "a value, not null",
    "23503": "a key of the other table",
    "23505": "a value that no other row has",
    "23514": "what the check constraint asks for",
    "23P01": "what the exclusion constraint asks for",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that the database refused: its key, the SQLSTATE, and the constraint or column where one is named."""

    key: str
    code: str
    constraint: str | None = None
    column: str | None = None


@dataclass
class Written:
    """The outcome of a table's batches so far."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    refused: list[Refused] = field(default_factory=list)

    def add(self, answer: Mapping[str, Any]) -> None:
        """Add what a function answered."""
        self.inserted += answer.get("inserted", 0)
        self.updated += answer.get("updated", 0)
        self.deleted += answer.get("deleted", 0)
        self.refused += [
            Refused(str(row["key"]), str(row["code"]), row.get("constraint"), row.get("column"))
            for row in answer.get("refused", ())
        ]


@dataclass
class LoadJob:
    """A run's load. plans: by table, as `plan` left them; empty for a historical run, which only commits.

    may_be_committed: whether the database was asked to commit, in whatever try, and did not say that it has not.
    """

    settings: Settings
    workspace: Workspace
    run: Lease
    plans: Mapping[str, TablePlan]
    manifest: ManifestRef
    counts: RunCounts
    progress: Progress
    done: int = 0
    may_be_committed: bool = False

    @contextmanager
    def committing(self) -> Iterator[None]:
        """The block asks the database to commit."""
        self.may_be_committed = True
        try:
            yield
        except PipelineError as error:
            code = getattr(error, "code", None) or ""
            self.may_be_committed = isinstance(error, TransientError) and not _NOT_CARRIED_OUT.fullmatch(code)
            raise

    @property
    def tables(self) -> list[Table]:
        """The tables to write: authors before their posts."""
        return [table for table in TABLES if table.name in self.plans]

    def rows_to_write(self, table: Table) -> Spool:
        """Rows that are new or differ; into an empty table the cleaned rows as they are."""
        return rows_to_write(self.workspace, table, self.plans[table.name])

    def kept(self, table: Table) -> int:
        """Rows of the run, written or not."""
        plan = self.plans[table.name]
        return plan.inserts + plan.updates + plan.unchanged

    def limit(self, table: Table) -> int:
        """How many refused rows are tolerated: a share of the table's rows, at least one unless the share is zero."""
        share = self.settings.max_refused_share
        return min(MOST_REFUSED, max(1, int(share * self.kept(table)))) if share else 0

    def require_few_refused(self, table: Table, written: Written) -> None:
        """WriteError when more rows were refused than are tolerated."""
        if len(written.refused) > self.limit(table):
            raise too_many_refused(
                f"{len(written.refused):,} of {self.kept(table):,} rows of {table.name} are refused, "
                f"{self.limit(table):,} are tolerated, the last one with SQLSTATE {written.refused[-1].code}"
            )

    def to_write(self, table: Table) -> int:
        """Rows that `rows_to_write` has."""
        plan = self.plans[table.name]
        return plan.inserts + plan.updates + plan.restamped

    @property
    def total(self) -> int:
        """Rows to write and keys to delete, of all tables."""
        return sum(self.to_write(table) + self.plans[table.name].deletes for table in self.tables)

    def passed(self, rows: int) -> None:
        """Record that so many more rows are through."""
        self.done += rows
        self.progress(self.done, self.total)


def write_rejects(database: Database, job: LoadJob, table: Table, too_much: GiveUp) -> None:
    """Bring the rejects of the rules to what the run found: few calls, as only differences travel.

    too_much: errors after which the halves of a batch are sent; none inside a transaction, which such an error ends.
    """

    def delete(ids: list[str], give_up: GiveUp | None) -> None:
        database.call("etl_delete_rejects", give_up=give_up, **job.run.evidence, p_table=table.name, p_ids=ids)

    def write(rows: pa.Array, give_up: GiveUp | None) -> None:
        database.call("etl_write_rejects", give_up=give_up, **job.run.evidence, p_rows=as_array(rows))

    for batch in reject_deletes(job.workspace, table).batches():
        for part in slices(batch, REJECTS_IN_ONE_CALL):
            in_halves(delete, part.column(0).to_pylist(), too_much)
    for batch in reject_changes(job.workspace, table).batches():
        for rows in json_batches(batch, rows=REJECTS_IN_ONE_CALL, size=job.settings.write_bytes):
            in_halves(write, rows, too_much)


def json_batches(batch: pa.RecordBatch, *, rows: int, size: int) -> Iterator[pa.Array]:
    """The rows as JSON texts, cut into batches of at most `rows` rows and `size` bytes."""
    texts = to_json(batch)
    for start, length in cut(texts, rows=rows, size=size):
        yield texts.slice(start, length)


def begin(database: Database, job: LoadJob) -> None:
    """The ledger says `loading` from here on."""
    database.call("etl_stage", **job.run.evidence, p_stage="load", p_figures={})


def commit(database: Database, job: LoadJob, written: Mapping[str, Written]) -> dict[str, LoadCounts]:
    """Aggregates, refused rows and the ledger's commit, in one transaction. Returns the counts per table."""
    counts = {t.name: _counts(job.kept(t), written[t.name]) for t in job.tables}
    written_rows = {name: asdict(c) for name, c in counts.items()}
    facts = {
        "manifest_path": job.manifest.path,
        "manifest_sha256": job.manifest.sha256,
        "counts": {**job.counts.to_json(), "written": written_rows},
    }
    refused = [row for table in job.tables for row in _rejects(job, table, written[table.name])]
    aggregates = Json(b"{}") if job.run.historical else aggregates_of(job.workspace)
    database.call(
        "etl_commit",
        **job.run.evidence,
        p_facts={**facts, "refused": refused},
        p_aggregates=aggregates,
    )
    return counts


def refused_keys(written: Mapping[str, Written]) -> dict[str, list[str]]:
    """The keys that the database refused, by table."""
    return {name: [row.key for row in of.refused] for name, of in written.items()}


def _counts(kept: int, written: Written) -> LoadCounts:
    refused = len(written.refused)
    unchanged = kept - written.inserted - written.updated - refused
    return LoadCounts(written.inserted, written.updated, unchanged, written.deleted, refused)


def _rejects(job: LoadJob, table: Table, written: Written) -> list[dict[str, Any]]:
    of_files = contributions(job.rows_to_write(table), table, [row.key for row in written.refused])
    return [{**_reject(table, row), **of_files.get(row.key, {})} for row in written.refused]


def _reject(table: Table, row: Refused) -> dict[str, Any]:
    """A row that the database refused, as etl_rejects keeps it: nothing of the row but its key."""
    code = row.code
    expected = _BECAUSE.get(code) or _BECAUSE.get(code[:2]) or "what a trigger or function of the table asks for"
    named = f"{expected} ({row.constraint})" if row.constraint else expected
    return {
        "table": table.name,
        "key": row.key,
        "column": row.column,
        "came": f"SQLSTATE {code}",
        "expected": named,
    }


def aggregates_of(workspace: Workspace) -> Json:
    """The reports that are tables too, for `etl_commit`: statistics are a history, the others are replaced whole."""
    reports = (report for report in REPORTS if report.in_postgres)
    return aggregates_json((r, workspace.report(r).table()) for r in reports)


def aggregates_json(tables: Iterable[tuple[Report, pa.Table]]) -> Json:
    """Reports as the functions take them."""
    return Json(b"{%b}" % b",".join(_aggregate_json(report, rows) for report, rows in tables))


def _aggregate_json(report: Report, rows: pa.Table) -> bytes:
    whole = json.dumps("as_of" not in report.keys)
    return b'"%b":{"whole":%b,"rows":%b}' % (report.name.encode(), whole.encode(), as_array(to_json(rows)))
