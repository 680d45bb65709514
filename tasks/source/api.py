"""Requests of the REST transport: supabase-py builds and signs them, its session sends them, our retry repeats them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from supabase import Client

from tasks.contracts import Table
from tasks.errors import PipelineError, ServiceUnavailable
from tasks.platform.http import make_client, not_json
from tasks.platform.quoting import url_column
from tasks.retry import Retry, is_statement_timeout
from tasks.settings import Settings
from tasks.source.fingerprint import ROWS_BY_KEY_FUNCTION, ROWS_FUNCTION, source_request
from tasks.source.ranges import Key, KeyRange

KEYS_PER_REQUEST = 150  # of uuids in one URL, which a server takes up to about 8 KB long


class PageTooLarge(Exception):
    """A page's body went past its bound; fewer rows are to be asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """rows: of the JSON array. size: bytes of the body, unpacked. total: the exact count, when it was asked for."""

    rows: list[Any]
    size: int
    total: int | None


class Api:
    """One worker's client. httpx's clients are safe in one thread only once HTTP/2 is off; each worker has its own."""

    def __init__(self, settings: Settings, *, transport: httpx.BaseTransport | None = None) -> None:
        self.client: Client = make_client(settings, transport=transport)
        self.settings = settings
        self.retry = Retry.of(settings)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self.client.postgrest.session.close()

    def select(self, table: Table, columns: str) -> Any:
        """A query on the source of `table`, with all instants in UTC whatever the server's time zone is."""
        query = self.client.schema(table.source_schema).from_(table.source).select(columns)
        query.request.headers["Prefer"] = "timezone=UTC"
        return query

    def within(self, query: Any, table: Table, after: Key | None, until: Key | None) -> Any:
        """The query on keys after `after`, up to and with `until`."""
        name = table.key.source_name
        if after is not None:
            query = query.filter(name, "gt", in_url(after))
        return query if until is None else query.filter(name, "lte", in_url(until))

    def among(self, query: Any, table: Table, keys: list[Key]) -> Any:
        """The query on these keys, in their order."""
        name = table.key.source_name
        return query.filter(name, "in", f"({','.join(map(in_url, keys))})").order(url_column(name))

    def rows(self, table: Table, after: Key | None, until: Key | None, limit: int) -> Any:
        """A query on rows after a key, up to and with `until`, in key order, each with its fingerprint."""
        bounds = {"p_after": key_text(after), "p_until": key_text(until), "p_limit": limit}
        return self.client.rpc(ROWS_FUNCTION, {"p_source": source_request(table), **bounds})

    def rows_among(self, table: Table, keys: list[Key]) -> Any:
        """A query on these keys' rows, likewise."""
        arguments = {"p_source": source_request(table), "p_keys": [str(key) for key in keys]}
        return self.client.rpc(ROWS_BY_KEY_FUNCTION, arguments)

    def send(self, query: Any, what: str, *, most: int | None = None, halve: bool = False) -> Answer:
        """The rows of a query. Transient failures are tried again; any left over names `what`.

        most: bytes of the body at which PageTooLarge is raised. halve: a statement timeout is not tried again as it is.
        """
        give_up = is_statement_timeout if halve else None
        return self.retry.call(lambda: self._once(query, most), what, give_up=give_up)

    def count(self, table: Table, within: KeyRange) -> int | None:
        """The exact number of rows in a range; None when the server cannot count in time. Never an error."""
        query = self.within(self.select(table, url_column(table.key.source_name)), table, within.after, within.until)
        query = query.limit(1)
        query.request.headers["Prefer"] = "count=exact"
        timeout = httpx.Timeout(self.settings.count_timeout, connect=self.settings.connect_timeout)
        try:
            return self._once(query, None, timeout).total
        except (PipelineError, httpx.HTTPError):
            return None

    def _once(self, query: Any, most: int | None, timeout: httpx.Timeout | None = None) -> Answer:
        config, session = query.request, self.client.postgrest.session
        request = session.build_request(
            config.http_method,
            str(config.path),
            params=config.params,
            headers=config.headers,
            json=config.json,
            timeout=timeout or session.timeout,
        )
        response = session.send(request, stream=True)
        try:
            body = _body(response, most, self.settings.retry_seconds)
        finally:
            response.close()
        return Answer(_rows(body, response), len(body), _total(response.headers.get("content-range", "")))


def key_text(key: Key | None) -> str:
    """A key as our functions take it; empty for an end of the key space."""
    return "" if key is None else str(key)


def in_url(key: Key) -> str:
    """A key as a filter's value. With a leading zero, which is a bigint as well to Postgres, a server written in
    JavaScript leaves a number past 2^53 the text that it is.
    """
    if isinstance(key, str) or abs(key) < 2**53:
        return str(key)
    return f"{'-' if key < 0 else ''}0{abs(key)}"


def _body(response: httpx.Response, most: int | None, seconds: float) -> bytes:
    """The whole body, bounded in bytes and in time: a server that drips must not hold a worker for ever."""
    deadline, size, chunks = time.monotonic() + seconds, 0, []
    for chunk in response.iter_bytes():
        size += len(chunk)
        if most is not None and size > most:
            raise PageTooLarge
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"The answer was not complete after {seconds:.0f} s.")
        chunks.append(chunk)
    return b"".join(chunks)


def _rows(body: bytes, response: httpx.Response) -> list[Any]:
    try:
        rows = orjson.loads(body)
    except ValueError:
        raise not_json(response) from None
    if not isinstance(rows, list):
        raise ServiceUnavailable("The answer is no JSON array.")
    return rows


def _total(content_range: str) -> int | None:
    total = content_range.rpartition("/")[2]
    return int(total) if total.isdigit() else None
