"""Cleaning of text and counting of words, against Python's own Unicode tables, on text that is drawn."""

from __future__ import annotations

import re
import sys
import unicodedata
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.cleaning.rules.text import _suspects, clean_texts
from tasks.cleaning.words import WHITE_SPACE, word_counts
from tasks.contracts import Cleaning

INVISIBLE = "\u200b\u2060\ufeff" + "".join(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
HARD = (
    "aé \t\r\n\v\x1c\x7f\x85\xa0\u0301\u0323\u1100\u1161\u11a8가\u200b\u200d\u2028\u202e\u3000\u212bω\u0345"
    "—’🙂日й\ufe0f"
)
characters = st.characters(exclude_categories=["Cs", "Cn"])
texts = st.one_of(st.text(HARD, max_size=12), st.text(characters, max_size=20), st.text(st.sampled_from(WHITE_SPACE)))
arrays = st.lists(st.one_of(st.none(), texts), max_size=12)
kinds: list[Cleaning] = ["line", "block"]


def clean_slowly(text: str | None, cleaning: Cleaning) -> str | None:
    """The definition, one character after the other."""
    if text is None:
        return None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if cleaning == "line":
        text = text.replace("\n", " ").replace("\t", " ")
    kept = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    kept = "".join(c for c in kept if c not in INVISIBLE)
    return unicodedata.normalize("NFC", kept).strip(WHITE_SPACE) or None


@pytest.mark.parametrize("cleaning", kinds)
@given(values=arrays, offset=st.integers(0, 3))
def test_clean_texts_is_the_definition(cleaning: Cleaning, values: list[str | None], offset: int) -> None:
    array = pa.array(values, pa.string()).slice(offset)
    before = array.to_pylist()
    assert clean_texts(array, cleaning).to_pylist() == [clean_slowly(text, cleaning) for text in before]
    assert array.to_pylist() == before, "the input was changed"


@pytest.mark.parametrize("cleaning", kinds)
@given(values=arrays)
def test_cleaning_what_is_clean_changes_nothing(cleaning: Cleaning, values: list[str | None]) -> None:
    once = clean_texts(pa.array(values, pa.string()), cleaning)
    assert clean_texts(once, cleaning).equals(once)


@pytest.mark.parametrize("cleaning", kinds)
def test_every_short_text_loses_its_outer_white_space_also_where_nothing_else_in_it_changes(cleaning: Cleaning) -> None:
    short = ["".join(of) for size in range(5) for of in product("a日 \n\r", repeat=size)]
    assert clean_texts(pa.array(short), cleaning).to_pylist() == [clean_slowly(text, cleaning) for text in short]


# All that is white, invisible, a control or a mark of writing, and what stands beside it.
SCRIPTS = [chr(n) for n in [*range(1, 0x3100), *range(0xF900, 0x10000)]]


@pytest.mark.parametrize("cleaning", kinds)
def test_every_character_of_the_scripts_is_cleaned_by_the_definition(cleaning: Cleaning) -> None:
    around = [f"{c}a{c}a{c}" for c in SCRIPTS]
    assert clean_texts(pa.array(around), cleaning).to_pylist() == [clean_slowly(text, cleaning) for text in around]


def test_every_white_character_parts_words_and_no_other_one_does() -> None:
    assert word_counts(pa.array([f"a{c}a" for c in SCRIPTS])).tolist() == [1 + (c in WHITE_SPACE) for c in SCRIPTS]
    assert word_counts(pa.array(["a\x85a"])).tolist() == [2]


@given(values=arrays, offset=st.integers(0, 3))
def test_words_are_runs_of_what_is_not_white(values: list[str | None], offset: int) -> None:
    array = pa.array(values, pa.string()).slice(offset)
    runs = [len(re.findall(f"[^{WHITE_SPACE}]+", text or "")) for text in array.to_pylist()]
    assert word_counts(array).tolist() == runs


def test_a_null_has_no_words_whatever_lies_under_it() -> None:
    """Arrow may leave bytes where a value became null, and of no texts not even say where they begin."""
    offsets, data = pa.py_buffer(np.array([0, 3, 9], np.int32)), pa.py_buffer(b"a b c d e")
    hidden = pa.StringArray.from_buffers(2, offsets, data, pa.py_buffer(b"\x02"))
    assert hidden.to_pylist() == [None, " c d e"]
    assert word_counts(hidden).tolist() == [0, 3]
    assert clean_texts(hidden, "line").to_pylist() == [None, "c d e"]
    bare = pa.StringArray.from_buffers(0, None, pa.py_buffer(b""))
    assert len(word_counts(bare)) == len(clean_texts(bare, "line")) == 0


def test_white_space_is_the_property() -> None:
    points = [*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000]
    assert sorted(map(ord, WHITE_SPACE)) == points


@pytest.mark.parametrize("cleaning", kinds)
def test_every_character_that_is_passed_over_is_clean_alone_and_beside_any_other(cleaning: Cleaning) -> None:
    """Texts that are not looked at closely hold only characters that nothing of the cleaning could change."""
    everything = [chr(n) for n in range(1, sys.maxunicode + 1) if not 0xD800 <= n < 0xE000]
    odd = _suspects(pa.array([f"a{c}a" for c in everything]), cleaning)
    passed = [c for c, suspect in zip(everything, odd, strict=True) if not suspect]
    assert len(passed) > 35_000
    array = pa.array(passed)
    assert pc.utf8_normalize(array, form="NFC").equals(array)
    assert not [
        c
        for c in passed
        if unicodedata.combining(c) or c in INVISIBLE or unicodedata.category(c) == "Cc"
        if not (cleaning == "block" and c in "\t\n")
    ]
    # NFC is stable beside others when the character composes with nothing before it: no "maybe" of the quick check.
    assert all(unicodedata.is_normalized("NFC", f"{base}{c}") for c in passed for base in "aᄀ가")


def test_empty_becomes_null_where_null_is_allowed() -> None:
    array = pa.array(["", None, " ", "a"])
    assert clean_texts(array, "line").to_pylist() == [None, None, None, "a"]
    assert clean_texts(array, "line", keep_empty=True).to_pylist() == ["", None, "", "a"]
