"""Whether the process lives, and whether all that it needs answers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from api.prefect import Prefect
from api.problems import Problem
from tasks.errors import AccessError, PipelineError

router = APIRouter(prefix="/health", tags=["health"])
Word = Literal["ok", "fails", "not set"]


class Live(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """What the API needs, part by part."""

    status: Literal["ok", "fails"]
    database: Word
    storage: Word
    auth: Word
    prefect: Word
    last_commit_at: datetime | None = Field(
        None,
        description="When the last nightly committed, by Prefect and by the runs that were ever shown to readers here. "
        "The ledger shows nothing to a caller who is not signed in: null where neither knows of one.",
    )
    last_commit_age_seconds: float | None = Field(None, examples=[20_412.5])


@router.get("/live")
async def live() -> Live:
    """Answers as long as the process does, also while all threads wait for the project."""
    return Live()


@router.get("/ready", responses={503: {"model": Ready, "description": "A part fails."}})
def ready(request: Request, response: Response) -> Ready:
    """Asks database, Storage, Auth and Prefect; 503 names the part that fails. Answers are shared for seconds."""
    found: Ready = request.app.state.readiness.get("ready", lambda: _look(request.app.state))
    response.status_code = 200 if found.status == "ok" else 503
    return found


def _look(state: Any) -> Ready:
    upstream, prefect = state.upstream, state.prefect
    checks: dict[str, Callable[[], object]] = {
        # Nobody is signed in, so the database says no: it was the database that said it.
        "database": lambda: upstream.get("/rest/v1/user_statistics", None, {"select": "as_of", "limit": "1"}),
        "storage": lambda: upstream.get("/storage/v1/bucket", None),
        "auth": lambda: upstream.get("/auth/v1/health", None),
    }
    with ThreadPoolExecutor(len(checks) + 1) as pool:
        asked = pool.submit(_last_commit, prefect)
        words = dict(zip(checks, pool.map(_word, checks.values()), strict=True))
        words["prefect"], known = asked.result()
    committed_at = max((at for at in (known, state.last_commit.at) if at), default=None)
    age = (datetime.now(UTC) - committed_at).total_seconds() if committed_at else None
    status = "fails" if "fails" in words.values() else "ok"
    return Ready(status=status, **words, last_commit_at=committed_at, last_commit_age_seconds=age)


def _word(check: Callable[[], object]) -> Word:
    try:
        check()
    except AccessError as error:
        return "ok" if error.code else "fails"
    except (PipelineError, httpx.HTTPError, ValueError):
        return "fails"
    return "ok"


def _last_commit(prefect: Prefect) -> tuple[Word, datetime | None]:
    """How Prefect's server is, and the last commit that it knows of. Its own /health asks for no password."""
    if not prefect.is_set:
        return "not set", None
    try:
        return "ok", prefect.last_commit()
    except (Problem, ValueError):
        return "fails", None
