"""docs/keys.md, followed on the stack: each kind of key is rotated, with the commands of the page."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from local_stack import Stack, rekey
from local_stack.tests.conftest import sdk
from scripts.token import main as mint_token
from tasks.errors import PipelineError
from tasks.platform.identity import acting, claims_of
from tasks.platform.rights import api_rights, login_rights
from tasks.settings import Settings
from tests.conftest import temporary_stack

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "keys.md").read_text()
SQL = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
SHELL = [
    line.partition("  #")[0] for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]


@pytest.fixture(scope="module")
def mine() -> Iterator[Stack]:
    """A stack of this module's own: its keys change."""
    with temporary_stack() as stack:
        yield stack


def settings_of(stack: Stack, **more: Any) -> Settings:
    values = {
        "supabase_url": stack.url,
        "supabase_key": stack.key,
        "transport": "rest",
        "retries": 1,
        "retry_base": 0.02,
    }
    return Settings(_env_file=None, **{**values, **more})


def acts_as(settings: Settings) -> str:
    return api_rights(settings).role


def refused(settings: Settings) -> bool:
    try:
        acts_as(settings)
    except PipelineError:
        return True
    return False


def command(line: str, **env: str) -> str:
    """What a line of the page prints."""
    words = [word for word in shlex.split(line) if "=" not in word or word.startswith("-")]
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def new_secret() -> str:
    return f"sb_secret_{secrets.token_hex(24)}"


def statement(beginning: str) -> str:
    (found,) = (str(block) for block in SQL if block.startswith(beginning))
    return found


def user_of(stack: Stack) -> tuple[str, str]:
    email, password = f"pipeline-{secrets.token_hex(4)}@example.com", secrets.token_hex(12)
    with sdk(stack, stack.key) as public:
        public.auth.sign_up({"email": email, "password": password})
    stack.query(statement("update auth.users").replace("pipeline@example.com", email))
    return email, password


def test_secret_keys_overlap_while_they_are_rotated(mine: Stack) -> None:
    old, new = mine.service_key, new_secret()
    both = rekey(mine.home, more_secret_keys=[new])
    for key in (old, new):
        assert acts_as(settings_of(both, supabase_service_key=key)) == "service_role"
    rekey(mine.home, secret_key=new, more_secret_keys=[])
    assert acts_as(settings_of(mine, supabase_service_key=new)) == "service_role"
    assert refused(settings_of(mine, supabase_service_key=old))


def test_the_older_keys_and_tokens_all_end_with_the_jwt_secret(mine: Stack) -> None:
    stack = rekey(mine.home)
    service, anon = (jwt.encode({"role": role}, stack.jwt_secret, "HS256") for role in ("service_role", "anon"))
    assert acts_as(settings_of(stack, supabase_service_key=service)) == "service_role"
    minted = command(SHELL[0], SUPABASE_JWT_SECRET=stack.jwt_secret)
    by_token = {"supabase_key": anon, "access_token": minted}
    assert acts_as(settings_of(stack, **by_token)) == "etl"
    email, password = user_of(stack)
    stack = rekey(mine.home, jwt_secret=secrets.token_hex(24))
    assert refused(settings_of(stack, supabase_service_key=service))
    assert refused(settings_of(stack, access_token=minted))
    again = command(SHELL[0], SUPABASE_JWT_SECRET=stack.jwt_secret)
    assert acts_as(settings_of(stack, access_token=again)) == "etl"
    assert acts_as(settings_of(stack, email=email, password=password)) == "etl", "ETL_EMAIL needs nothing"


def signing_key(folder: Path, kid: str) -> dict[str, str]:
    """A private signing key, also as the file that docs/keys.md names."""
    jwk = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    key = {name: str(jwk[name]) for name in ("kty", "crv", "x", "y", "d")} | {"kid": kid}
    (folder / "signing-key.json").write_text(json.dumps(key))
    return key


def test_signing_keys_are_trusted_before_they_sign_and_after(mine: Stack, tmp_path: Path) -> None:
    path = str(tmp_path / "signing-key.json")
    old = signing_key(tmp_path, "old")
    stack = rekey(mine.home, signing_keys=[old])
    by_old = command(SHELL[1].replace("signing-key.json", path))
    email, password = user_of(stack)
    user = settings_of(stack, email=email, password=password, retries=3)
    with acting(user) as identity:
        first = str(identity.bearer())
        assert jwt.get_unverified_header(first)["kid"] == "old"
        new = signing_key(tmp_path, "new")
        rekey(mine.home, signing_keys=[old, new])  # standby
        rekey(mine.home, signing_keys=[new, old])  # rotated
        assert acts_as(user) == "etl", "the session's token is still trusted"
        by_new = command(SHELL[1].replace("signing-key.json", path))
        for minted in (by_old, by_new):
            assert acts_as(settings_of(stack, access_token=minted)) == "etl"
        rekey(mine.home, signing_keys=[new])  # revoked
        assert refused(settings_of(stack, access_token=by_old))
        assert acts_as(settings_of(stack, access_token=by_new)) == "etl"
        assert acts_as(user) == "etl", "the session got another token by itself"
        second = str(identity.bearer())
        assert jwt.get_unverified_header(second)["kid"] == "new"
        assert claims_of(second)["session_id"] == claims_of(first)["session_id"]
    rekey(mine.home, signing_keys=[])


def test_a_new_password_of_the_user(mine: Stack) -> None:
    stack = rekey(mine.home)
    email, password = user_of(stack)
    running = settings_of(stack, email=email, password=password)
    with acting(running):
        assert acts_as(running) == "etl"
        new = secrets.token_hex(12)
        with sdk(stack, stack.key) as public:
            public.auth.sign_in_with_password({"email": email, "password": password})
            public.auth.update_user({"password": new})
        assert acts_as(running) == "etl", "a run that is running goes on with its session"
    assert acts_as(settings_of(stack, email=email, password=new)) == "etl"
    assert refused(settings_of(stack, email=email, password=password))


def test_a_second_login_takes_the_place_of_the_first(mine: Stack) -> None:
    stack = rekey(mine.home)
    host = urlsplit(stack.db_url).netloc.rpartition("@")[2]

    def role(name: str, password: str) -> str:
        url = f"postgresql://{name}:{password.replace(' ', '%20')}@{host}/postgres"
        found = login_rights(
            settings_of(stack, supabase_service_key=stack.service_key, supabase_db_url=url, transport="postgres")
        )
        assert not found.beyond
        return found.role

    stack.query(statement("create role etl_login login"))
    assert role("etl_login", "a long random password") == "etl_login"
    stack.query(statement("create role etl_login_2"))
    assert role("etl_login_2", "another long random password") == "etl_login_2"
    stack.query(statement("drop role"))
    with pytest.raises(PipelineError):
        role("etl_login", "a long random password")
    stack.query("drop role etl_login_2")


@pytest.mark.parametrize("text", ["{}", "[1]", '{"kty": "oct", "k": "aGk"}', "no JSON"])
def test_a_key_that_is_none_is_reported(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "none.json"
    key.write_text(text)
    assert mint_token(["--key", str(key)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{key} is no key to sign with (")
    assert "with its kid" in said
