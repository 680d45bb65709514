"""On the demo data: what the generator promises, what the SQL recomputes and what a run says are the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from data.demo import expected_counts, make_tables
from data.demo.times import INFINITY, YEAR_1970, YEAR_10000
from tasks.cleaning.rules import RULES
from tests.cleaning.spools import Row, all_reports, make_run
from tests.reports.recompute import assert_same_everywhere, recomputed

UNTIL = datetime(2026, 3, 1, tzinfo=UTC)
USERS, POSTS = 400, 3_000
_SINCE = datetime(2000, 1, 1, tzinfo=UTC)


def as_read(row: Row) -> Row:
    """A row of the generator as a transport would give it."""
    invalid = [
        f"{name}: {said}" for name, said in ((n, _unholdable(row[n])) for n in ("created_at", "updated_at")) if said
    ]
    return {name: _value(value) for name, value in row.items()} | {"_invalid": invalid[0] if invalid else None}


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return str(UUID(bytes=value))
    if isinstance(value, int):
        return None if _unholdable(value) else _SINCE + timedelta(microseconds=value)
    return value


def _unholdable(micros: int | None) -> str | None:
    if micros is None or YEAR_1970 <= micros < YEAR_10000:
        return None
    if micros < YEAR_1970:
        return "-infinity" if micros == -(2**63) else "before 1970"
    return "infinity" if micros == INFINITY else "after 9999"


def demo() -> dict[str, list[Row]]:
    found: dict[str, list[pa.Table]] = {"users": [], "posts": []}
    for name, chunk in make_tables(USERS, POSTS, until=UNTIL):
        found[name].append(chunk)
    return {name: [as_read(row) for row in pa.concat_tables(chunks).to_pylist()] for name, chunks in found.items()}


def test_the_demo(tmp_path: Path) -> None:
    rows = demo()
    when = {"as_of": UNTIL, "snapshot_at": UNTIL}
    workspace, _ = make_run(tmp_path, rows["users"], rows["posts"], cuts=[7, 100, 101, 1_000, 2_500], **when)
    with recomputed(rows["users"], rows["posts"], **when) as connection:
        assert_same_everywhere(workspace, connection)
    quality = all_reports(workspace)["data_quality"].to_pylist()
    found = {(row["table"], row["rule"]): (row["rows_checked"], row["rows_affected"]) for row in quality}
    expected = expected_counts(USERS, POSTS).quality()
    assert {rule: found[rule] for rule in expected} == expected
    assert found.keys() == {(table, rule.name) for table, rules in RULES.items() for rule in rules}
