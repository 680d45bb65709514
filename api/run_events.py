"""The stages of a run as server-sent events, polled from the ledger under the token of one who follows it.

Whoever follows a run may see it: that was asked as themselves. From then on, until their token ends, all of a process
share one look at a time, which every reader would get alike.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio
from anyio.to_thread import run_sync

from api.ledger import Ledger, LedgerRun, is_over
from api.problems import RETRY_AFTER, Problem
from api.tokens import Caller
from tasks.errors import AccessError, PipelineError

POLL_SECONDS = 0.5  # a small night takes two seconds
QUIET_SECONDS = 15.0  # a comment keeps proxies from closing a connection on which nothing happens
LONGEST_SECONDS = 3_600.0
FOLLOWERS = 500  # of all runs, in one process: each has a connection
SHOWN = ("run_id", "status", "stage", "error", "seconds", "started_at", "finished_at", "flow_run_id")


@dataclass
class _Followed:
    """A run that somebody follows, as it was seen last."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)  # who waits for it holds no thread
    followers: int = 0
    looked_at: float = float("-inf")
    run: LedgerRun | None = None


class RunEvents:
    """The events of runs. Asks nothing of the ledger while nobody follows one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._followed: dict[str, _Followed] = {}

    def require_room(self) -> None:
        """Problem 503 when as many follow runs as this process allows."""
        if sum(one.followers for one in list(self._followed.values())) >= FOLLOWERS:
            text = "Too many follow runs at this moment."
            raise Problem(503, text, remedy="Try again in a moment.", headers={"Retry-After": str(RETRY_AFTER)})

    async def of(self, caller: Caller, run_id: str, run: LedgerRun) -> AsyncIterator[str]:
        """`stage` now and at each change, `end` once it is over.

        Ends by itself with the token, after an hour, and where the project refuses the caller: who asks again hears it.
        """
        shown, spoke_at = "", 0.0
        ends_at = min(time.time() + LONGEST_SECONDS, float(caller.expires_at))
        with self._following(run_id) as followed:
            while time.time() < ends_at:
                facts = _facts(run)
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
                looked = await self._look(followed, caller, run_id, run)
                if looked is None:
                    return
                run = looked

    @contextmanager
    def _following(self, run_id: str) -> Iterator[_Followed]:
        followed = self._followed.setdefault(run_id, _Followed())
        followed.followers += 1
        try:
            yield followed
        finally:
            followed.followers -= 1
            if not followed.followers:
                del self._followed[run_id]

    async def _look(self, followed: _Followed, caller: Caller, run_id: str, run: LedgerRun) -> LedgerRun | None:
        """The run as it is now or was half a second ago; `run` where the project does not answer for a moment; None
        where it refuses this caller, which says nothing of the others."""
        async with followed.lock:
            if time.monotonic() - followed.looked_at >= POLL_SECONDS:
                try:
                    followed.run = await run_sync(self._ledger.find, caller, run_id)
                except AccessError:
                    return None
                except (PipelineError, Problem):
                    pass
                followed.looked_at = time.monotonic()
            return followed.run or run


def _facts(run: LedgerRun) -> str:
    known = run.to_json()
    return json.dumps({name: known.get(name) for name in SHOWN})
