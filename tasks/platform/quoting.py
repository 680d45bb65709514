"""Names and texts as SQL takes them: the one place where the project quotes."""

from __future__ import annotations


def identifier(*names: str) -> str:
    """A name, with its schema before it or not: `identifier("public", "users")`."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(value: str) -> str:
    """A text constant. Backslashes stand for themselves, as `standard_conforming_strings` is on by default."""
    return "'" + value.replace("'", "''") + "'"
