"""Runs of the pipeline: the ledger as row-level security shows it, and Prefect for what has no row there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.cursors import Cursor, Limit, Page
from api.ledger import RUN_ID, Ledger, LedgerRun
from api.parameters import known_once
from api.problems import Problem, documented
from api.run_events import RunEvents
from api.session import Operator, Reader
from flows.forms import BackfillForm, ExportForm, NightlyForm

router = APIRouter(prefix="/runs", tags=["runs"], dependencies=[Depends(known_once)])

Status = Literal["running", "loading", "committed", "held", "failed"]
RunId = Annotated[
    str,
    Path(
        pattern=f"^{RUN_ID.pattern}$",
        description="A run's id, or the id that POST /runs answered with.",
        examples=["20260201T030000Z-3f1c9a"],
    ),
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=re.compile(r"^[\x21-\x7e]{1,200}$").pattern,
        description="The same key starts the same run once, however often it is sent.",
    ),
]


class Run(BaseModel):
    """A run, from the ledger or, while it has no row there, from Prefect."""

    model_config = ConfigDict(extra="allow")

    run_id: str = Field(examples=["20260201T030000Z-3f1c9a"])
    status: str = Field(examples=["committed"])
    stage: str | None = Field(None, examples=["publish"])
    as_of: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    historical: bool = False
    transport: str | None = Field(None, examples=["postgres"])
    error: str | None = None
    flow_run_id: str | None = None
    page: str | None = Field(None, description="Its page in Prefect.")
    counts: dict[str, Any] = Field(default_factory=dict)
    seconds: dict[str, Any] = Field(default_factory=dict, description="Seconds by stage.")


class StartNightly(BaseModel):
    """Start the nightly."""

    deployment: Literal["nightly"]
    options: NightlyForm = Field(default_factory=NightlyForm)


class StartExport(BaseModel):
    """Start an export."""

    deployment: Literal["export"]
    options: ExportForm = Field(default_factory=ExportForm)


class StartBackfill(BaseModel):
    """Start a backfill."""

    deployment: Literal["backfill"]
    options: BackfillForm = Field(default_factory=BackfillForm)


Start = Annotated[StartNightly | StartExport | StartBackfill, Field(discriminator="deployment")]


class Started(BaseModel):
    """A run that was started, or the one that this key had started before."""

    id: str = Field(description="For GET /runs/{id} and its events.")
    deployment: str
    state: str = Field(examples=["Scheduled"])
    page: str | None = Field(description="Its page in Prefect.")
    is_new: bool


@router.get("", responses=documented(401, 403, 422, 503))
def list_runs(
    request: Request,
    caller: Reader,
    status: Annotated[Status | None, Query(description="Only runs with this status.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Run]:
    """The runs in the ledger, newest first."""
    ledger: Ledger = request.app.state.ledger
    rows, after = ledger.page(caller, status=status, cursor=cursor, limit=limit)
    return Page(items=_runs(request, rows), next=after)


@router.get("/{id}", responses=documented(401, 403, 404, 422, 503))
def get_run(request: Request, caller: Reader, id: RunId) -> Run:  # noqa: A002 - the parameter's name
    """One run: its status, stages, counts, and what went wrong."""
    (run,) = _runs(request, [request.app.state.ledger.find(caller, id)])
    return run


_EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


@router.get(
    "/{id}/events", response_class=StreamingResponse, responses={**_EVENTS, **documented(401, 403, 404, 422, 503)}
)
def run_events(request: Request, caller: Reader, id: RunId) -> StreamingResponse:  # noqa: A002 - the parameter's name
    """The stages of a run as server-sent events: `stage` whenever something changes, `end` when it is over."""
    events: RunEvents = request.app.state.run_events
    events.require_room()
    body: AsyncIterator[str] = events.of(caller, id, request.app.state.ledger.find(caller, id))
    return StreamingResponse(body, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.post("", status_code=201, responses={200: {"model": Started}, **documented(401, 403, 404, 409, 413, 422, 503)})
def start_run(request: Request, response: Response, caller: Operator, start: Start, key: Key = None) -> Started:
    """Start `nightly`, `export` or `backfill` with the options of its form. 200: this key had started it already."""
    prefect = request.app.state.prefect
    options = start.options.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    unique = hashlib.sha256(f"{caller.user_id}|{key}".encode()).hexdigest() if key else None
    run = prefect.start(start.deployment, options, unique)
    if not run.is_new:
        if run.parameters.get("options", {}) != options:
            raise Problem(409, "This key has started a run with other options.", remedy="Take a new key.")
        response.status_code = 200
    response.headers["Location"] = f"/runs/{run.id}"
    return Started(
        id=run.id, deployment=start.deployment, state=run.state, page=prefect.page(run.id), is_new=run.is_new
    )


def _runs(request: Request, rows: Sequence[LedgerRun]) -> list[Run]:
    pages = request.app.state.prefect.pages([row.flow_run_id for row in rows])
    return [Run(**{**row.to_json(), "page": pages.get(row.flow_run_id)}) for row in rows]
