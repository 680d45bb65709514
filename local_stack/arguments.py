"""Values of a command's arguments: what cannot be meant is a sentence of its usage."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path


def folder(text: str) -> Path:
    """A folder; never that of an empty text, an unset variable of a shell, which would be the current one."""
    if not text:
        raise ArgumentTypeError("it is empty; name a folder")
    try:
        return Path(text).expanduser()  # no shell does that behind `--home=`
    except RuntimeError:
        raise ArgumentTypeError(f"{text!r} is in a home, and this system knows none of that account") from None


def port(text: str) -> int:
    """The number of a port; 0 leaves the choice."""
    if not (text.isdecimal() and int(text) <= 65_535):
        raise ArgumentTypeError(f"{text!r} is no port; 1 to 65535, or 0 for a free one")
    return int(text)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)
