"""Put the planned dirt into columns that are clean so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.demo.changes import Span
from data.demo.dirt import Kind
from data.demo.times import Flags, Numbers, Placed


def spoil_text(values: pa.Array, column: str, placed: Placed, kinds: Sequence[Kind]) -> pa.Array:
    """The column with the texts of every kind that touches it changed; `placed` has each row's kind."""
    hit = [(np.flatnonzero(placed == i), kind.texts[column]) for i, kind in enumerate(kinds) if column in kind.texts]
    rows = np.concatenate([rows for rows, _ in hit])
    dirty = pa.concat_arrays([change(values.take(pa.array(rows))) for rows, change in hit])
    mask = np.zeros(len(values), bool)
    mask[rows] = True
    return pc.replace_with_mask(values, pa.array(mask), dirty.take(pa.array(np.argsort(rows))))


def spoil_created(created: Numbers, signup: Numbers, placed: Placed, kinds: Sequence[Kind], span: Span) -> Numbers:
    """Instants of creation; kinds that lean on a sign-up are given that instead."""
    changed = created.copy()
    for i, kind in enumerate(kinds):
        if kind.created:
            rows = placed == i
            changed[rows] = kind.created((signup if kind.from_signup else created)[rows], span)
    return changed


def spoil_updated(updated: Numbers, created: Numbers, placed: Placed, kinds: Sequence[Kind], span: Span) -> Numbers:
    """Instants of the last change; kinds are given the row's created_at."""
    changed = updated.copy()
    for i, kind in enumerate(kinds):
        if kind.updated:
            rows = placed == i
            changed[rows] = kind.updated(created[rows], span)
    return changed


def flags(kinds: Sequence[Kind], chosen: Sequence[bool], placed: Placed) -> Flags:
    """For each row whether its kind is among the chosen; plain rows are not."""
    chosen_or_plain: Flags = np.array([*chosen, False])
    return chosen_or_plain[placed]  # −1, a plain row, is the last entry
