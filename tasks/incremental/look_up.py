"""Looking up many keys among the project's own tables: so many a call, and in halves where that takes too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from tasks.errors import ServiceUnavailable
from tasks.incremental.mode import GoFull
from tasks.retry import GiveUp, in_halves, is_statement_timeout

_KEYS_IN_ONE_CALL = 5_000


class LookUp(Protocol):
    """Asks one of our functions; see `Database.call`."""

    def __call__(self, function: str, *, give_up: GiveUp | None = None, **arguments: Any) -> Any: ...


def look_up_keys(
    look_up: LookUp, function: str, table: str, keys: Sequence[str], *, name: str = "p_keys", **arguments: Any
) -> Iterator[list[Any]]:
    """What `function` answers about these keys, a list for each call. GoFull when a single one takes longer than the
    statement timeout: the audit goes without it.

    name: of the argument that takes the keys. arguments: the others, besides the table.
    """

    def ask(part: list[str], give_up: GiveUp | None) -> list[Any]:
        return list(look_up(function, give_up=give_up, p_table=table, **{name: part}, **arguments))

    for at in range(0, len(keys), _KEYS_IN_ONE_CALL):
        try:
            yield from in_halves(ask, list(keys[at : at + _KEYS_IN_ONE_CALL]))
        except ServiceUnavailable as error:
            if not is_statement_timeout(error):
                raise
            raise GoFull(f"looking up one key of {table} takes longer than the statement timeout") from None
