"""Lists by cursor: the last row's key, opaque to the client, so that a page stays right while rows come and go."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field

from api.problems import Problem

T = TypeVar("T")
Limit = Annotated[int, Query(ge=1, le=500, description="Most items on a page.")]
Cursor = Annotated[
    str | None, Query(max_length=500, description="`next` of the page before; leave it out for the first.")
]


class Page(BaseModel, Generic[T]):
    """One page of a list, in an order that does not change."""

    items: list[T]
    next: str | None = Field(None, description="Cursor of the next page; null on the last.")


def encode(*key: str | int) -> str:
    """A cursor after the row of this key."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def decode(cursor: str, *kinds: type) -> list[Any]:
    """The key of a cursor, whose parts must be of these types. Problem 422 for anything else."""
    try:
        key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        key = None
    if not isinstance(key, list) or [type(part) for part in key] != list(kinds):
        raise Problem(422, "This cursor is none of ours.", remedy="Take `next` of a page as it is, or leave it out.")
    return key


def page_of(
    items: Sequence[T], *, key: Callable[[T], str], cursor: str | None, limit: int
) -> tuple[list[T], str | None]:
    """A page of a whole list in its order; the cursor names the last item that was shown.

    When that item is gone meanwhile, as a file may be, the list must be sorted by the keys.
    """
    start = 0
    if cursor is not None:
        (last,) = decode(cursor, str)
        behind = (at + 1 for at, item in enumerate(items) if key(item) == last)
        start = next(behind, sum(key(item) <= last for item in items))
    some = list(items[start : start + limit])
    return some, encode(key(some[-1])) if start + limit < len(items) else None
