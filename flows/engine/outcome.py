"""What a run was asked for, and what came of it: figures and paths, never rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tasks.files.manifest import FileEntry

Figure = int | float | None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """as_of: `now`, `midnight`, `resume` or an ISO instant. scheduled: what `midnight` is the midnight of.

    historical: publish reports only, whatever the as_of. full_refresh: read every row, also the unchanged ones.
    """

    as_of: str = "now"
    transport: Literal["auto", "rest", "postgres"] = "auto"
    accept: frozenset[str] = frozenset()
    dry_run: bool = False
    scheduled: datetime | None = None
    historical: bool = False
    full_refresh: bool = False


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """A run that ended well.

    tables: name to counts (read, kept, rejected, inserted, updated, unchanged, deleted, refused).
    stages: title to seconds, rows, bytes sent and received. quality: the rows of data_quality.
    samples: by table and rule, masked.
    """

    status: Literal["committed", "dry run"]
    run_id: str
    as_of: datetime
    began: datetime
    transport: str
    headline: Mapping[str, Figure]
    tables: Mapping[str, Mapping[str, int]]
    quality: Sequence[Mapping[str, Any]]
    stages: Mapping[str, Mapping[str, float]]
    samples: Mapping[str, Any] = field(default_factory=dict)
    run_path: str | None = None
    files: Sequence[FileEntry] = field(default_factory=tuple)
    last: Mapping[str, Any] | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def seconds(self) -> float:
        return sum(stage.get("seconds", 0.0) for stage in self.stages.values())
