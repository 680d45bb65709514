"""Signing in and out. Supabase Auth holds accounts and passwords; this process keeps neither."""

from __future__ import annotations

from typing import Any, TypeVar

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field, ValidationError

from api.problems import Problem, documented
from api.session import (
    REFRESH,
    Session,
    SignedIn,
    anyone,
    clear_cookies,
    has_cookies,
    read_cookie,
    require_same_origin,
    set_cookies,
)
from api.tokens import Role
from tasks.errors import TransientError

router = APIRouter(prefix="/auth", tags=["auth"])
M = TypeVar("M", bound=BaseModel)
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


class Credentials(BaseModel):
    """What somebody signs in with. A form may say where to go `next`: a path of this site."""

    email: str = Field(max_length=254, examples=["ana@example.com"])
    password: str = Field(max_length=1_000, examples=["correct horse battery staple"], repr=False)
    next: str = Field("/", max_length=2_000)


class RefreshToken(BaseModel):
    """A refresh token, as a sign-in gave it."""

    refresh_token: str = Field(max_length=4_000, repr=False)


class Tokens(BaseModel):
    """A session for a client that sends `Authorization: Bearer`."""

    access_token: str
    refresh_token: str
    token_type: str = "bearer"  # noqa: S105 - the kind of token, as OAuth calls it
    expires_in: int = Field(examples=[3600], description="Seconds that the access token is good for.")

    @classmethod
    def of(cls, session: Session) -> Tokens:
        return cls(
            access_token=session.access_token, refresh_token=session.refresh_token, expires_in=session.expires_in
        )


class Me(BaseModel):
    """Who is signed in."""

    id: str = Field(examples=["0193c5c8-7a52-7c57-a9f2-6f3f2a5d2f10"])
    email: str = Field(examples=["ana@example.com"])
    role: Role
    expires_at: int = Field(description="Seconds since 1970 at which the token expires.")


def _body(model: type[BaseModel], *kinds: str, required: bool = True) -> dict[str, Any]:
    """What a route's documentation says of a body that the route reads by itself."""
    content = {kind: {"schema": model.model_json_schema()} for kind in kinds}
    return {"requestBody": {"required": required, "content": content}}


_SENT_ON: dict[int | str, dict[str, Any]] = {303: {"description": "To a browser: it is sent on to a page."}}


@router.post(
    "/sign-in",
    response_model=Tokens,
    responses={**_SENT_ON, **documented(401, 403, 413, 422, 429, 503)},
    openapi_extra=_body(Credentials, JSON, FORM),
)
async def sign_in(request: Request) -> Response:
    """Sign in with e-mail and password. JSON answers with tokens; a browser's form gets cookies and is sent on."""
    is_form = request.headers.get("content-type", "").startswith(FORM)
    if is_form:
        require_same_origin(request)
    given = _parsed(dict(await request.form()) if is_form else await _json(request), Credentials)
    request.state.tried = safe_path(given.next), given.email  # the form, when it is shown again, keeps them
    address = request.client.host if request.client else ""
    await run_sync(request.app.state.throttle.sign_in, given.email, address)  # its store may be another machine's
    session = await run_sync(request.app.state.sessions.sign_in, given.email, given.password)
    if not is_form:
        return JSONResponse(Tokens.of(session).model_dump())
    set_cookies(request, session)
    return RedirectResponse(safe_path(given.next), 303)


def safe_path(path: str) -> str:
    """A path of this site, never another site's address."""
    is_ours = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_ours else "/"


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError):
        raise Problem(422, "The body is no JSON.") from None


def _parsed(body: Any, model: type[M]) -> M:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        names = sorted({str(found["loc"][0]) if found["loc"] else "body" for found in error.errors()})
        needed = " and ".join(f"`{name}`" for name, of in model.model_fields.items() if of.is_required())
        raise Problem(422, f"Not usable: {', '.join(names)}.", remedy=f"Send {needed} as text.") from None


@router.post(
    "/refresh",
    response_model=Tokens,
    responses={204: {"description": "To a browser: its cookies are new."}, **documented(401, 403, 413, 422, 503)},
    openapi_extra=_body(RefreshToken, JSON, required=False),
)
async def refresh(request: Request) -> Response:
    """A new session for a refresh token, from a JSON body or from the browser's cookie."""
    cookie = read_cookie(request, REFRESH)
    if not cookie:
        given = _parsed(await _json(request), RefreshToken)
        session = await run_sync(request.app.state.sessions.refresh, given.refresh_token)
        return JSONResponse(Tokens.of(session).model_dump())
    require_same_origin(request)
    set_cookies(request, await run_sync(request.app.state.sessions.refresh, cookie))
    return Response(status_code=204)


@router.post("/sign-out", status_code=204, responses={**_SENT_ON, **documented(401, 403, 503)})
def sign_out(request: Request) -> Response:
    """End the session. A browser's cookies go, whatever Auth answers, and it is sent to the sign-in page."""
    is_browser = has_cookies(request)
    if is_browser:
        require_same_origin(request)
    try:
        if caller := anyone(request):
            request.app.state.sessions.sign_out(caller)
    except (TransientError, Problem) as error:
        if not is_browser or (isinstance(error, Problem) and error.status != 503):
            raise
        raise _still_open(error) from None
    finally:
        clear_cookies(request)
    is_page = "text/html" in request.headers.get("accept", "")
    return RedirectResponse("/sign-in", 303) if is_page else Response(status_code=204)


def _still_open(error: TransientError | Problem) -> Problem:
    """503: a browser is signed out, and the project has not heard of it."""
    text = "This browser is signed out, but the project did not answer: it still holds the session."
    if isinstance(error, Problem):
        text = f"This browser is signed out, but the project still holds the session. {error.detail}"
    return Problem(503, text, remedy="Only this browser had its token. If somebody may have it, change the password.")


@router.get("/me", responses=documented(401))
def me(caller: SignedIn) -> Me:
    """Who is signed in, and in which role."""
    return Me(id=caller.user_id, email=caller.email, role=caller.role, expires_at=caller.expires_at)
