"""Who follows a run: the ledger is asked once for all of them, and by nobody when none is left."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import anyio
import httpx
import pytest

from api import run_events
from api.last_commit import LastCommit
from api.ledger import Ledger, LedgerRun
from api.prefect import Prefect
from api.problems import Problem
from api.run_events import POLL_SECONDS, RunEvents
from api.tokens import Caller
from api.upstream import Upstream
from tasks.settings import Settings

SETTINGS = Settings(_env_file=None, supabase_url="https://abcdefghijklmnopqrst.supabase.co", supabase_key="sb_x")
RUN = LedgerRun(run_id="20200101T000000Z-00000000", status="running", stage="read users")
Answer = Callable[[str], httpx.Response]


def caller(token: str) -> Caller:
    return Caller(token, "id", "", "analyst", int(time.time()) + 600)


def events_over(folder: Path, answer: Answer) -> tuple[RunEvents, list[str]]:
    """Over a project that answers so; and the tokens with which it is asked."""
    asked: list[str] = []

    def counted(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["authorization"])
        return answer(asked[-1])

    upstream = Upstream(SETTINGS, transport=httpx.MockTransport(counted))
    return RunEvents(Ledger(upstream, Prefect(SETTINGS), LastCommit(folder / "last-commit"), seconds=0)), asked


def row(stage: str) -> httpx.Response:
    return httpx.Response(200, json=[{"run_id": RUN.run_id, "status": "running", "stage": stage}])


async def follow(events: RunEvents, token: str, seen: list[str]) -> None:
    stream: AsyncIterator[str] = events.of(caller(token), RUN.run_id, RUN)
    async for event in stream:
        seen += [event]


def followed_for(seconds: float, events: RunEvents, asked: Sequence[str], *tokens: str) -> dict[str, list[str]]:
    """What each of those saw who followed the run for so long."""
    seen: dict[str, list[str]] = {token: [] for token in tokens}

    async def all_of_them() -> None:
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as group:
                for token in tokens:
                    group.start_soon(follow, events, token, seen[token])
        before = len(asked)
        await anyio.sleep(3 * POLL_SECONDS)
        assert len(asked) == before, "nobody looks any more"

    anyio.run(all_of_them)
    return seen


def test_all_who_follow_a_run_share_one_look_at_a_time(tmp_path: Path) -> None:
    """Each of them asked the ledger twice a second."""

    events, asked = events_over(tmp_path, lambda token: row("publish"))
    seconds = 4 * POLL_SECONDS
    seen = followed_for(seconds, events, asked, *map(str, range(40)))
    assert all("read users" in shown[0] and "publish" in shown[1] for shown in seen.values())
    assert 1 <= len(asked) <= seconds / POLL_SECONDS


def test_who_is_not_let_in_any_more_ends_it_for_nobody_else(tmp_path: Path) -> None:
    expired = httpx.Response(401, json={"code": "PGRST301", "message": "JWT expired"})
    events, asked = events_over(tmp_path, lambda token: expired if token == "Bearer revoked" else row("publish"))
    seen = followed_for(4 * POLL_SECONDS, events, asked, "revoked", "good")
    assert asked.count("Bearer revoked") == 1, "its stream has ended"
    assert "publish" in seen["good"][-1]


def test_while_the_project_is_away_it_is_asked_once_for_all(tmp_path: Path) -> None:
    events, asked = events_over(tmp_path, lambda token: httpx.Response(503))
    seconds = 4 * POLL_SECONDS
    seen = followed_for(seconds, events, asked, *map(str, range(40)))
    assert {len(shown) for shown in seen.values()} == {1}
    assert 1 <= len(asked) <= seconds / POLL_SECONDS


def test_there_is_room_for_so_many_and_again_when_they_have_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_events, "FOLLOWERS", 2)
    events, _ = events_over(tmp_path, lambda token: row("publish"))

    async def two() -> None:
        async with anyio.create_task_group() as group:
            for token in ("a", "b"):
                events.require_room()
                group.start_soon(follow, events, token, [])
                await anyio.sleep(0.01)
            with pytest.raises(Problem, match="Too many follow runs") as raised:
                events.require_room()
            assert (raised.value.status, raised.value.headers) == (503, {"Retry-After": "5"})
            group.cancel_scope.cancel()

    anyio.run(two)
    events.require_room()
