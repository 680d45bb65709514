"""Types of settings that several parts share, and what a value of them may be."""

from __future__ import annotations

import json
import re
import ssl
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr

Transport = Literal["rest", "postgres"]
TransportChoice = Literal["auto", "rest", "postgres"]

ESCAPED = (
    "Write special characters of a password as %40 (@), %2F (/), %3A (:), %23 (#), %25 (%), %5B ([), %5D (]), "
    "%20 (a space)"
)


def named(variable: str) -> AliasChoices:
    """A setting whose variable has no prefix of ours."""
    return AliasChoices(variable, variable.lower())


def _address(value: str) -> str:
    if not value.isprintable() or " " in value:
        raise ValueError("must not hold a space or an invisible character")
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must look like https://<ref>.supabase.co")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("must have a port up to 65535, or none") from None
    if re.search(r"/(rest|auth|storage)/v1", parts.path):
        raise ValueError("must be the project's address alone, without /rest/v1 and the like")
    return value


def _of_a_project(value: str) -> str:
    if "@" in urlsplit(value).netloc:
        raise ValueError("must not hold a user or a password: they would be in every signed link")
    # Reads go to the nearest replica, writes to the primary: https://supabase.com/docs/guides/platform/read-replicas
    if (urlsplit(value).hostname or "").endswith("-all.supabase.co"):
        raise ValueError(
            "must not be the load balancer of the read replicas, where rows that have not reached one yet are missed: "
            "take https://<ref>.supabase.co"
        )
    return value


def _database(value: SecretStr) -> SecretStr:
    given = value.get_secret_value()
    if given and not re.match(r"postgres(ql)?://", given):
        raise ValueError("must start with postgresql://")
    if "YOUR-PASSWORD" in given:  # as the dashboard shows it
        raise ValueError("must have the database's password in place of [YOUR-PASSWORD]")
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00| ", given) or not _splits(given):  # what libpq takes for no address
        raise ValueError(f"is no address. {ESCAPED}")
    return value


def _splits(address: str) -> bool:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:  # of a bracket, which a host has around an IPv6 address, or of a port that is no number
        return False
    # A password with an @ and then a /, # or ?: what lies between would be named as the host.
    named = re.fullmatch(r"([^&=]+=[^&]*(&|$))*", parts.query)
    return bool(named) and "@" not in parts.path + parts.fragment


def _key(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]*", value.get_secret_value()):
        raise ValueError("holds a character that no key has, a space for instance: copy the key again")
    return value


def _headers(value: SecretStr) -> SecretStr:
    try:
        given = json.loads(value.get_secret_value())
    except ValueError:
        given = None
    # HTTP takes no other text, and what says so repeats the value, a key perhaps.
    if not isinstance(given, dict) or not all(
        isinstance(of, str) and re.fullmatch(r"[!#$%&'*+.^`|~\w-]+:([!-~]([ -~]*[!-~])?)?", f"{name}:{of}", re.ASCII)
        for name, of in given.items()
    ):
        raise ValueError('must be headers in JSON, like {"X-Name": "value"}: plain ASCII, without spaces around it')
    return value


def _certificates(value: str) -> str:
    try:
        if value:  # without a file the system's own are read, which takes longer than all other settings together
            ssl.create_default_context(cafile=value)
    except OSError:
        raise ValueError("names a file that cannot be read as certificates") from None
    return value


def without_ends(value: object) -> object:
    """A text without the spaces and the carriage return around it, which Docker and systemd pass on."""
    return value.strip() if isinstance(value, str) else value


def _scheduler(value: str) -> str:
    if value and not re.fullmatch(r"(tcp|tls|ws|wss)://[^/\s@]+:[0-9]{1,5}/?", value):
        raise ValueError("must be the address of a Dask scheduler with its port, like tcp://scheduler.example.org:8786")
    return value


def _exchange(value: str) -> str:
    if re.search(r"//[^/\s]*:[^/\s]*@", value):
        raise ValueError(
            "must not hold a password, which messages and logs of workers would show: fsspec has a file for it"
        )
    return value


def _at_home(value: Path) -> Path:
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("is in a home, and this system knows none of that account") from None


Key = Annotated[SecretStr, AfterValidator(_key)]  # an API key or a token, or empty
Database = Annotated[SecretStr, AfterValidator(_database)]  # a connection URI of PostgreSQL's, or empty
Headers = Annotated[SecretStr, AfterValidator(_headers)]  # of HTTP, in JSON; a gateway's may be a key
Certificates = Annotated[str, AfterValidator(_certificates)]  # a file, or empty
Address = Annotated[str, AfterValidator(_address)]  # of a server, or empty
Project = Annotated[Address, AfterValidator(_of_a_project)]  # of a Supabase project, or empty
Scheduler = Annotated[str, AfterValidator(_scheduler)]  # of Dask, or empty
Exchange = Annotated[str, AfterValidator(_exchange)]  # a URL of fsspec, or empty
Place = Annotated[Path, AfterValidator(_at_home)]  # on this machine; nothing else reads the ~ of a line in `.env`
Email = Annotated[str, Field(pattern=r"^([^@\s]+@[^@\s]+)?$")]
