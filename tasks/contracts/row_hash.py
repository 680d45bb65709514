"""The hash of every cleaned row; `model` puts the two columns behind it that are not part of it."""

from __future__ import annotations

from tasks.contracts.model import FINGERPRINT, RULE_MASK, Column

ROW_HASH = Column(
    "row_hash",
    "text",
    "md5 over the other columns in this order, as text, joined by U+001F, null as U+001E, instants as microseconds.",
    nullable=False,
    derived=True,
    in_file="absent",
)

# What row_hash is not computed over.
STAMPS = frozenset({ROW_HASH.name, FINGERPRINT.name, RULE_MASK.name})
