"""Cleaning of text: plain functions from a string array to a string array.

Most texts are clean already, so every step first asks which texts it concerns, and touches only those.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import differs
from tasks.cleaning.words import (
    WHITE_SPACE,
    Bytes,
    Mask,
    Positions,
    any_in_text,
    is_ascii_space,
    narrow,
    remove,
    text_bytes,
)
from tasks.contracts import Cleaning

# Zero-width space, word joiner, byte-order mark, and the marks that change the direction of writing. Joiners (U+200C,
# U+200D) stay: emoji and several scripts need them.
_INVISIBLE = r"\x{200b}\x{2060}\x{feff}\x{202a}-\x{202e}\x{2066}-\x{2069}"
# Lead bytes of characters that may change; C3–CB, D0, D1, E4–E9, EB and EC lead none.
_ODD = np.zeros(256, np.bool_)
_ODD[[0xC2, *range(0xCC, 0xD0), *range(0xD2, 0xE4), 0xEA, *range(0xED, 0xF5)]] = True
_UNWANTED: dict[Cleaning, str] = {
    "line": rf"[\x00-\x1f\x7f-\x{{9f}}{_INVISIBLE}]",
    "block": rf"[\x00-\x08\x0b-\x1f\x7f-\x{{9f}}{_INVISIBLE}]",
}


def clean_texts(array: pa.Array, cleaning: Cleaning, *, keep_empty: bool = False) -> pa.Array:
    """Newlines, control and invisible characters, NFC, outer white space, and null for what is empty then.

    array: strings. cleaning: `line` makes tab and newline a space, `block` keeps them. keep_empty: no null for empty.
    Returns the same array when nothing changes.
    """
    suspects = pa.array(_suspects(array, cleaning))
    if not suspects.true_count:
        return array
    before = array.filter(suspects)
    after = _clean_all(before, cleaning, keep_empty=keep_empty)
    changed = differs(before, after)
    if not changed.true_count:
        return array
    return pc.replace_with_mask(array, narrow(suspects, changed), after.filter(changed))


def _suspects(array: pa.Array, cleaning: Cleaning) -> Mask:
    """Which texts may change: by a byte in them, by their first or last byte, or for being empty."""
    data, offsets = text_bytes(array)
    odd = _is_control(data, cleaning)
    if len(data) and data.max() >= 0x80:
        odd[_odd_leads(data)] = True
    found = any_in_text(odd, offsets)
    filled = np.flatnonzero(np.diff(offsets))
    found[filled] |= is_ascii_space(data[offsets[filled]]) | is_ascii_space(data[offsets[filled + 1] - 1])
    found |= np.diff(offsets) == 0
    if array.null_count:
        found &= array.is_valid().to_numpy(zero_copy_only=False)
    return np.asarray(found, np.bool_)


def _odd_leads(data: Bytes) -> Positions:
    """First bytes of the characters beyond ASCII that are not known to stay as they are.

    Known to stay are those that neither compose, decompose, combine, nor are white space, control or invisible:
    U+00C0–02FF, U+0400–047F, U+4000–9FFF, U+B000–CFFF, U+1F000–1FFFF, and what `_stays_in_e2` has.
    """
    lead = np.flatnonzero((data == 0xC2) | (data >= 0xCC))
    lead = lead[_ODD[data[lead]]]
    first, second = data[lead], data[lead + 1]
    stays = (first == 0xF0) & (second == 0x9F)
    wide = np.flatnonzero(first == 0xE2)
    stays[wide] = _stays_in_e2(second[wide], data[lead[wide] + 2])
    return np.asarray(lead[~stays], np.intp)


def _stays_in_e2(second: Bytes, third: Bytes) -> Mask:
    """Of U+2000–2FFF: the joiners, dashes, quotes and dots, currencies, and U+2500–27BF (shapes, symbols, dingbats)."""
    general = (third == 0x8C) | (third == 0x8D) | (third >= 0x90) & (third <= 0xA7) | (third >= 0xB0)
    currencies = (second == 0x82) & (third >= 0xA0)
    return np.asarray((second == 0x80) & general | currencies | (second >= 0x94) & (second <= 0x9E), np.bool_)


def _is_control(data: Bytes, cleaning: Cleaning) -> Mask:
    control = np.asarray(data < 0x20, np.bool_)
    if cleaning == "block":
        control &= (data != 0x09) & (data != 0x0A)
    return np.asarray(control | (data == 0x7F), np.bool_)


def _clean_all(texts: pa.Array, cleaning: Cleaning, *, keep_empty: bool) -> pa.Array:
    texts = pc.replace_substring(pc.replace_substring(texts, "\r\n", "\n"), "\r", "\n")
    if cleaning == "line":
        texts = pc.replace_substring(pc.replace_substring(texts, "\n", " "), "\t", " ")
    texts = pc.utf8_trim(_compose(remove(texts, _UNWANTED[cleaning])), characters=WHITE_SPACE)
    return texts if keep_empty else pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def _compose(texts: pa.Array) -> pa.Array:
    wide = pc.fill_null(pc.invert(pc.string_is_ascii(texts)), False)
    if not wide.true_count:
        return texts
    return pc.replace_with_mask(texts, wide, pc.utf8_normalize(texts.filter(wide), form="NFC"))
