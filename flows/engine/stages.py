"""The stages of a run, in the order the data takes: each is one call into `tasks/`, and logs one line with its numbers.

A stage takes the run and what earlier stages returned: that gives the graph on the run page its edges. Rows stay in the
run's folder; only figures travel between stages.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from flows.engine.incremental import audit, distrust_base, mode_of_manifest, with_mode
from flows.engine.progress import Meter
from flows.engine.run import Run
from flows.engine.stage import stage
from tasks.cleaning.counts import CleanCounts
from tasks.cleaning.passes import clean_further, clean_posts, clean_users, reduce_again
from tasks.contracts import FURTHER_TABLES, POSTS, TABLES, USERS, Table
from tasks.errors import ProofFailed
from tasks.files.layout import LATEST
from tasks.files.manifest import FileEntry, ManifestRef
from tasks.files.run_files import write_files
from tasks.incremental.proof import verify_known
from tasks.incremental.write import plan_changes
from tasks.ledger.guard import check_run
from tasks.ledger.room import require_room
from tasks.platform.bucket import Bucket
from tasks.platform.rights import rights
from tasks.platform.version import code_version
from tasks.publish.upload import publish
from tasks.reports.build import build_reports, run_counts
from tasks.reports.figures import RunCounts
from tasks.sink import LoadCounts, TablePlan, load, plan
from tasks.sink.schema import check_schema
from tasks.source import Preflight, Reconciled, TableRead

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Files:
    """What a run will publish."""

    entries: list[FileEntry]
    counts: RunCounts


@stage("Check sources")
def check_sources(run: Run, progress: Meter) -> Preflight:
    """Verify that our tables are as declared, the bucket is there, private and ours to write, the sources can be read
    whole and the disk has room; fix as_of."""
    check_schema(run.database)
    with Bucket(run.settings) as bucket:
        bucket.require_private()
        bucket.require_writable(LATEST)
    run.ledger.wait_until_past(run.lease)
    found = run.source.preflight(TABLES)
    require_room(run.database, run.workspace, found, transport=run.lease.transport)
    run.begin(run.source.snapshot_at)
    run.record(role=found.role, as_of=run.as_of.isoformat(), snapshot_at=run.snapshot_at.isoformat())
    run.identity = [str(mine) for mine in rights(run.settings)]
    logger.info("Identity: %s", " ".join(run.identity))
    return found


@stage("Read posts")
def read_posts(run: Run, progress: Meter, sources: Preflight) -> TableRead:
    """Posts first: a post's author was there before it."""
    return _read(run, progress, POSTS)


@stage("Read users")
def read_users(run: Run, progress: Meter, posts: TableRead) -> TableRead:
    """Users after the posts."""
    return _read(run, progress, USERS)


def _read(run: Run, progress: Meter, table: Table) -> TableRead:
    read = run.source.read(table, run.workspace.raw(table), progress=progress)
    run.rows[table.name] = read.rows
    run.workspace.note(columns={**run.workspace.columns(), table.name: read.shares})
    run.row_bytes[table.name] = round(read.bytes / max(1, read.rows), 1)
    run.record(rows=read.rows, ranges=read.ranges, resumed=read.resumed_ranges, how=read.how)
    return read


@stage("Read further tables")
def read_further(run: Run, progress: Meter, users: TableRead) -> list[TableRead]:
    """Tables that the contracts declare beside users and posts."""
    return [_read(run, progress, table) for table in FURTHER_TABLES]


@stage("Recheck orphans")
def recheck_orphans(run: Run, progress: Meter, posts: TableRead, users: TableRead) -> Reconciled:
    """Ask once more for posts without an author and for their authors, before they count as orphans."""
    rechecked = run.source.reconcile(run.workspace)
    run.record(asked=rechecked.asked, posts_gone=rechecked.posts_gone, users_added=rechecked.users_added)
    return rechecked


@stage("Clean users")
def clean_the_users(run: Run, progress: Meter, read: Reconciled | bool) -> CleanCounts:
    """Users before posts, whose rules need them. read: what was rechecked, or that an incremental night read it all."""
    counts = clean_users(
        run.workspace, snapshot_at=run.snapshot_at, progress=progress, total=run.rows[USERS.name], workers=run.workers
    )
    if run.night:
        run.night.merge_index()
    return _cleaned(run, USERS, counts)


@stage("Clean posts")
def clean_the_posts(run: Run, progress: Meter, users: CleanCounts) -> CleanCounts:
    """Posts, batch by batch, reduced to what the reports are made of."""
    counts = clean_posts(
        run.workspace,
        snapshot_at=run.snapshot_at,
        as_of=run.as_of,
        progress=progress,
        total=run.rows[POSTS.name],
        workers=run.workers,
    )
    return _cleaned(run, POSTS, counts)


@stage("Clean further tables")
def clean_the_further(run: Run, progress: Meter, posts: CleanCounts) -> list[CleanCounts]:
    """By the types of their columns, and by no rules of their own."""
    return [_clean_a_further(run, table, progress) for table in FURTHER_TABLES]


def _clean_a_further(run: Run, table: Table, progress: Meter) -> CleanCounts:
    counts = clean_further(
        run.workspace,
        table,
        snapshot_at=run.snapshot_at,
        progress=progress,
        total=run.rows[table.name],
        workers=run.workers,
    )
    return _cleaned(run, table, counts)


def _cleaned(run: Run, table: Table, counts: CleanCounts) -> CleanCounts:
    """The counts, recorded. Raw rows are freed; over REST a run that resumes this one could still use them."""
    if run.lease.transport == "postgres":
        run.workspace.raw(table).remove()
    run.record(read=counts.read, kept=counts.kept, rejected=counts.rejected)
    return counts


@stage("Reduce posts")
def reduce_the_posts(run: Run, progress: Meter, posts: CleanCounts) -> CleanCounts:
    """Cleaned posts once more, for another as_of: they do not depend on it, the reports do."""
    reduce_again(run.workspace, as_of=run.as_of, progress=progress, total=posts.kept, workers=run.workers)
    return posts


@stage("Build reports")
def build_the_reports(run: Run, progress: Meter, users: CleanCounts, posts: CleanCounts) -> RunCounts:
    """Six reports from users, author-days and the word histogram. Returns the figures of the run."""
    build_reports(run.workspace, as_of=run.as_of)
    counts = run_counts(run.workspace)
    run.record(total_users=counts.headline["total_users"], total_posts=counts.headline["total_posts"])
    return counts


@stage("Compare with Postgres")
def compare(run: Run, progress: Meter, counts: RunCounts) -> Mapping[str, TablePlan]:
    """What differs from the cleaned tables: nothing else will be written."""
    if run.night:
        plans: Mapping[str, TablePlan] = plan_changes(run.night)
    else:
        plans = plan(run.settings, run.workspace, run.lease, progress=progress)
    run.record(**by_table(plans))
    return plans


@stage("Guard")
def guard(run: Run, progress: Meter, counts: RunCounts, plans: Mapping[str, TablePlan]) -> RunCounts:
    """Hold the run when a metric is outside its bounds, before anybody can see it."""
    last = None if run.lease.historical else run.lease.last
    asked, dry = run.request.accept, run.request.dry_run
    held = run.ledger.held_values() if asked else {}
    accepted = {name: value for name, value in held.items() if name in asked}
    run.ledger.stage(run.lease, "guard", counts=counts.to_json())  # a held run is in the history of its metrics too
    check_run(
        run.workspace, counts, plan=plans, last=last, settings=run.settings, accepted=accepted, asked=asked, dry_run=dry
    )
    return counts.model_copy(update={"accepted": tuple(sorted(accepted))}) if accepted else counts


@stage("Write files")
def write_the_files(run: Run, progress: Meter, counts: RunCounts, plans: Mapping[str, TablePlan]) -> Files:
    """Parquet, in the run's folder."""
    night = run.night
    entries = write_files(
        run.workspace,
        as_of=run.as_of,
        settings=run.settings,
        historical=run.lease.historical,
        workers=run.workers,
        tables=night.entries if night else None,
    )
    audit(run, entries, plans)
    run.record(files=len(entries), bytes=sum(entry.bytes for entry in entries))
    return Files(entries, counts)


@dataclass(frozen=True, slots=True)
class Published:
    """A run's manifest in the bucket, and the files that it names."""

    manifest: ManifestRef
    files: list[FileEntry]


@stage("Publish")
def publish_the_files(run: Run, progress: Meter, files: Files) -> Published:
    """Every file to Storage, verified, and the manifest after them. No reader is pointed to it yet."""
    copied = run.night.sources() if run.night else {}
    manifest = publish(
        run.settings,
        run.workspace,
        run.lease,
        files.entries,
        files.counts,
        code_version=code_version(),
        copied=copied,
        ahead=[entry.path for entry in run.night.entries] if run.night else (),
        workers=run.workers,
        **mode_of_manifest(run),
    )
    run.record(path=manifest.run_path, files=len(files.entries), copied=len(copied))
    return Published(manifest, files.entries)


@stage("Load and commit")
def load_and_commit(
    run: Run, progress: Meter, published: Published, counts: RunCounts, plans: Mapping[str, TablePlan]
) -> Mapping[str, LoadCounts]:
    """Changed rows, deletes, rejects, aggregates and the ledger's commit."""
    try:
        loaded = load(
            run.settings,
            run.workspace,
            run.lease,
            plans,
            manifest=published.manifest,
            counts=with_mode(run, counts),
            progress=progress,
            verify=verify_known(run.night) if run.night else None,
        )
    except ProofFailed:
        distrust_base(run)
        raise
    run.committed = True
    run.record(**by_table(loaded))
    return loaded


def by_table(counts: Mapping[str, TablePlan | LoadCounts]) -> dict[str, int]:
    """`users_inserted` and the like, for a line of log."""
    return {f"{table}_{name}": n for table, of in counts.items() for name, n in asdict(of).items()}
