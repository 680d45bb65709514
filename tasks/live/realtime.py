"""Supabase Realtime as a hint: that something changed, and in which table. Never what changed.

Realtime loses messages and connections without a word, so nothing here is relied on: after a hint the counts are
asked for at once, and whatever never arrives is found by the next poll. The SDK's own reconnection is off: a client
that is in doubt is thrown away whole, and a new one is made after a pause.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from realtime import AsyncRealtimeChannel, RealtimeSubscribeStates
from realtime.types import RealtimePostgresChangesListenEvent
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from tasks.contracts import Table
from tasks.platform.identity import Identity

logger = logging.getLogger(__name__)
logging.getLogger("realtime").setLevel(logging.CRITICAL)  # its errors repeat whole messages, rows and all
logging.getLogger("websockets").setLevel(logging.WARNING)

CHECK_SECONDS = 1.0
JOIN_SECONDS = 30.0
CLOSE_SECONDS = 5.0
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 300.0
STEADY_SECONDS = 60.0  # a session that lasted so long makes the next pause short again


@dataclass
class Figures:
    """What the listener has been through; for the health file and the line of the hour. Bounded, and of no row."""

    state: str = "off"
    why: str = "not started"
    connects: int = 0
    messages: int = 0
    last_message: float | None = None
    by_table: dict[str, int] = field(default_factory=dict)


class Listener:
    """Subscribes to changes of some tables and calls `hint` for each message, for as long as its task runs."""

    def __init__(
        self, url: str, identity: Identity, tables: Sequence[Table], hint: Callable[[], None], *, silence: float
    ) -> None:
        self.figures = Figures()
        self._url, self._identity, self._tables, self._hint = url, identity, tables, hint
        self._silence = silence
        self._restart = asyncio.Event()
        self._keys_only = True

    @property
    def listening(self) -> bool:
        return self.figures.state == "listening"

    def restart(self, why: str) -> None:
        """Throw the connection away and make another one: it seems to deliver nothing."""
        if self.listening:
            self.figures.why = why
            self._restart.set()

    async def run(self) -> None:
        """Listen until cancelled; whatever goes wrong leads to another try after a pause."""
        attempt = 0
        while True:
            started = time.monotonic()
            try:
                await self._session()
            except Exception as error:  # noqa: BLE001 - a hint that fails must not end the watch; texts may hold rows
                self.figures.why = f"failed: {type(error).__name__}"
            attempt = 0 if time.monotonic() - started > STEADY_SECONDS else attempt + 1
            self.figures.state = "waiting"
            await asyncio.sleep(pause_before(attempt))

    async def _session(self) -> None:
        """One connection from its start until something is wrong with it."""
        self.figures.state = "connecting"
        token = await asyncio.to_thread(self._identity.bearer)
        async with httpx.AsyncClient() as http:
            client = await self._client(http)
            try:
                if token:
                    await client.realtime.set_auth(token)
                await self._stay(client, await self._join(client), token)
            finally:
                await _close(client)

    async def _client(self, http: httpx.AsyncClient) -> AsyncClient:
        realtime: Any = {"auto_reconnect": False, "max_retries": 1}
        options = AsyncClientOptions(
            httpx_client=http, realtime=realtime, auto_refresh_token=False, persist_session=False
        )
        return await acreate_client(self._url, self._identity.apikey, options)

    async def _join(self, client: AsyncClient) -> AsyncRealtimeChannel:
        """Subscribe to all tables on one channel. ConnectionError when the server does not let us."""
        joined: list[RealtimeSubscribeStates] = []
        channel = client.channel("supabase-nightly-watch")
        for table in self._tables:
            channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent.All,
                self._notice(table.name),
                table=table.source,
                schema=table.source_schema,
                select=[table.key.source_name] if self._keys_only else None,
            )
        async with asyncio.timeout(JOIN_SECONDS):
            await channel.subscribe(lambda state, _: joined.append(state))
        if RealtimeSubscribeStates.SUBSCRIBED not in joined:
            self._keys_only = not self._keys_only  # a server that cannot choose columns refuses the list of them
            raise ConnectionError("not subscribed")
        return channel

    def _notice(self, name: str) -> Callable[[Any], None]:
        def notice(_: Any) -> None:  # the message is let go unread
            self.figures.messages += 1
            self.figures.last_message = time.monotonic()
            self.figures.by_table[name] = self.figures.by_table.get(name, 0) + 1
            self._hint()

        return notice

    async def _stay(self, client: AsyncClient, channel: AsyncRealtimeChannel, token: str | None) -> None:
        """Return when the connection is gone, or delivered nothing for too long; keep its token fresh meanwhile."""
        self.figures.state, self.figures.why = "listening", ""
        self.figures.connects += 1
        self._restart.clear()
        self._hint()  # what changed while nobody listened
        since = time.monotonic()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._restart.wait(), CHECK_SECONDS)
            if why := self._wrong(client, channel, since):
                self.figures.why = why
                return
            fresh = await asyncio.to_thread(self._identity.bearer) if token else None
            if fresh and fresh != token:
                token = fresh
                await client.realtime.set_auth(token)

    def _wrong(self, client: AsyncClient, channel: AsyncRealtimeChannel, since: float) -> str:
        if self._restart.is_set():
            return self.figures.why or "asked to start again"
        if not client.realtime.is_connected:
            return "the connection was lost"
        if not channel.is_joined:
            return "the subscription ended"
        quiet = time.monotonic() - max(since, self.figures.last_message or 0.0)
        return f"no message for {quiet:.0f} s" if quiet > self._silence else ""


def pause_before(attempt: int) -> float:
    """Seconds before a try: doubled each time up to a bound, and different for all who wait."""
    ceiling = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(attempt, 10))
    return ceiling * random.SystemRandom().uniform(0.5, 1.0)


async def _close(client: AsyncClient) -> None:
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.remove_all_channels()
    with suppress(Exception):
        await client.realtime.close()
