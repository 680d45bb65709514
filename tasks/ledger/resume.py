"""Taking up the reading of a run that died: its folder, when what lies in it can still be trusted."""

from __future__ import annotations

import hashlib
import shutil
from datetime import datetime

from tasks.contracts import TABLES
from tasks.ledger.ledger import Run as Lease
from tasks.settings import Settings
from tasks.workspace import Workspace

DRY = "dry-"  # folders of dry runs, which have no lease


def contract_fingerprint() -> str:
    """Changes whenever what is read from the sources does: a reading of other columns cannot be taken up."""
    text = "\n".join(f"{t.source_schema}.{t.source} {t.source_columns!r}" for t in TABLES)
    return hashlib.sha256(text.encode()).hexdigest()


def open_workspace(settings: Settings, lease: Lease) -> Workspace:
    """The run's folder: that of the dead run it resumes, with the key ranges read so far, or a new one.

    Folders of other runs go: they hold personal data, and nothing will take them up any more.
    """
    runs = settings.data_dir / "runs"
    dead = runs / lease.resumed_from if lease.resumed_from else None
    if dead and dead.exists() and _can_go_on(Workspace(dead), lease):
        dead.rename(runs / lease.run_id)
        workspace = Workspace(runs / lease.run_id)
        _keep_only_raw(workspace)
    else:
        workspace = Workspace.create(settings.data_dir, lease.run_id)
    for other in runs.iterdir():
        if other != workspace.root and not other.name.startswith(DRY):
            shutil.rmtree(other, ignore_errors=True)
    return workspace


def _can_go_on(dead: Workspace, lease: Lease) -> bool:
    """Over REST rows are seen page by page anyway; over Postgres the snapshot is gone, and all is read afresh."""
    facts = dead.facts()
    return (
        lease.transport == "rest"
        and facts.get("transport") == "rest"
        and facts.get("contract") == contract_fingerprint()
    )


def _keep_only_raw(workspace: Workspace) -> None:
    for part in workspace.root.iterdir():
        if part.is_dir() and part.name != "raw":
            shutil.rmtree(part)


def kept_began(workspace: Workspace) -> datetime | None:
    """When the reading began that this run goes on with; None when it reads afresh."""
    began = workspace.facts().get("began")
    return datetime.fromisoformat(str(began)) if began else None
