"""The stages of a run as server-sent events, polled from the ledger under the caller's own token."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator

import anyio
from anyio.to_thread import run_sync

from api.ledger import Ledger, LedgerRun, is_over
from api.problems import Problem
from api.tokens import Caller
from tasks.errors import PipelineError

POLL_SECONDS = 0.5  # a small night takes two seconds
QUIET_SECONDS = 15.0  # a comment keeps proxies from closing a connection on which nothing happens
LONGEST_SECONDS = 3_600.0
SHOWN = ("run_id", "status", "stage", "error", "seconds", "started_at", "finished_at", "flow_run_id")


async def events_of(ledger: Ledger, caller: Caller, run_id: str, run: LedgerRun) -> AsyncIterator[str]:
    """`stage` now and at each change, `end` once it is over; ends by itself with the token or after an hour."""
    shown, spoke_at = "", 0.0
    ends_at = min(time.time() + LONGEST_SECONDS, float(caller.expires_at))
    while time.time() < ends_at:
        known = run.to_json()
        facts = json.dumps({name: known.get(name) for name in SHOWN})
        if facts != shown:
            shown, spoke_at = facts, time.time()
            yield f"event: stage\ndata: {facts}\n\n"
        if is_over(run):
            yield f"event: end\ndata: {facts}\n\n"
            return
        if time.time() - spoke_at > QUIET_SECONDS:
            spoke_at = time.time()
            yield ": still running\n\n"
        await anyio.sleep(POLL_SECONDS)
        run = await _look(ledger, caller, run_id, run)


async def _look(ledger: Ledger, caller: Caller, run_id: str, run: LedgerRun) -> LedgerRun:
    """The run as it is now; as it was when the project does not answer for a moment."""
    try:
        return await run_sync(ledger.find, caller, run_id)
    except (PipelineError, Problem):
        return run
