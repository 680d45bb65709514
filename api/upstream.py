"""The Supabase project as the API asks it: with the public key and the caller's own token, never the service key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from tasks.platform.http import PROFILE, make_http, not_json
from tasks.retry import network_error
from tasks.settings import Settings

IN_PATH = "/!$&'()*+,;=:@"  # what stands in a path as it is; the local stack does not decode it


class Upstream:
    """REST, Auth and Storage of one project over one pool of connections; threads may share it.

    What goes wrong is raised as an error of ours: an answer of 4xx or 5xx, one that is not JSON, and a network that
    failed. Nothing is tried again: somebody waits.
    """

    def __init__(self, settings: Settings, *, transport: httpx.BaseTransport | None = None) -> None:
        self.http = make_http(settings, transport=transport)
        self.bucket = settings.bucket
        self._url = settings.supabase_url.rstrip("/")
        self._key = settings.supabase_key.get_secret_value()

    def close(self) -> None:
        self.http.close()

    def headers(self, token: str | None) -> dict[str, str]:
        """As whom to ask. Without a token nobody is signed in: the older key, a JWT, then stands for one, without which
        hosted Storage refuses (https://github.com/supabase-community/supabase-kt/issues/44)."""
        bearer = token or (self._key if self._key.count(".") == 2 else "")
        return {"apikey": self._key, **PROFILE, **({"Authorization": f"Bearer {bearer}"} if bearer else {})}

    def url(self, path: str) -> str:
        """The address of a path of the project's."""
        return self._url + path

    def object_url(self, kind: str, path: str) -> str:
        """The address of a file in the bucket; `kind` is Storage's word: info, sign, list, or nothing."""
        return self.url(
            f"/storage/v1/object/{kind + '/' if kind else ''}{quote(self.bucket)}/{quote(path, safe=IN_PATH)}"
        )

    def send(self, method: str, address: str, token: str | None, **more: Any) -> httpx.Response:
        """One request. more: as httpx takes it; `headers` are added to those that say who asks."""
        headers = {**self.headers(token), **more.pop("headers", {})}
        with network_errors():
            return self.http.request(method, address, headers=headers, **more)

    def get(self, path: str, token: str | None, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON that a GET answers."""
        return json_of(self.send("GET", self.url(path), token, params=params))

    def post(self, path: str, token: str | None, body: Any, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON that a POST answers; None for an empty answer."""
        answer = self.send("POST", self.url(path), token, params=params, json=body)
        return json_of(answer) if answer.content else None

    def call(self, function: str, token: str, query: Mapping[str, Any]) -> Any:
        """What one of our SQL functions answers, under the caller's row-level security."""
        return self.post(f"/rest/v1/rpc/{function}", token, {"p_query": dict(query)})


@contextmanager
def network_errors() -> Iterator[None]:
    """A network that failed, or a packed body that was cut short: the error that all requests of ours have for it."""
    try:
        yield
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise network_error(error) from None


def json_of(answer: httpx.Response) -> Any:
    """The JSON of an answer; the error of ours for one that holds none, or text of another encoding."""
    try:
        return answer.json()
    except ValueError:
        raise not_json(answer) from None
