"""Types of settings that several parts share, and what a value of them may be."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field

Transport = Literal["rest", "postgres"]
TransportChoice = Literal["auto", "rest", "postgres"]


def named(variable: str) -> AliasChoices:
    """A setting whose variable has no prefix of ours."""
    return AliasChoices(variable, variable.lower())


def _address(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must look like https://<ref>.supabase.co")
    if re.search(r"/(rest|auth|storage)/v1", parts.path):
        raise ValueError("must be the project's address alone, without /rest/v1 and the like")
    return value


Address = Annotated[str, AfterValidator(_address)]  # of a server, or empty
Email = Annotated[str, Field(pattern=r"^([^@\s]+@[^@\s]+)?$")]

EmptyIsNone = BeforeValidator(lambda value: None if value == "" else value)  # an empty variable is one not set
