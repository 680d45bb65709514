"""A PostgREST in memory, at httpx's transport: keyset filters, order, limit, a row cap, exact counts and our functions.

It also misbehaves on request: `trouble` is asked before each answer and may answer instead.
"""

from __future__ import annotations

import bisect
import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httpx

Trouble = Callable[[httpx.Request], httpx.Response | None]


def no_trouble(_: httpx.Request) -> httpx.Response | None:
    return None


ROWS = "/rpc/etl_rows"


def as_select(request: httpx.Request) -> httpx.Request:
    """A call of our functions for rows as the filters that mean the same; every other request as it is."""
    if ROWS not in request.url.path:
        return request
    given = json.loads(request.content)
    params = [("select", ",".join(column["source"] for column in given["p_source"]["columns"])), ("order", "id")]
    if "p_keys" in given:
        params.append(("id", f"in.({','.join(given['p_keys'])})"))
    for name, operator in (("p_after", "gt"), ("p_until", "lte")):
        if given.get(name):
            params.append(("id", f"{operator}.{given[name]}"))
    if "p_limit" in given:
        params.append(("limit", str(given["p_limit"])))
    return httpx.Request("GET", request.url.copy_with(params=params), headers=request.headers)


@dataclass
class FakePostgrest(httpx.BaseTransport):
    """keys: of the one table, uuids as lower-case texts or whole numbers. cap: rows in one answer at most."""

    keys: Sequence[Any]
    cap: int = 1_000
    kind: str = "uuid"
    cuts: Callable[[int], list[Any]] = lambda parts: []
    trouble: Trouble = no_trouble
    estimate: int = 10_000
    requests: list[httpx.Request] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.rows = sorted(self.keys)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request = as_select(request)
        with self._lock:
            self.requests.append(request)
            answer = self.trouble(request) or self._answer(request)
        answer.request = request
        return answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        function = request.url.path.rpartition("/rpc/")[2] if "/rpc/" in request.url.path else ""
        if function == "etl_preflight":
            return httpx.Response(200, json=self._preflight(json.loads(request.content)["p_tables"]))
        if function == "etl_sample_keys":
            return httpx.Response(200, json=[str(k) for k in self.cuts(json.loads(request.content)["p_parts"])])
        return self._select(request)

    def _select(self, request: httpx.Request) -> httpx.Response:
        found: Sequence[Any] = self.rows
        limit, total = self.cap, ""
        for name, value in parse_qsl(request.url.query.decode()):
            if name == "limit":
                limit = min(self.cap, int(value))
            elif name == "id":
                found = self._filtered(found, value)
        if "count=exact" in request.headers.get("prefer", ""):
            total = str(len(found))
        stamp = {"_fingerprint": "1"} if ROWS in request.url.path else {}
        rows = [{"id": str(key) if stamp else key, "content": f"text of {key}", **stamp} for key in found[:limit]]
        body = json.dumps(rows)
        return httpx.Response(200, text=body, headers={"content-range": f"0-{limit}/{total or '*'}"})

    def _filtered(self, rows: Sequence[Any], condition: str) -> Sequence[Any]:
        operator, _, text = condition.partition(".")
        if operator == "in":
            wanted = {self._key(k) for k in re.findall(r"[^(),]+", text)}
            return [row for row in rows if row in wanted]
        edge = bisect.bisect_right(rows, self._key(text))
        return rows[edge:] if operator == "gt" else rows[:edge]

    def _key(self, text: str) -> Any:
        return int(text) if self.kind == "bigint" else text

    def _preflight(self, tables: list[dict[str, Any]]) -> dict[str, Any]:
        types = {"id": self.kind, "user_id": "uuid", "content": "text", "created_at": "timestamp with time zone"}
        one = {
            "exists": True, "columns": types, "schema_usable": True, "unreadable": [], "row_filters": [],
            "key": {"unique": True, "not_null": True}, "rows": self.estimate,
        }  # fmt: skip
        return {"clock": "2026-01-31T12:00:00+00:00", "role": "service_role", "tables": [one for _ in tables]}
