"""What a run was asked for, and its outcome: figures and paths, never rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tasks.files.manifest import FileEntry
from tasks.ledger.as_of import AsOf
from tasks.reports.figures import Figure, PastRun, RunCounts
from tasks.settings import TransportChoice

# Emitted to Prefect when a run was committed and readers see it: what the alert for missing nights waits for.
COMMITTED_EVENT = "supabase-nightly.run.committed"
DRIFTED_EVENT = "supabase-nightly.drifted"
COMPARED_DAYS = (1, 7)  # so many days ago: with those runs a run's page compares its figures


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a run is asked for, once: no stage parses any of it again.

    accept: names of the metrics that held the last run and may pass. historical: publish reports only, whatever the
    as_of. full_refresh: read every row, also the unchanged ones. scheduled: nobody waits for an answer, so the run
    waits for another one's lease. yields: it lets runs that wait for the lease go first. resume_runs: the runs of
    which to resume the last that the ledger knows, by their ids or by what started them; else `as_of` says.
    started_by: what starts this run, for a later resume.
    """

    as_of: AsOf = AsOf()  # noqa: RUF009 - it is frozen
    transport: TransportChoice = "auto"
    accept: frozenset[str] = frozenset()
    dry_run: bool = False
    historical: bool = False
    full_refresh: bool = False
    scheduled: bool = False
    yields: bool = False
    resume_runs: tuple[str, ...] = ()
    started_by: str = ""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """A run that ended well.

    project: the address of the project that it was for, bucket: where its files are.
    tables: name to counts (read, kept, rejected, inserted, updated, unchanged, deleted, refused).
    stages: title to seconds, seconds of CPU, rows, bytes sent and received. quality: the rows of data_quality.
    identity: sentences on who acted, and what it may do beyond what is needed.
    mode: whether every row was read, or those that changed since `base_run`; full_because: why every row, in words.
    not_read: rows and bytes (about) that an incremental night did not read. drifted: what a full night found that
    incremental ones had missed; None where there is nothing to compare with.
    samples: by table and rule, masked. current: whether readers see this run now. historical: for a past instant, so
    that it could not become current. history: earlier runs that were committed or held, newest first.
    readers_see: the id of the run that readers see now, empty where nothing was written or it is not known.
    page: the address of the run's page in Prefect; empty without a server that stays.
    """

    status: Literal["committed", "dry_run"]
    run_id: str
    as_of: datetime
    snapshot_at: datetime
    transport: str
    headline: Mapping[str, Figure]
    tables: Mapping[str, Mapping[str, int]]
    quality: Sequence[Mapping[str, Any]]
    stages: Mapping[str, Mapping[str, float]]
    project: str
    bucket: str
    samples: Mapping[str, Mapping[str, Sequence[Mapping[str, str]]]] = field(default_factory=dict)
    run_path: str | None = None
    files: Sequence[FileEntry] = field(default_factory=tuple)
    last: RunCounts | None = None
    notes: Sequence[str] = field(default_factory=tuple)
    current: bool = False
    identity: Sequence[str] = field(default_factory=tuple)
    mode: Literal["full", "incremental"] = "full"
    base_run: str | None = None
    full_because: str | None = None
    not_read: Mapping[str, int] = field(default_factory=dict)
    drifted: int | None = None
    historical: bool = False
    history: Sequence[PastRun] = field(default_factory=tuple)
    readers_see: str = ""
    page: str = ""

    @property
    def seconds(self) -> float:
        return sum(stage.get("seconds", 0.0) for stage in self.stages.values())
