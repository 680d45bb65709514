"""The folder of a run: that of the failed run that it resumes, where its rows can still be trusted, or a new one."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tasks.ledger.dry import DRY
from tasks.ledger.lease import Lease
from tasks.platform.code import CODE
from tasks.settings import Settings
from tasks.workspace import Workspace, remove_unheld

# In the first releases all runs lay here, without a lock. A project's own folder has no capital letter.
_BEFORE_PROJECTS = "[0-9]*T[0-9]*Z-*"


def project_folder(settings: Settings) -> str:
    """A folder name for the project: its host, and a digest of its whole address."""
    host = re.sub(r"[^a-z0-9.-]+", "-", settings.project.lower()).strip("-.") or "project"
    return f"{host[:60]}-{hashlib.sha256(settings.supabase_url.rstrip('/').encode()).hexdigest()[:8]}"


@contextmanager
def open_workspace(settings: Settings, lease: Lease) -> Iterator[Workspace]:
    """The run's folder, locked while the block runs: that of the run it resumes, with its key ranges, or a new one.

    What other runs of this project left goes, unless a process still uses it; a dry run removes what dry runs left.
    """
    project = project_folder(settings)
    runs = settings.data_dir / "runs" / project
    resumed = _resumed(runs, lease)
    # Before room is looked for: what a dead run left may be what fills the disk.
    dry = lease.run_id.startswith(DRY)
    remove_unheld(runs, prefix=DRY if dry else "", but=resumed.root if resumed else None)
    for left in () if dry else runs.parent.glob(_BEFORE_PROJECTS):
        shutil.rmtree(left, ignore_errors=True)
    workspace = resumed or Workspace.create(settings.data_dir, lease.run_id, project=project)
    with workspace.held():
        yield workspace


def _resumed(runs: Path, lease: Lease) -> Workspace | None:
    dead = Workspace(runs / lease.resumed_from) if lease.resumed_from else None
    if dead is None or not dead.root.exists() or not _can_continue(dead, lease):
        return None
    with dead.held() as free:
        if not free:
            return None
    workspace = Workspace(dead.root.rename(runs / lease.run_id))
    _keep_only_raw(workspace)
    return workspace


def _can_continue(dead: Workspace, lease: Lease) -> bool:
    """Over REST rows are seen page by page anyway; over Postgres the snapshot is gone, and all is read again."""
    facts = dead.facts()
    return (
        lease.transport == "rest"
        and facts.get("transport") == "rest"
        and facts.get("mode", "full") == "full"  # what an incremental night read is no part of a table
        and facts.get("code") == CODE  # what other code read may be other columns, or other values of them
    )


def _keep_only_raw(workspace: Workspace) -> None:
    for part in workspace.root.iterdir():
        if part.is_dir() and part.name != "raw":
            shutil.rmtree(part)


def can_be_resumed(workspace: Workspace) -> bool:
    """Whether a later run could continue this one's reading, so that its folder is worth keeping."""
    return workspace.facts().get("transport") == "rest" and (workspace.root / "raw").is_dir()


def kept_snapshot_at(workspace: Workspace) -> datetime | None:
    """When the reading started that this run continues; None when it reads from the start."""
    snapshot_at = workspace.facts().get("snapshot_at")
    return datetime.fromisoformat(str(snapshot_at)) if snapshot_at else None
