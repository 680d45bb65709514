"""Names and texts as SQL and PostgREST take them: the one place where the project quotes."""

from __future__ import annotations


def identifier(*names: str) -> str:
    """A name, with its schema before it or not: `identifier("public", "users")`."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(value: str) -> str:
    """A text constant. Backslashes stand for themselves, as `standard_conforming_strings` is on by default."""
    return "'" + value.replace("'", "''") + "'"


def url_column(name: str) -> str:
    """A column's name in a filter or an order of PostgREST: quoted, with backslashes, where it is no plain name."""
    plain = name.isascii() and name.replace("_", "").isalnum()
    return name if plain else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
