"""Which rows of a source differ from what is known of them: the database finds them by fingerprints, no row is read.

A key is listed when its row is new, gone, has another fingerprint, or is tried every night. All others are counted and
their fingerprints summed, at the source and as known: the proof that nothing was missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import ARROW_TYPES, Table
from tasks.retry import GiveUp

WHOLE = 2**64


class TooManyChanges(Exception):
    """More keys differ than are worth an incremental night."""


class CannotFindChanges(Exception):
    """The database cannot list the changes of this source; `args[0]` says why."""


@dataclass
class Changes:
    """What was found of one table. fingerprints: by key as text, at the source; None for a row that is not there.

    source_rows, source_sum: of the whole source, refused rows included. known_rows, known_sum: of what is stored,
    refused rows excepted. target_rows: rows of the cleaned table. Sums are modulo 2⁶⁴.
    """

    table: Table
    fingerprints: dict[str, int | None] = field(default_factory=dict)
    source_rows: int = 0
    source_sum: int = 0
    known_rows: int = 0
    known_sum: int = 0
    target_rows: int = 0

    def add(self, answer: dict[str, Any], most: int) -> None:
        """Add what the database answered for one key range. TooManyChanges past `most` keys."""
        for key, there, fingerprint in answer["changed"]:
            self.fingerprints[key] = int(fingerprint) if there and fingerprint is not None else None
        if len(self.fingerprints) > most:
            raise TooManyChanges
        for name in ("source_rows", "known_rows", "target_rows"):
            setattr(self, name, getattr(self, name) + int(answer[name]))
        for name in ("source_sum", "known_sum"):
            setattr(self, name, (getattr(self, name) + int(answer[name])) % WHOLE)

    def keys(self) -> pa.Array:
        """The listed keys, in key order."""
        return keys_of(self.table, list(self.fingerprints))


class ChangeFinder(Protocol):
    """Finds and fetches changes, on one transport. Over Postgres everything is of one instant."""

    one_instant: bool

    def find(self, table: Table, most: int, rows: int) -> Changes:
        """The changes of a table. TooManyChanges past `most`; CannotFindChanges when the database cannot compare.

        rows: about how many are known.
        """

    def fetch(self, table: Table, keys: pa.Array) -> pa.Table:
        """The rows of these keys that are there, in the raw schema, in key order."""

    def end(self) -> None:
        """End what holds the instant, if anything does."""

    def look_up(self, function: str, *, give_up: GiveUp | None = None, **arguments: Any) -> Any:
        """What one of our functions answers about our own tables, from JSON. give_up: as of `Database.call`."""


def keys_of(table: Table, texts: Sequence[str]) -> pa.Array:
    """Keys from their texts, sorted as the database sorts them."""
    kind = ARROW_TYPES[table.key.kind]
    keys = pa.array(list(texts), pa.string()).cast(kind)
    return keys.take(pc.sort_indices(keys)) if len(keys) else keys
