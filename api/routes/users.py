"""The cleaned users and their posts: personal data, for operators only, and only to be read."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from api.cursors import Cursor, Limit, Page, decode, encode
from api.parameters import known_once
from api.problems import Problem, documented
from api.session import Operator
from tasks.contracts import POSTS, USERS

router = APIRouter(tags=["users"], dependencies=[Depends(known_once)])

UserId = Annotated[str, Path(max_length=64, description="The user's key at the source.")]


class User(BaseModel):
    """A cleaned user, with the columns of the contract."""

    model_config = ConfigDict(extra="allow")

    id: str | int = Field(examples=["479c2dde-cbc1-4ceb-bbd7-2bb90a3dafa8"])
    status: str = Field(examples=["active"])
    created_at: str = Field(examples=["2026-01-31T08:00:00+00:00"])


class Post(BaseModel):
    """A cleaned post, with the columns of the contract."""

    model_config = ConfigDict(extra="allow")

    id: str | int
    user_id: str | int
    created_at: str


class Users(BaseModel):
    """A page of users, and how many there are."""

    items: list[User]
    total: int = Field(examples=[1991])
    page: int
    pages: int
    per_page: int


class UserCounts(BaseModel):
    """What the cleaned users are, in numbers."""

    total: int
    by_status: dict[str, int] = Field(examples=[{"active": 1490, "inactive": 453, "other": 48}])
    duplicates: int = Field(description="Users with the e-mail of an earlier one.")
    with_email: int | None
    first_created_at: str | None
    last_created_at: str | None


@router.get("/users", responses=documented(401, 403, 422, 503))
def list_users(
    request: Request,
    caller: Operator,
    status: Annotated[Literal["active", "inactive", "other"] | None, Query()] = None,
    search: Annotated[
        str | None, Query(max_length=200, description="A text looked for in id, name and e-mail, as it stands.")
    ] = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=200)] = 25,
) -> Users:
    """The cleaned users, newest first, with the total and the number of pages."""
    if search and "\x00" in search:
        raise Problem(422, "A search cannot hold the character U+0000.")
    query = {"status": status, "search": search, "limit": per_page, "offset": (page - 1) * per_page}
    found = _call(request, caller, "nightly_users", USERS.clean, query)
    pages = math.ceil(found["total"] / per_page)
    return Users(items=found["rows"], total=found["total"], page=page, pages=pages, per_page=per_page)


@router.get("/users/{id}", responses=documented(401, 403, 404, 503))
def get_user(request: Request, caller: Operator, id: UserId) -> User:  # noqa: A002 - the parameter's name
    """One cleaned user."""
    found = _call(request, caller, "nightly_users", USERS.clean, {"id": id.lower(), "limit": 1, "offset": 0})
    if not found["rows"]:
        raise Problem(404, "There is no such user among the cleaned ones.")
    return User(**found["rows"][0])


@router.get("/users/{id}/posts", responses=documented(401, 403, 404, 422, 503))
def list_posts(
    request: Request,
    caller: Operator,
    id: UserId,  # noqa: A002 - the parameter's name
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Post]:
    """The cleaned posts of a user, newest first."""
    user = get_user(request, caller, id)
    query: dict[str, Any] = {"user_id": str(user.id), "limit": limit + 1}
    if cursor:
        query["before_created_at"], query["before_id"] = decode(cursor, str, str)
    rows = _call(request, caller, "nightly_posts", POSTS.clean, query)
    some = rows[:limit]
    after = encode(some[-1]["created_at"], str(some[-1]["id"])) if len(rows) > limit else None
    return Page(items=some, next=after)


@router.get("/stats/users", responses=documented(401, 403, 503))
def user_counts(request: Request, caller: Operator) -> UserCounts:
    """How many cleaned users there are, by status."""
    return UserCounts(**_call(request, caller, "nightly_user_counts", USERS.clean, {}))


def _call(request: Request, caller: Operator, function: str, table: str, query: dict[str, Any]) -> Any:
    return request.app.state.upstream.call(function, caller.token, {"table": table, **query})
