"""How a row is made dirty: small functions from the values that a kind of dirt befalls to what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.demo.times import NULL, Numbers

_FALLBACK = "Robin"  # what is made dirty where the column would have been null


@dataclass(frozen=True, slots=True)
class Span:
    """What a change of an instant may look at: where the demo's time ends, and a source of chance."""

    until: int
    rng: np.random.Generator


TextChange = Callable[[pa.Array], pa.Array]
TimeChange = Callable[[Numbers, Span], Numbers]


def wrap(*pairs: tuple[str, str]) -> TextChange:
    """Put something before and after; several pairs take turns."""

    def change(values: pa.Array) -> pa.Array:
        before, after = (_in_turn(side, len(values)) for side in zip(*pairs, strict=True))
        return pc.binary_join_element_wise(before, pc.fill_null(values, _FALLBACK), after, "")

    return change


def become(*values: str | None) -> TextChange:
    """Put one of these in its place, in turn."""
    return lambda old: _in_turn(values, len(old))


def capitals(before: str = "", after: str = "") -> TextChange:
    """A–Z in capitals, the only ones that cleaning makes small, with something around it."""
    return lambda values: wrap((before, after))(pc.ascii_upper(values))


def fill_to(length: int) -> TextChange:
    """Lengthened from the left to so many characters."""
    return lambda values: pc.utf8_lpad(values, length, "x")


def at(*instants: int) -> TimeChange:
    """At one of these instants, in turn."""
    return lambda values, _: np.resize(np.array(instants, np.int64), len(values))


def null_time() -> TimeChange:
    return at(NULL)


def past_until(least: int, most: int) -> TimeChange:
    """So many microseconds after the demo's end, drawn from [least, most)."""
    return lambda values, span: span.until + span.rng.integers(least, most, len(values))


def earlier(least: int, most: int) -> TimeChange:
    """Earlier than the value it is given by so many microseconds, drawn from [least, most)."""
    return lambda values, span: values - span.rng.integers(least, most, len(values))


def _in_turn(values: tuple[str | None, ...], count: int) -> pa.Array:
    return pa.array(values, pa.string()).take(pa.array(np.arange(count) % len(values)))
