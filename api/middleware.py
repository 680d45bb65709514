"""What every request passes through: an id, one line of log, security headers, a bound on its body, a last resort.

Plain ASGI, as Starlette's own base class costs a task and a queue a request.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
import uuid
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, answer

logger = logging.getLogger("api.access")

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
SMALL_BODY = 64 * 2**10  # everything but an upload
# Vega draws by interpreting its expressions, so nothing needs eval; styles are set through the DOM, never as text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
HSTS = "max-age=31536000"


def _given(query: bytes) -> bytes:
    """A query without its empty values: a form that was left empty sends them, and asks for nothing by it."""
    return b"&".join(part for part in query.split(b"&") if part.partition(b"=")[2])


class TooLarge(Exception):
    """The body is larger than its route takes."""


class Guarded:
    """The outermost layer. `upload_bytes`: the largest body that POST /files takes."""

    def __init__(self, app: ASGIApp, *, upload_bytes: int) -> None:
        self.app, self.upload_bytes = app, upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"]
        # HEAD is GET without the body, on every route: what asks for it is a monitor, or a reader of Parquet files.
        as_get = {"method": "GET"} if method == "HEAD" else {}
        scope = {**scope, "query_string": _given(scope["query_string"]), **as_get}
        state = scope.setdefault("state", {})
        state["request_id"] = _request_id(Headers(scope=scope))
        started_at, answered = time.perf_counter(), _Answer(scope, send, bodiless=method == "HEAD")
        try:
            await self.app(scope, self._bounded(scope, receive, answered), answered)
        except TooLarge:
            await _refuse(scope, receive, answered, _too_large(self._limit(scope)))
        except Exception as error:  # noqa: BLE001 - its text may hold data: only what and where is logged
            logger.error("%s", json.dumps({"id": state["request_id"], "error": _place(error)}))
            await _refuse(scope, receive, answered, _unexpected())
        finally:
            _log(scope, method, answered.status, time.perf_counter() - started_at)

    def _limit(self, scope: Scope) -> int:
        upload = scope["method"] == "POST" and scope["path"] == "/files"
        return self.upload_bytes + SMALL_BODY if upload else SMALL_BODY

    def _bounded(self, scope: Scope, receive: Receive, answered: _Answer) -> Receive:
        limit, seen = self._limit(scope), 0
        declared = Headers(scope=scope).get("content-length", "")

        def too_large() -> TooLarge:
            answered.too_large = True
            return TooLarge()

        async def bounded() -> Message:
            nonlocal seen
            if declared.isdigit() and int(declared) > limit:
                raise too_large()
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_large()
            return message

        return bounded


class _Answer:
    """`send`, with the headers of every answer; knows the status and whether it has started. bodiless: to HEAD.

    too_large: the body was; the framework calls that a body that it could not parse, and no such answer goes out.
    """

    def __init__(self, scope: Scope, send: Send, *, bodiless: bool = False) -> None:
        self.scope, self.send, self.status = scope, send, 0
        self.bodiless, self.too_large = bodiless, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if self.too_large:
                raise TooLarge
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.scope["state"]["request_id"]
            for name, value in SECURITY.items():
                headers.setdefault(name, value)
            if self.scope["scheme"] == "https":
                headers["strict-transport-security"] = HSTS
            headers.setdefault("cache-control", "no-store")
            for cookie in self.scope["state"].get("cookies", ()):
                headers.append("set-cookie", cookie)
            await self.send(message)
            if self.bodiless:
                await self.send({"type": "http.response.body"})
        elif not self.bodiless:
            await self.send(message)


async def _refuse(scope: Scope, receive: Receive, answered: _Answer, problem: Problem) -> None:
    if answered.status:
        return  # it is too late for another answer: the connection just ends
    answered.too_large = False
    await answer(Request(scope, receive), problem)(scope, receive, answered)


def _too_large(limit: int) -> Problem:
    return Problem(413, f"The body is larger than {limit:,} bytes, which is all that this route takes.")


def _unexpected() -> Problem:
    return Problem(
        500, "Something went wrong here.", remedy="It is not your request: give the operator the request id."
    )


def _request_id(headers: Headers) -> str:
    """The caller's own id where it looks like one, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def _log(scope: Scope, method: str, status: int, seconds: float) -> None:
    """One line: the route's pattern, never the path or the query, which may hold a name or an address."""
    route = getattr(scope.get("route"), "path", "no route")
    facts = {"id": scope["state"]["request_id"], "method": method, "route": route, "status": status}
    logger.info("%s", json.dumps({**facts, "ms": round(1_000 * seconds, 1)}))
