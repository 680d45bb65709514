"""The last column of every cleaned table."""

from __future__ import annotations

from tasks.contracts.model import Column

ROW_HASH = Column(
    "row_hash",
    "text",
    "md5 over the other columns in this order, as text, joined by U+001F, null as U+001E, instants as microseconds.",
    nullable=False,
    derived=True,
    in_file="absent",
)
