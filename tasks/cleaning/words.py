"""Texts by their bytes: words per text, and which texts need a closer look, at the speed of memory.

Arrow's regular expressions take about a microsecond for every ten bytes; most texts hold nothing that needs one. A
byte of UTF-8 is enough to decide: continuation bytes are 80–BF, lead bytes C2–F4, so a character is found by its lead.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.intp]
Counts = npt.NDArray[np.int64]

# Unicode's White_Space property, character by character (PropList.txt).
WHITE_SPACE = (
    "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
# The same beyond ASCII, as an RE2 class: RE2's own `\s` is ASCII only, and `\pZ` lacks U+0085.
WIDE_WHITE_SPACE = r"[\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"


def text_bytes(array: pa.Array) -> tuple[Bytes, Offsets]:
    """The bytes of a string array, and where each text begins in them (one offset more than texts). No copy."""
    _, offset_buffer, data_buffer = array.buffers()
    if not len(array):
        return np.empty(0, np.uint8), np.zeros(1, np.int32)
    offsets = np.frombuffer(offset_buffer, np.int32)[array.offset : array.offset + len(array) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    return np.frombuffer(data_buffer, np.uint8)[first:last], offsets - first


def any_in_text(hits: Mask, offsets: Offsets) -> Mask:
    """Per text, whether any of its bytes is marked in `hits`."""
    found = np.zeros(len(offsets) - 1, np.bool_)
    if hits.any():
        filled = np.flatnonzero(np.diff(offsets))
        found[filled] = np.bitwise_or.reduceat(hits.view(np.uint8), offsets[filled]).view(np.bool_)
    return found


def is_ascii_space(data: Bytes) -> Mask:
    """Per byte, whether it is one of the six ASCII white-space characters."""
    return np.asarray((data == 0x20) | (data - np.uint8(9) <= 4), np.bool_)  # below 9 wraps around to above 4


def white_space(data: Bytes) -> Mask:
    """Per byte, whether it belongs to a white-space character."""
    space = is_ascii_space(data)
    if len(data) and data.max() >= 0x80:
        for width, positions in _wide_white_space(data):
            for byte in range(width):
                space[positions + byte] = True
    return space


def _wide_white_space(data: Bytes) -> Iterator[tuple[int, Positions]]:
    """Width in bytes and first byte of each white-space character beyond ASCII."""
    lead = np.flatnonzero(data == 0xC2)
    yield 2, lead[np.isin(data[lead + 1], (0x85, 0xA0))]
    lead = np.flatnonzero((data == 0xE1) | (data == 0xE2) | (data == 0xE3))
    tail = data[lead + 1].astype(np.uint16) << 8 | data[lead + 2]
    first = data[lead]
    general = (tail >= 0x8080) & (tail <= 0x808A) | np.isin(tail, (0x80A8, 0x80A9, 0x80AF, 0x819F))
    yield 3, lead[(first == 0xE2) & general | (first == 0xE1) & (tail == 0x9A80) | (first == 0xE3) & (tail == 0x8080)]


def word_counts(array: pa.Array) -> Counts:
    """Maximal runs of non-white-space in each text; 0 for null."""
    data, offsets = text_bytes(array)
    counts = np.zeros(len(array), np.int64)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        counts[filled] = np.add.reduceat(_word_starts(data, offsets[filled]), offsets[filled], dtype=np.int32)
    if array.null_count:
        counts[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return counts


def _word_starts(data: Bytes, text_starts: Offsets) -> Mask:
    space = white_space(data)
    starts = np.empty(len(data), np.bool_)
    np.greater(space[:-1], space[1:], out=starts[1:])
    starts[text_starts] = ~space[text_starts]
    return starts


def remove(array: pa.Array, pattern: str) -> pa.Array:
    """The texts without what a pattern matches; the same array if it matches in none."""
    has = pc.fill_null(pc.match_substring_regex(array, pattern), False)
    if not has.true_count:
        return array
    return pc.replace_with_mask(array, has, pc.replace_substring_regex(array.filter(has), pattern, ""))


def narrow(where: pa.Array, has: pa.Array) -> pa.Array:
    """A mask over all rows from `where`, and a mask over the rows that it points at."""
    mask = where.to_numpy(zero_copy_only=False).copy()
    mask[mask] = has.to_numpy(zero_copy_only=False)
    return pa.array(mask)
