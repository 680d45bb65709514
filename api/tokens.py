"""Who a token names: verified here by the project's JWKS or secret, so that nothing is asked before it is known."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt

from api.problems import Problem, unauthorised
from api.upstream import Upstream
from tasks.errors import PipelineError, ServiceUnavailable
from tasks.platform.identity import claims_of, etl_role_of
from tasks.settings import Settings

Role = Literal["customer", "analyst", "operator"]

ASYMMETRIC = ("ES256", "RS256", "EdDSA")
SECRET = ("HS256",)
KEYS_SECONDS = 600.0
KEYS_AGAIN_SECONDS = 30.0  # a key that is not known may be new; asked for at most so often
MAX_TOKEN = 16_384
EXPIRED, ANOTHER = "The token has expired.", "The token is another project's."


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who is signed in. `token` goes to the project with every question and to no log."""

    token: str = field(repr=False)
    user_id: str
    email: str = field(repr=False)
    role: Role
    expires_at: int
    by_cookie: bool = False

    @property
    def reads(self) -> bool:
        """Whether reports and runs are for them; row-level security says the same."""
        return self.role in ("analyst", "operator")


class Verifier:
    """Checks signature, time, audience and issuer of access tokens."""

    def __init__(self, settings: Settings, upstream: Upstream) -> None:
        self._secret = settings.supabase_jwt_secret.get_secret_value()
        self._issuer = settings.api_issuer or upstream.url("/auth/v1")
        self._skew, self._keys = settings.api_clock_skew, _Keys(upstream)

    def caller(self, token: str, *, by_cookie: bool = False) -> Caller:
        """Who it is; Problem 401 says what is wrong with the token."""
        claims = self._claims(token)
        if claims.get("role") != "authenticated" or not claims.get("sub"):
            raise unauthorised("This token is no signed-in user's.")
        return Caller(
            token, str(claims["sub"]), str(claims.get("email") or ""), _role(claims), int(claims["exp"]), by_cookie
        )

    def require_taken(self, token: str) -> None:
        """Problem 503 when a token that Auth has just given has expired by this machine's clock, or has another issuer.

        With a custom domain it stays the project's own: https://github.com/orgs/supabase/discussions/44373
        """
        try:
            self.caller(token)
        except Problem as problem:
            if problem.detail == ANOTHER:
                text = "This site takes the project's tokens for another project's."
                remedy = f"The operator sets ETL_API_ISSUER={claims_of(token)['iss']}"
                raise Problem(503, text, remedy=remedy) from None
            raise _wrong_clock("ahead of") if problem.detail == EXPIRED else problem from None

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            if len(token) > MAX_TOKEN:
                raise jwt.InvalidTokenError
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(token),
                algorithms=[*SECRET] if self._is_secret(token) else [*ASYMMETRIC],
                audience="authenticated",
                leeway=self._skew,
                options={"require": ["exp", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise unauthorised(EXPIRED) from None
        except jwt.ImmatureSignatureError:
            raise _wrong_clock("behind") from None
        except jwt.PyJWTError:
            raise unauthorised("The token is not one of this project's.") from None
        if claims.get("iss") not in (None, self._issuer):
            raise unauthorised(ANOTHER)
        return claims

    @staticmethod
    def _is_secret(token: str) -> bool:
        return jwt.get_unverified_header(token).get("alg") in SECRET

    def _key(self, token: str) -> Any:
        """The key for a token's kind of signature: a public key never serves as a secret."""
        if not self._is_secret(token):
            return self._keys.of(str(jwt.get_unverified_header(token).get("kid") or ""))
        if not self._secret:
            raise Problem(503, "This server cannot verify tokens.", remedy="The operator sets SUPABASE_JWT_SECRET.")
        return self._secret


def _wrong_clock(how: str) -> Problem:
    text = f"This server's clock is {how} that of the project: nobody can be signed in."
    return Problem(503, text, remedy="The operator sets the clock of the server's machine (NTP).")


def _role(claims: dict[str, Any]) -> Role:
    given = etl_role_of(claims)
    return given if given in ("analyst", "operator") else "customer"


class _Keys:
    """The project's public keys by id, kept for ten minutes."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream, self._lock = upstream, threading.Lock()
        self._known: dict[str, jwt.PyJWK] = {}
        self._asked_at = float("-inf")
        self._away = False

    def of(self, kid: str) -> jwt.PyJWK:
        with self._lock:
            age = time.monotonic() - self._asked_at
            if age > KEYS_SECONDS or (kid not in self._known and age > KEYS_AGAIN_SECONDS):
                self._ask()
            if kid not in self._known:
                raise ServiceUnavailable("Auth's keys could not be had.") if self._away else jwt.InvalidKeyError
            return self._known[kid]

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        try:
            answer = self._upstream.get("/auth/v1/.well-known/jwks.json", None)
        except PipelineError:
            self._away = True
            return  # what was known serves on; of another key nothing can be said for a while
        self._away = False
        keys = [key for key in answer.get("keys", []) if key.get("kty") in ("EC", "RSA", "OKP")]
        self._known = {str(key.get("kid") or ""): jwt.PyJWK(key) for key in keys}  # each verifies by its own algorithm
