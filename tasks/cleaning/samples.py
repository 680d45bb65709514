"""Up to five samples of before and after for each rule, masked: a run page shows what a rule does, not to whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.cleaning.rules.base import Flag, Reject, Step
from tasks.cleaning.rules.common import value_as_text
from tasks.contracts import Column, Table
from tasks.workspace import Workspace

SAMPLES = 5
_LONGEST = 60
_LOOKED_AT = 10_000
# Characters that a reader would not see, or that would change what stands beside them.
_UNSEEN_RANGES = ((0, 0x20), (0x7F, 0xA1), (0x1680, 0x1681), (0x2000, 0x2010), (0x2028, 0x2030), (0x205F, 0x2070))
_UNSEEN = frozenset({0x3000, 0xFEFF, *(code for first, end in _UNSEEN_RANGES for code in range(first, end))})


@dataclass(frozen=True, slots=True)
class Sample:
    """One row that a rule affected: the column, and its value before and after, masked where it is personal."""

    column: str
    before: str
    after: str


def save_samples(workspace: Workspace, table: str, samples: Mapping[str, Sequence[Sample]]) -> None:
    """Keep the samples of a table in the run's folder, beside those of other tables."""
    path = workspace.partials / "samples.json"
    saved = json.loads(path.read_text()) if path.exists() else {}
    saved[table] = {rule: [asdict(sample) for sample in of_rule] for rule, of_rule in samples.items()}
    path.write_text(json.dumps(saved, indent=1))


def load_samples(workspace: Workspace) -> dict[str, dict[str, list[dict[str, str]]]]:
    """The samples of a run that was cleaned: by table and rule, in the order of the rules."""
    return dict(json.loads((workspace.partials / "samples.json").read_text()))


def take_samples(step: Step, table: Table) -> list[Sample]:
    """The first rows that the rule affected in this batch. `after` of a rejected row is what was expected."""
    rows = pa.array(np.flatnonzero(step.affected)[:SAMPLES])
    before = step.before.take(rows)
    if isinstance(step.rule, Reject):
        columns = step.rule.describe(before)
        said = zip(*(column.to_pylist() for column in columns), strict=True)
        return [Sample(column, mask_id(actual), expected) for column, actual, expected in said]
    after = step.after.take(rows)
    if isinstance(step.rule, Flag):
        flags = value_as_text(after[step.rule.column]).to_pylist()
        return [Sample(step.rule.column, "", mask_id(flag)) for flag in flags]
    return [_first_difference(before.slice(i, 1), after.slice(i, 1), table) for i in range(before.num_rows)]


def _first_difference(before: pa.RecordBatch, after: pa.RecordBatch, table: Table) -> Sample:
    for column in table.source_columns:
        old, new = before[column.name][0], after[column.name][0]
        if old != new:
            return Sample(column.name, _shown(old, column), _shown(new, column))
    raise ValueError("a changed row without a difference")


def _shown(value: Any, column: Column) -> str:
    if not value.is_valid:
        return "null"
    if not pa.types.is_string(value.type):
        return str(value_as_text(pa.array([value.as_py()], value.type))[0])
    return _mask_for(column)(value.as_py())


def _mask_for(column: Column) -> Callable[[str], str]:
    if column.name == "email":
        return mask_email
    if column.cleaning == "block":
        return mask_block
    return mask_line if column.personal else shorten


def mask_email(text: str) -> str:
    """`anna@example.com` → `a***@e***.com`; what is no address is masked like a name."""
    local, at, domain = text.partition("@")
    name, dot, ending = domain.rpartition(".")
    if not (at and dot and local.strip() and name.strip() and ending.isalpha() and ending.isascii()):
        return mask_line(text)
    return f"{mask_line(local)}@{mask_line(name)}.{ending[:6]}"


def mask_line(text: str) -> str:
    """Each word to its first character and `***`; white space and invisible characters stay, as escapes."""
    masked, word = "", ""
    for char in text[: 4 * _LONGEST]:
        if char == " " or ord(char) in _UNSEEN:
            masked, word = masked + _mask_word(word) + _visible(char), ""
        else:
            word += char
    return shorten(masked + _mask_word(word))


def mask_id(text: str) -> str:
    """The first digits of a uuid; anything else as it is."""
    return f"{text[:8]}…" if text.count("-") == 4 else text


def mask_block(text: str) -> str:
    """Only how long a text is, how many lines it has, and what in it cannot be seen."""
    unseen = sorted({char for char in text[:_LOOKED_AT] if ord(char) in _UNSEEN and char != "\n"})
    edges = " with outer white space" if text != text.strip() else ""
    inside = f", with {' '.join(_visible(char) for char in unseen[:8])}" if unseen else ""
    return f"[{len(text):,} characters, {text.count(chr(10)) + 1:,} lines{edges}{inside}]"


def shorten(text: str) -> str:
    """A text that names nobody: invisible characters as escapes, at most 60 characters."""
    shown = "".join(_visible(char) for char in text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _mask_word(word: str) -> str:
    return f"{word[0]}***" if word else ""


def _visible(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code in _UNSEEN else char
