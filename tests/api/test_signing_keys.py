"""Tokens of a project with signing keys: verified by its public keys."""

from __future__ import annotations

import json
import time

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from api.problems import Problem
from api.tokens import Verifier
from api.upstream import Upstream
from tasks.errors import ServiceUnavailable
from tests.api.conftest import Site

pytestmark = pytest.mark.xdist_group("api")
SIGNING_KEYS = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in ("known", "unknown")}

RSA_KEY = rsa.generate_private_key(65_537, 2_048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def signed(kid: str, by: str) -> str:
    """A token that says to be signed by the key `kid`, and is by the key `by`."""
    key, algorithm = (ED_KEY, "EdDSA") if by == "ed" else (SIGNING_KEYS[by], "ES256")
    claims = {"sub": "u", "aud": "authenticated", "role": "authenticated", "exp": int(time.time()) + 60}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid})


def verifier_of(site: Site, *, away: int = 0) -> tuple[Verifier, list[str]]:
    """A verifier without a secret, of a project with one signing key whose Auth is away the first times; and its
    requests."""
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(SIGNING_KEYS["known"].public_key()))
    ed = jwt.algorithms.OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) <= away:
            return httpx.Response(503)
        return httpx.Response(
            200, json={"keys": [{**jwk, "kid": "known", "alg": "ES256"}, {**ed, "kid": "ed", "alg": "EdDSA"}]}
        )

    settings = site.settings.model_copy(update={"supabase_jwt_secret": type(site.settings.supabase_key)("")})
    return Verifier(settings, Upstream(site.settings, transport=httpx.MockTransport(answer))), asked


def test_tokens_are_verified_by_the_projects_public_keys(site: Site) -> None:
    """As on projects with signing keys: ES256 or EdDSA, a key found by its id, another refused; no secret is needed."""
    verifier, asked = verifier_of(site)
    assert [verifier.caller(signed(key, key)).user_id for key in ("known", "known", "ed")] == ["u"] * 3
    assert asked == ["/auth/v1/.well-known/jwks.json"]
    of_another_kind = jwt.encode({"sub": "u"}, RSA_KEY, "RS256", headers={"kid": "known"})
    for token in (signed("known", "unknown"), signed("unknown", "unknown"), signed("known", "ed"), of_another_kind):
        with pytest.raises(Problem, match="not one of this project's"):
            verifier.caller(token)
    public = SIGNING_KEYS["known"].public_key()
    with pytest.raises((Problem, jwt.PyJWTError, TypeError)):  # a public key never serves as a secret
        verifier.caller(jwt.encode({"sub": "u"}, str(public), "HS256"))


def test_no_token_is_called_a_wrong_one_while_auth_is_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier, asked = verifier_of(site, away=1)
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            verifier.caller(signed("known", "known"))
    assert len(asked) == 1, "not asked again at once"
    monkeypatch.setattr("api.tokens.KEYS_AGAIN_SECONDS", 0.0)
    assert verifier.caller(signed("known", "known")).user_id == "u"
    assert len(asked) == 2
