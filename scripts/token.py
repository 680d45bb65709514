"""Mint ETL_ACCESS_TOKEN: a token with the role etl, signed with a key that only the project's owner has.

python -m scripts.token [--days 90] [--key FILE]   prints the token to stdout

Without --key it is signed with SUPABASE_JWT_SECRET (the older JWT secret) from the environment; with --key by a private
signing key of the project as a JWK in a file, ES256 or RS256.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt

from tasks.errors import SettingsError
from tasks.platform.identity import ROLE
from tasks.settings.load import any_settings

MAX_DAYS = 366


def main(arguments: Sequence[str] | None = None) -> int:
    """0 printed, 1 the key is none, 2 no key was given, or a setting is wrong."""
    parser = argparse.ArgumentParser(prog="python -m scripts.token", description="Mint a token with the role etl.")
    parser.add_argument("--days", type=_days, default=90, help="how long it is valid: 1 to 366 (90)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="a private signing key as a JWK")
    options = parser.parse_args(arguments)
    try:
        secret = any_settings().supabase_jwt_secret.get_secret_value()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not options.key and not secret:
        sys.stderr.write("Neither --key nor SUPABASE_JWT_SECRET is given: what should sign the token?\n")
        return 2
    try:
        sys.stdout.write(f"{mint(options.days, secret=secret, key=options.key)}\n")
    except (OSError, ValueError, jwt.PyJWTError) as error:
        sys.stderr.write(f"{options.key or 'SUPABASE_JWT_SECRET'} is no key to sign with ({type(error).__name__}).")
        sys.stderr.write(" With --key it is a private signing key as a JWK, with its kid.\n" if options.key else "\n")
        return 1
    return 0


def mint(days: int, *, secret: str = "", key: Path | None = None) -> str:
    """The token. Raises OSError, ValueError or PyJWTError for a file that is no private key."""
    now = datetime.now(UTC)
    claims = {"role": ROLE, "iss": "supabase-nightly", "iat": now, "exp": now + timedelta(days=days)}
    if key is None:
        return jwt.encode(claims, secret, "HS256")
    jwk = json.loads(key.read_text())
    if not isinstance(jwk, dict) or not jwk.get("kid"):  # by which the project knows the key
        raise jwt.InvalidKeyError
    algorithm = "RS256" if jwk.get("kty") == "RSA" else "ES256"
    return jwt.encode(claims, jwt.PyJWK(jwk, algorithm).key, algorithm, headers={"kid": jwk["kid"]})


def _days(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MAX_DAYS):
        raise argparse.ArgumentTypeError(f"{text!r} days: give 1 to {MAX_DAYS}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
