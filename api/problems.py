"""Errors as application/problem+json (RFC 9457), in our words: what happened, and what to do."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from tasks.errors import (
    AccessError,
    ConfigurationError,
    PipelineError,
    ReadError,
    RequestRefused,
    TransientError,
    said_of,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER, RATE_LIMITED = 5, 60  # seconds, where the project says none


class FieldProblem(BaseModel):
    """What is wrong with one value that was sent; the value itself is not repeated."""

    field: str = Field(examples=["query.from"])
    message: str = Field(examples=["Input should be a valid date"])


class ProblemBody(BaseModel):
    """The body of every answer of 4xx and 5xx."""

    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no report 'daily'."])
    remedy: str = Field("", examples=["The reports are user_statistics, daily_activity, …"])
    request_id: str = Field("", examples=["b3b1c6d0a2f94c3e"])
    errors: list[FieldProblem] = Field(default_factory=list)


class Problem(Exception):
    """An answer of 4xx or 5xx."""

    def __init__(self, status: int, detail: str, *, remedy: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.remedy = status, detail, remedy
        self.headers = dict(headers or {})
        self.errors: list[FieldProblem] = []


UNUSABLE, OPENAPI = "Something that was sent is not usable.", "/openapi.json says what each route takes."
DATA_EXCEPTION = "22"  # the SQLSTATEs of a value that PostgreSQL cannot take: no instant, no key, U+0000


def of_error(error: PipelineError) -> Problem:
    """The answer for an error of the pipeline's own code."""
    if isinstance(error, TransientError):
        return _for_now(error)
    if isinstance(error, RequestRefused) and error.status == 401:
        # PostgREST and Storage give a code; the gateway before them, which asks for the key alone, gives none.
        return unauthorised("The project does not take this token any more.") if error.code else wrong_key()
    if isinstance(error, AccessError):
        return Problem(403, "The project refused this for your account.", remedy=NO_ROLE)
    remedy = error.remedy.replace("list_runs()", "GET /runs")  # as somebody here asks
    if isinstance(error, ReadError):
        return Problem(404, error.message, remedy=remedy)
    if isinstance(error, ConfigurationError):
        return Problem(422, error.message, remedy=remedy)
    if isinstance(error, RequestRefused) and (error.code or "").startswith(DATA_EXCEPTION):
        return Problem(422, UNUSABLE, remedy=OPENAPI)
    logger.error("The project refused a request: %s", type(error).__name__)
    return Problem(502, "The project refused the request.", remedy="Give the operator the request id.")


def _for_now(error: TransientError) -> Problem:
    """503. The project counts what all people of this site ask, sign-ins by its address, as one caller's."""
    limited = getattr(error, "status", 0) == HTTPStatus.TOO_MANY_REQUESTS
    seconds = math.ceil(getattr(error, "retry_after", None) or (RATE_LIMITED if limited else RETRY_AFTER))
    text, remedy = "The project does not answer right now.", "Try again in a moment."
    if limited:
        text = "The project takes no more requests of this site for now: there were too many."
        remedy = f"Try again in {seconds} seconds. The operator sees to Authentication → Rate Limits in the dashboard."
    return Problem(503, text, remedy=remedy, headers={"Retry-After": str(seconds)})


NO_ROLE = (
    "An operator grants `app_metadata.etl_role` = `analyst` or `operator`; it counts from your next sign-in or refresh."
)


def unauthorised(detail: str = "Sign in first.") -> Problem:
    """401, with what a client has to send."""
    remedy = "POST /auth/sign-in gives a token; send it as `Authorization: Bearer …`."
    return Problem(401, detail, remedy=remedy, headers={"WWW-Authenticate": "Bearer"})


def wrong_key() -> Problem:
    """503: whoever asks can do nothing about it, and another sign-in would not help."""
    text = "The project does not take this site's SUPABASE_KEY: nobody can be signed in."
    return Problem(503, text, remedy="The operator sets the project's current publishable key.")


def install(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(Problem, lambda request, error: answer(request, _as(Problem, error)))
    app.add_exception_handler(
        PipelineError, lambda request, error: answer(request, of_error(_as(PipelineError, error)))
    )
    app.add_exception_handler(RequestValidationError, lambda request, error: answer(request, _invalid(error)))
    app.add_exception_handler(HTTPException, lambda request, error: answer(request, _of_http(error)))


def _as(kind: type[Any], error: Exception) -> Any:
    """The error as what its handler was registered for: Starlette types handlers by their base class."""
    if not isinstance(error, kind):
        raise error
    return error


def _of_http(error: Exception) -> Problem:
    """What the framework itself refuses: no such route, a method that is not there."""
    found: HTTPException = _as(HTTPException, error)
    text = "There is no such page." if found.status_code == 404 else str(found.detail)
    return Problem(found.status_code, text, headers=found.headers)


def _invalid(error: Exception) -> Problem:
    problem = Problem(422, UNUSABLE, remedy=OPENAPI)
    problem.errors = [
        FieldProblem(field=".".join(map(str, found["loc"])), message=said_of(found))
        for found in _as(RequestValidationError, error).errors()
    ]
    return problem


def answer(request: Request, problem: Problem) -> Response:
    """A problem as a response: a page for a browser that asked for one, JSON for everyone else."""
    if "text/html" in request.headers.get("accept", ""):
        page: Response = request.app.state.problem_page(request, problem)
        return page
    return JSONResponse(
        body_of(request, problem).model_dump(exclude_defaults=True),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def body_of(request: Request, problem: Problem) -> ProblemBody:
    """The problem's body, with the request's id."""
    return ProblemBody(
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        remedy=problem.remedy,
        request_id=getattr(request.state, "request_id", ""),
        errors=problem.errors,
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's documentation says of the problems it answers with."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
