"""Signing in: Supabase Auth behind it, a cookie for browsers, a bearer token for everyone else.

The server keeps nothing: the tokens are in the browser's cookies, which no script can read and no other site can send
with a request that changes something.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Annotated, Any

from fastapi import Depends, Request

from api.memo import Memo
from api.problems import NO_ROLE, Problem, unauthorised, wrong_key
from api.tokens import Caller, Verifier
from api.upstream import Upstream
from tasks.errors import AccessError, RequestRefused, TransientError

ACCESS, REFRESH = "etl_access", "etl_refresh"
PART = 3_800  # bytes of a cookie's value that every browser takes
PARTS = 8
REFRESH_DAYS = 30
EARLY_SECONDS = 60  # an access token is renewed so long before it expires
SAFE = ("GET", "HEAD", "OPTIONS")
# By Auth's error code: https://supabase.com/docs/guides/auth/debugging/error-codes
_NO_PASSWORDS = {
    "captcha_failed": "The project asks for a CAPTCHA at each sign-in, which this site cannot show.",
    "email_provider_disabled": "The project lets nobody sign in with an e-mail and a password.",
}


def _why_refused(code: str | None) -> Problem:
    """Nothing is said of an account to who does not know its password: Auth looks at that first."""
    if code in _NO_PASSWORDS:
        remedy = "The operator looks at Authentication → Sign In / Providers and Attack Protection in the dashboard."
        return Problem(503, _NO_PASSWORDS[code], remedy=remedy)
    if code == "email_not_confirmed":
        return unauthorised("This e-mail address is not confirmed yet: follow the link in the mail of the project.")
    return unauthorised("The e-mail or the password is not right.")


@dataclass(frozen=True, slots=True)
class Session:
    """What Auth gives for a password or a refresh token."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


class Sessions:
    """Makes, renews and ends sessions, and finds the caller of a request."""

    def __init__(self, upstream: Upstream, verifier: Verifier) -> None:
        self._upstream, self._verifier = upstream, verifier
        # Auth takes a refresh token once: what a page asks for at the same time shares one renewal.
        self._renewed: Memo[Session] = Memo(seconds=20, size=500)

    def sign_in(self, email: str, password: str) -> Session:
        """Problem 401 says the same whether the account or its password is wrong; 503 where nobody can sign in."""
        try:
            return self._ask("password", {"email": email, "password": password})
        except RequestRefused as error:
            raise _why_refused(error.code) from None

    def refresh(self, refresh_token: str) -> Session:
        """A new session for a refresh token; Problem 401 when Auth does not take it any more."""
        try:
            return self._renewed.get(
                _digest(refresh_token), lambda: self._ask("refresh_token", {"refresh_token": refresh_token})
            )
        except RequestRefused:
            raise unauthorised("The session has ended.") from None

    def _ask(self, grant: str, body: dict[str, str]) -> Session:
        try:
            answer = self._upstream.post("/auth/v1/token", None, body, {"grant_type": grant})
        except AccessError as error:
            raise wrong_key() if error.status == 401 else error from None  # of a person Auth says 400
        session = Session(answer["access_token"], answer["refresh_token"], int(answer.get("expires_in", 3_600)))
        self._verifier.require_taken(session.access_token)
        return session

    def sign_out(self, caller: Caller) -> None:
        """End the session at Auth; one that is over already is no error. Problem 503 where Auth was not even asked.

        A page that another tab asked for with the token before the last one does not get it back.
        """
        self._renewed.forget(lambda session: session.access_token == caller.token)
        try:
            self._upstream.post("/auth/v1/logout", caller.token, {}, {"scope": "local"})
        except RequestRefused as error:
            if error.status == 401 and not error.code:  # of the gateway, which asks for the key alone
                raise wrong_key() from None

    def caller(self, request: Request) -> Caller | None:
        """Who asks: by bearer token, else by cookie, which is renewed when it must be. None: nobody is signed in."""
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._verifier.caller(bearer.strip())
        token, refresh_token = read_cookie(request, ACCESS), read_cookie(request, REFRESH)
        if not token and not refresh_token:
            if kind:  # with cookies it is a password that a proxy before this site asks for
                raise unauthorised("Authorization takes `Bearer` and a token.")
            return None
        if request.method not in SAFE:
            require_same_origin(request)
        return self._of_cookies(request, token, refresh_token)

    def _of_cookies(self, request: Request, token: str, refresh_token: str) -> Caller | None:
        caller = self._of_token(token)
        if not refresh_token or (caller and caller.expires_at - time.time() > EARLY_SECONDS):
            return caller
        try:
            session = self.refresh(refresh_token)
        except TransientError:
            if caller is None:
                raise
            return caller  # Auth may be back before it expires
        except Problem as problem:
            if problem.status != 401:
                raise
            clear_cookies(request)
            return None
        set_cookies(request, session)
        return self._verifier.caller(session.access_token, by_cookie=True)

    def _of_token(self, token: str) -> Caller | None:
        """None where another token helps: this one has expired, or is none of the project's."""
        try:
            return self._verifier.caller(token, by_cookie=True)
        except Problem as problem:
            if problem.status != 401:
                raise
            return None


def require_same_origin(request: Request) -> None:
    """Refuse what another site's page makes a browser send. SameSite alone lets a sister subdomain through."""
    origin = request.headers.get("origin", "")
    site = request.headers.get("sec-fetch-site", "")
    host = request.headers.get("host", "")
    if site in ("same-origin", "none") or (not site and host and origin.partition("://")[2] == host):
        return
    raise Problem(403, "This request came from another site's page.", remedy="Use this site's own pages, or a token.")


def has_cookies(request: Request) -> bool:
    """Whether a browser sent a session's cookies."""
    return bool(read_cookie(request, ACCESS) or read_cookie(request, REFRESH))


def read_cookie(request: Request, name: str) -> str:
    """A cookie's value; a long one is spread over `name`, `name.1`, …"""
    parts = []
    for part in range(PARTS):
        value = request.cookies.get(_part_name(request, name, part))
        if not value:
            break
        parts.append(value)
    return "".join(parts)


def set_cookies(request: Request, session: Session) -> None:
    """Have the answer to this request set the session's cookies."""
    for name, value in ((ACCESS, session.access_token), (REFRESH, session.refresh_token)):
        parts = [value[at : at + PART] for at in range(0, len(value), PART)][:PARTS]
        for number, part in enumerate(parts):
            _set(request, _part_name(request, name, number), part, REFRESH_DAYS * 86_400)
        _clear_from(request, name, len(parts))


def clear_cookies(request: Request) -> None:
    """Have the answer to this request take the session's cookies away, those that it has just renewed, too."""
    request.scope["state"].pop("cookies", None)
    for name in (ACCESS, REFRESH):
        _clear_from(request, name, 0)


def _clear_from(request: Request, name: str, first: int) -> None:
    for part in range(first, PARTS):
        if _part_name(request, name, part) in request.cookies:
            _set(request, _part_name(request, name, part), "", 0)


def _part_name(request: Request, name: str, part: int) -> str:
    prefix = "__Host-" if request.url.scheme == "https" else ""
    return f"{prefix}{name}{f'.{part}' if part else ''}"


def _set(request: Request, name: str, value: str, seconds: int) -> None:
    cookie: SimpleCookie = SimpleCookie()
    cookie[name] = value
    for fact, given in {"path": "/", "httponly": True, "samesite": "Lax", "max-age": seconds}.items():
        cookie[name][fact] = given
    cookie[name]["secure"] = request.url.scheme == "https"
    request.scope["state"].setdefault("cookies", []).append(cookie[name].OutputString())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def anyone(request: Request) -> Caller | None:
    """The caller, or None when nobody is signed in."""
    found: Caller | None = request.app.state.sessions.caller(request)
    return found


def signed_in(caller: Annotated[Caller | None, Depends(anyone)]) -> Caller:
    """A caller of any role."""
    if caller is None:
        raise unauthorised()
    return caller


def reader(caller: Annotated[Caller, Depends(signed_in)]) -> Caller:
    """An analyst or an operator."""
    if not caller.reads:
        raise Problem(403, "This account may not read the reports.", remedy=NO_ROLE)
    return caller


def operator(caller: Annotated[Caller, Depends(signed_in)]) -> Caller:
    """An operator."""
    if caller.role != "operator":
        raise Problem(403, "This is for operators only.", remedy=NO_ROLE.replace("`analyst` or ", ""))
    return caller


SignedIn = Annotated[Caller, Depends(signed_in)]
Reader = Annotated[Caller, Depends(reader)]
Operator = Annotated[Caller, Depends(operator)]


def state(request: Request) -> Any:
    """What the application holds: see api.app."""
    return request.app.state
