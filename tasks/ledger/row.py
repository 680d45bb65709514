"""A row of the ledger, parsed where it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tasks.files.layout import instant
from tasks.files.manifest import ManifestRef
from tasks.reports.figures import RunCounts

Status = Literal["running", "loading", "committed", "held", "failed"]
Instant = Annotated[datetime, AfterValidator(instant)]


class LedgerRow(BaseModel):
    """One run, in UTC. as_of is None until reading started, for a run as of `now`.

    snapshot_at: the database's clock when reading started. current_at: when readers were last pointed to this run.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    run_id: str
    kind: Literal["run", "restore"] = "run"
    status: Status
    transport: str
    as_of: Instant | None
    as_of_mode: str
    snapshot_at: Instant | None = Field(default=None, alias="began")
    historical: bool = False
    stage: str | None = None
    counts: RunCounts = RunCounts()
    seconds: Mapping[str, float] = {}
    bytes: Mapping[str, int] = {}
    manifest_path: str | None = None
    manifest_sha256: str | None = None
    started_at: Instant
    finished_at: Instant | None = None
    current_at: Instant | None = None
    error: str | None = None
    code_version: str | None = None
    resumed_from: str | None = None
    flow_run_id: str | None = None
    started_by: str | None = None

    @property
    def manifest(self) -> ManifestRef | None:
        """The manifest that the run committed; None before that, and for a restore."""
        if not self.manifest_path:
            return None
        return ManifestRef(path=self.manifest_path, sha256=self.manifest_sha256 or "")
