"""A stand-in for Supabase Realtime on a real socket, in front of a stack: it speaks the protocol, and misbehaves.

Written from the public description (supabase.com/docs/guides/realtime/protocol): Phoenix messages as JSON objects,
`phx_join` with the wanted changes, heartbeats, `access_token`, `postgres_changes`. Everything that is not Realtime goes
on to the stack.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

ROW = {"id": "0", "email": "someone@example.com", "content": "a secret text"}
FAULTS = ("drop", "duplicate", "delay", "deafen", "disconnect", "abort")


class Realtime:
    """Publishes changes to who has joined, each perhaps with a fault. counts: what happened, by name."""

    def __init__(self, upstream: str, *, faults: tuple[str, ...] = (), seed: int = 1) -> None:
        self.faults, self.counts = faults, Counter[str]()
        self.refuse_joins = self.refuse_connections = 0
        self.tokens: list[str] = []
        self.joins: list[dict[str, Any]] = []
        self.url = ""
        self._upstream = urlsplit(upstream)
        self._random = random.Random(seed)
        self._joined: dict[ServerConnection, tuple[str, list[dict[str, Any]]]] = {}
        self._deaf: set[ServerConnection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def listeners(self) -> int:
        """Connections that have joined and are not deaf."""
        return len(self._joined.keys() - self._deaf)

    def publish(
        self, table: str, kind: str = "INSERT", times: int = 1, *, faults: tuple[str, ...] | None = None
    ) -> None:
        """Announce changes; returns when all of it is sent, or lost."""
        wanted = self._publish(table, kind, times, self.faults if faults is None else faults)
        asyncio.run_coroutine_threadsafe(wanted, self._loop).result(60)

    async def _publish(self, table: str, kind: str, times: int, faults: tuple[str, ...]) -> None:
        for number in range(times):
            for connection, (topic, bindings) in list(self._joined.items()):
                ids = [of["id"] for of in bindings if of["table"] == table]
                fault = self._random.choice(faults) if faults and self._random.random() < 0.7 else "none"
                self.counts[fault] += 1
                message = _change(topic, table, kind, ids, number)
                with suppress(ConnectionClosed):
                    await self._send(connection, message, fault)

    async def _send(self, connection: ServerConnection, message: str, fault: str) -> None:
        if fault == "deafen":
            self._deaf.add(connection)
        if fault == "drop" or connection in self._deaf:
            return
        if fault == "disconnect":
            await connection.close(1011, "gone")
        elif fault == "abort":
            connection.transport.abort()
        elif fault == "delay":  # overtaken by what comes later
            self._loop.call_later(self._random.uniform(0.1, 1.5), lambda: self._later(connection, message))
        else:
            for _ in range(3 if fault == "duplicate" else 1):
                await connection.send(message)

    def _later(self, connection: ServerConnection, message: str) -> None:
        async def send() -> None:
            with suppress(ConnectionClosed):
                await connection.send(message)

        self._loop.create_task(send())

    async def _serve(self, connection: ServerConnection) -> None:
        query = parse_qs(urlsplit(connection.request.path if connection.request else "").query)
        if "apikey" not in query or self.refuse_connections > 0:
            self.refuse_connections -= 1
            await connection.close(1008, "refused")
            return
        self.counts["connections"] += 1
        try:
            async for text in connection:
                await self._answer(connection, json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            self._joined.pop(connection, None)
            self._deaf.discard(connection)

    async def _answer(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        event, topic, payload = message["event"], message["topic"], message["payload"]
        self.counts[event] += 1
        if token := payload.get("access_token"):
            self.tokens.append(token)
        if event == "phx_join":
            await self._join(connection, message)
        elif event == "phx_leave":
            self._joined.pop(connection, None)
            await _reply(connection, topic, message["ref"], "ok", {})
        elif event == "heartbeat":
            await _reply(connection, topic, message.get("ref"), "ok", {})

    async def _join(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        topic, wanted = message["topic"], message["payload"]["config"]["postgres_changes"]
        self.joins.append(message["payload"]["config"])
        if self.refuse_joins > 0:
            self.refuse_joins -= 1
            await _reply(connection, topic, message["ref"], "error", {"reason": "refused"})
            return
        bindings = [{**of, "id": 100 + n} for n, of in enumerate(wanted)]
        await _reply(connection, topic, message["ref"], "ok", {"postgres_changes": bindings})
        status = {"channel": topic, "extension": "postgres_changes", "message": "Subscribed", "status": "ok"}
        await connection.send(_message(topic, "system", status))
        self._joined[connection] = (topic, bindings)

    async def _front(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        """Each connection goes to Realtime or to the stack, by its first request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            ours = b" /realtime/" in head.split(b"\r\n", 1)[0]
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port if ours else self._upstream.port)
            to_writer.write(head)
            await asyncio.gather(_pipe(reader, to_writer), _pipe(to_reader, writer))
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    async def _start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", 0, ping_interval=None)
        port = next(iter(self._server.sockets)).getsockname()[1]
        self._door = await asyncio.start_server(lambda r, w: self._front(r, w, port), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._door.sockets[0].getsockname()[1]}"

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)

    def stop(self) -> None:
        async def end() -> None:
            self._door.close()
            self._server.close()
            await self._server.wait_closed()
            mine = asyncio.current_task()
            tasks = [task for task in asyncio.all_tasks() if task is not mine]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()


@contextmanager
def realtime(upstream: str, *, faults: tuple[str, ...] = (), seed: int = 1) -> Iterator[Realtime]:
    """A running stand-in; nothing of it is left afterwards."""
    server = Realtime(upstream, faults=faults, seed=seed)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _change(topic: str, table: str, kind: str, ids: list[int], number: int) -> str:
    data = {
        "schema": "public",
        "table": table,
        "commit_timestamp": f"2026-01-31T00:00:{number % 60:02}Z",
        "type": kind,
        "columns": [{"name": name, "type": "text"} for name in ROW],
        "errors": None,
        **({"record": ROW} if kind != "DELETE" else {}),
        **({"old_record": ROW} if kind != "INSERT" else {}),
    }
    return _message(topic, "postgres_changes", {"ids": ids, "data": data})


def _message(topic: str, event: str, payload: dict[str, Any], ref: str | None = None) -> str:
    return json.dumps({"topic": topic, "event": event, "payload": payload, "ref": ref})


async def _reply(connection: ServerConnection, topic: str, ref: str | None, status: str, response: object) -> None:
    await connection.send(_message(topic, "phx_reply", {"status": status, "response": response}, ref))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
