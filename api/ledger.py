"""The ledger of runs as its caller may see it, and Prefect's word for runs that are not in it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer

from api.cursors import decode, encode
from api.last_commit import LastCommit
from api.memo import Memo
from api.prefect import FlowRun, Prefect
from api.problems import Problem
from api.tokens import Caller
from api.upstream import Upstream
from tasks.errors import ReadError
from tasks.reports.figures import RunCounts

RUN_ID = re.compile(r"[0-9A-Za-z-]{4,64}")
OVER = ("committed", "held", "failed")
VIEW = "/rest/v1/nightly_runs"
ORDER = "started_at.desc,run_id.desc"
STATUS = {"COMPLETED": "completed", "FAILED": "failed", "CRASHED": "failed", "CANCELLED": "cancelled"}
WAITS = {"AwaitingConcurrencySlot": "waiting for another run"}  # Prefect's names of states that need a word


Instant = Annotated[datetime, PlainSerializer(lambda value: value.isoformat())]


class LedgerRun(BaseModel):
    """A run as its caller may see it: a row of the view, or of a run that Prefect alone knows the first four fields.

    What else the view has is kept as it is.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    run_id: str
    status: str
    flow_run_id: str | None = None
    name: str = ""
    kind: str = "run"
    stage: str | None = None
    historical: bool | None = None
    as_of: Instant | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None
    transport: str | None = None
    error: str | None = None
    code_version: str | None = None
    counts: RunCounts = RunCounts()
    seconds: Mapping[str, float] = {}

    def to_json(self) -> dict[str, Any]:
        """What is known of the run, for an answer."""
        return self.model_dump(mode="json", exclude_unset=True)


class Ledger:
    """Reads the view `nightly_runs` under the caller's own token."""

    def __init__(self, upstream: Upstream, prefect: Prefect, last_commit: LastCommit, *, seconds: float) -> None:
        self._upstream, self._prefect, self._last_commit = upstream, prefect, last_commit
        self._current: Memo[LedgerRun | None] = Memo(seconds=seconds, size=500)

    def page(
        self, caller: Caller, *, status: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> tuple[list[LedgerRun], str | None]:
        """Runs newest first, and the cursor of the next page."""
        query = {"select": "*", "order": ORDER, "limit": str(limit + 1)}
        if status:
            query["status"] = f"eq.{status}"
        if cursor:
            query["or"] = _after(cursor)
        rows = self._rows(caller, query)
        some = rows[:limit]
        return some, _cursor(some[-1]) if len(rows) > limit else None

    def current(self, caller: Caller) -> LedgerRun | None:
        """The run that readers see: the one whose commit or restore was last."""
        query = {"select": "*", "current_at": "not.is.null", "order": "current_at.desc", "limit": "1"}
        return self._current.get(caller.token, lambda: next(iter(self._rows(caller, query)), None))

    def find(self, caller: Caller, run_id: str) -> LedgerRun:
        """A run by its own id or its flow run's. ReadError when neither ledger nor Prefect knows it."""
        if not RUN_ID.fullmatch(run_id):
            raise _no_run(run_id)
        for column in ("run_id", "flow_run_id") if _is_uuid(run_id) else ("run_id",):
            query = {"select": "*", column: f"eq.{run_id}", "order": ORDER, "limit": "1"}
            if rows := self._rows(caller, query):
                return rows[0]
        flow_run = self._prefect.run(run_id) if _is_uuid(run_id) else None
        if flow_run is None:
            raise _no_run(run_id)
        return _of_prefect(flow_run)

    def _rows(self, caller: Caller, query: Mapping[str, str]) -> list[LedgerRun]:
        rows = [LedgerRun.model_validate(row) for row in self._upstream.get(VIEW, caller.token, query)]
        commits = [row.finished_at for row in rows if _is_nightly_commit(row) and row.finished_at]
        if commits:
            self._last_commit.note(max(commits))
        return rows


def _no_run(run_id: str) -> ReadError:
    return ReadError(f"There is no run {run_id[:60]!r}.", remedy="GET /runs lists what there is.")


def is_over(run: LedgerRun) -> bool:
    """Whether nothing more will happen to it."""
    return run.status in (*OVER, *STATUS.values())


def _is_nightly_commit(run: LedgerRun) -> bool:
    return run.status == "committed" and run.kind == "run" and not run.historical


def _of_prefect(run: FlowRun) -> LedgerRun:
    status = STATUS.get(run.state_type) or WAITS.get(run.state, run.state.lower())
    return LedgerRun(run_id=run.id, flow_run_id=run.id, status=status, stage=None, name=run.name)


def _cursor(row: LedgerRun) -> str:
    return encode(row.started_at.isoformat() if row.started_at else "", row.run_id)


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _after(cursor: str) -> str:
    """PostgREST's filter for what comes after a row; both values are checked, as a cursor comes from outside."""
    started_at, run_id = decode(cursor, str, str)
    try:
        moment = datetime.fromisoformat(started_at).isoformat()
    except ValueError:
        moment = ""
    if not moment or not run_id.replace("-", "").isalnum():
        raise Problem(422, "This cursor is none of ours.", remedy="Take `next` of a page as it is.")
    return f'(started_at.lt."{moment}",and(started_at.eq."{moment}",run_id.lt."{run_id}"))'
