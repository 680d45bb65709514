"""The identities a pipeline may have, as environments: the service key, a user that signs in, a token, a login."""

from __future__ import annotations

import secrets
import time

import jwt

from local_stack import Stack
from local_stack.tests.conftest import sdk

HOOK = "public.etl_access_token"
KINDS = ("service key", "signed-in user", "access token")
_MARK = """
update auth.users set raw_app_meta_data = coalesce(raw_app_meta_data, '{}') || '{"etl_role": "pipeline"}'
where email = :'email'"""


def identity_env(stack: Stack, kind: str) -> dict[str, str]:
    """What is set beside SUPABASE_URL; without the service key where the kind needs none."""
    if kind == "service key":
        return {"SUPABASE_SERVICE_KEY": stack.service_key}
    if kind == "access token":
        return {"SUPABASE_KEY": stack.key, "ETL_ACCESS_TOKEN": token(stack)}
    email, password = pipeline_user(stack)
    return {"SUPABASE_KEY": stack.key, "ETL_EMAIL": email, "ETL_PASSWORD": password}


def token(stack: Stack, *, seconds: int = 3600, **claims: object) -> str:
    """A token with the role etl, as the owner mints it with the project's JWT secret."""
    now = int(time.time())
    return jwt.encode({"role": "etl", "iat": now, "exp": now + seconds, **claims}, stack.jwt_secret, "HS256")


def pipeline_user(stack: Stack) -> tuple[str, str]:
    """A new user of the pipeline's own: e-mail and password."""
    email, password = f"etl-{secrets.token_hex(6)}@example.com", secrets.token_hex(12)
    with sdk(stack, stack.key) as public:
        public.auth.sign_up({"email": email, "password": password})
    stack.query(_MARK, {"email": email})
    return email, password
