"""A run's folder as the stages before publishing leave it: made of a seed, the same every time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray

from local_stack import Stack
from local_stack.home import Home
from tasks.contracts import (
    AUTHOR_ACTIVITY,
    DAILY_ACTIVITY,
    DATA_QUALITY,
    FURTHER_TABLES,
    POST_STATISTICS,
    POSTS,
    REPORTS,
    SIGNUP_COHORTS,
    USER_STATISTICS,
    USERS,
    Report,
    Table,
)
from tasks.settings import Settings, load_settings
from tasks.workspace import Workspace

AS_OF = datetime(2026, 2, 1, tzinfo=UTC)
SNAPSHOT_AT = datetime(2026, 2, 1, 3, 0, 5, 123456, tzinfo=UTC)
FIRST_DAY = date(2025, 6, 1)
RULES = {
    "users": {"invalid_value": "rejected", "clean_text": "changed", "duplicate_email": "flagged"},
    "posts": {"invalid_value": "rejected", "clean_text": "changed", "orphan": "rejected", "before_signup": "flagged"},
}


@dataclass(frozen=True)
class FakeRun:
    """What publishing knows of the ledger's run."""

    run_id: str = "0198f3a0-0000-7000-8000-000000000001"
    as_of: datetime = AS_OF
    as_of_mode: str = "midnight"
    snapshot_at: datetime | None = SNAPSHOT_AT
    historical: bool = False


def settings_of(stack: Stack, data_dir: Path, **overrides: object) -> Settings:
    """Settings for a stack, by REST, that give up soon."""
    return load_settings(
        supabase_url=stack.url,
        supabase_service_key=stack.service_key,
        supabase_key=stack.key,
        transport="rest",
        data_dir=data_dir,
        **{"retries": 2, "retry_base": 0.01, **overrides},
    )


def make_workspace(
    data_dir: Path, run_id: str = FakeRun.run_id, *, users: int = 300, posts: int = 3_000, seed: int = 1
) -> Workspace:
    """A workspace with the spools `clean/*` and `reports/*`; equal arguments give equal rows."""
    workspace = Workspace.create(data_dir, run_id)
    rng = np.random.default_rng(seed)
    user_ids, post_ids = uuids(rng, users), uuids(rng, posts)
    write_spool(workspace, USERS, clean_users(rng, user_ids), batch=97)
    write_spool(workspace, POSTS, clean_posts(rng, post_ids, user_ids), batch=1_013)
    for further in FURTHER_TABLES:
        write_spool(workspace, further, any_rows(further.clean_schema, min(posts, 30)), batch=7)
    made = reports(rng, user_ids)
    for report in REPORTS:
        rows = made[report] if report in made else any_rows(report.schema, min(posts, 5))
        workspace.spool("reports", report.name, report.schema).write(0, rows.to_batches())
    return workspace


def any_rows(schema: pa.Schema, rows: int) -> pa.Table:
    """Rows of what somebody has added to the contracts: in order by any column, of several months."""
    return pa.table({field.name: _any_values(field.type, rows) for field in schema}, schema=schema)


def _any_values(kind: pa.DataType, rows: int) -> pa.Array:
    if pa.types.is_string(kind):
        return pa.array([f"{n:08x}-0000-4000-8000-{n:012x}" for n in range(rows)], kind)
    if pa.types.is_boolean(kind):
        return pa.array([n >= rows // 2 for n in range(rows)], kind)
    if pa.types.is_temporal(kind):
        return pa.array([datetime.combine(FIRST_DAY, time(), UTC) + timedelta(days=5 * n) for n in range(rows)], kind)
    return pa.array(range(rows), kind)


def write_spool(workspace: Workspace, table: Table, rows: pa.Table, *, batch: int) -> None:
    """The rows as the spool clean/<table>, cut into batches of `batch` rows, two files."""
    spool = workspace.spool("clean", table.name, table.clean_schema)
    middle = rows.num_rows // 3
    spool.write(0, rows.slice(0, middle).to_batches(max_chunksize=batch))
    spool.write(1, rows.slice(middle).to_batches(max_chunksize=batch))


def clean_users(rng: Generator, ids: list[str]) -> pa.Table:
    """Cleaned users, sorted by id."""
    rows = len(ids)
    created = _instants(rng, rows)
    return _table(
        {
            "id": ids,
            "name": _some(rng, [f"Person {i}" for i in range(rows)], 0.9),
            "email": _some(rng, [f"person{i}@mail.example" for i in range(rows)], 0.95),
            "bio": _some(rng, ["Likes\nwalks"] * rows, 0.5),
            "status": rng.choice(["active", "inactive", "other"], rows),
            "duplicate_of": _some(rng, ids, 0.05),
            "created_at": created,
            "updated_at": created,
            "row_hash": [hashlib.md5(i.encode()).hexdigest() for i in ids],
        },
        USERS.clean_schema,
    )


def clean_posts(rng: Generator, ids: list[str], users: list[str]) -> pa.Table:
    """Cleaned posts, sorted by id, of months in no order."""
    rows = len(ids)
    created = _instants(rng, rows)
    return _table(
        {
            "id": ids,
            "user_id": [users[i] for i in rng.integers(0, len(users), rows)] if rows else [],
            "title": _some(rng, ["A title"] * rows, 0.9),
            "content": ["Some words of a post"] * rows,
            "word_count": rng.poisson(60, rows),
            "char_count": rng.poisson(360, rows),
            "is_before_signup": rng.random(rows) < 0.02,
            "created_at": created,
            "updated_at": created,
            "row_hash": [hashlib.md5(i.encode()).hexdigest() for i in ids],
        },
        POSTS.clean_schema,
    )


def reports(rng: Generator, users: list[str]) -> dict[Report, pa.Table]:
    """All six reports, of a product that grows."""
    days = (AS_OF.date() - FIRST_DAY).days
    new = rng.poisson(np.linspace(5, 20, days))
    made = rng.poisson(np.linspace(20, 90, days))
    authors = np.minimum(made, rng.poisson(np.linspace(8, 40, days)))
    weekly, monthly = (_rolling(authors, window) * share // 100 + 1 for window, share in ((7, 45), (28, 30)))
    weekly = np.maximum(weekly, authors)
    monthly = np.maximum(monthly, weekly)
    daily: dict[str, object] = {
        "date": [FIRST_DAY + timedelta(days=i) for i in range(days)],
        "new_users": new, "posts": made, "authors": authors, "new_authors": new // 2, "words": made * 50,
        "authors_7d": weekly, "authors_28d": monthly, "stickiness": authors / monthly,
        "total_users": new.cumsum(), "total_posts": made.cumsum(),
    }  # fmt: skip
    tables: dict[Report, Any] = {
        USER_STATISTICS: _statistics(int(new.sum()), int(made.sum())),
        DAILY_ACTIVITY: daily,
        AUTHOR_ACTIVITY: _authors(rng, users),
        SIGNUP_COHORTS: _cohorts(rng),
        POST_STATISTICS: _hours(rng),
        DATA_QUALITY: _quality(rng),
    }
    return {report: _table(columns, report.schema) for report, columns in tables.items()}


def empty_reports() -> dict[Report, pa.Table]:
    """The reports of empty source tables."""
    names = {r: r.schema.empty_table() for r in (DAILY_ACTIVITY, AUTHOR_ACTIVITY, SIGNUP_COHORTS, POST_STATISTICS)}
    quality = [
        {"table": table, "rule": rule, "action": action, "rows_checked": 0, "rows_affected": 0, "share": None}
        for table, rules in RULES.items()
        for rule, action in rules.items()
    ]
    nothing = {c.name: None if c.nullable else 0 for c in USER_STATISTICS.columns} | {"as_of": AS_OF}
    return {
        USER_STATISTICS: pa.Table.from_pylist([nothing], schema=USER_STATISTICS.schema),
        **names,
        DATA_QUALITY: pa.Table.from_pylist(quality, schema=DATA_QUALITY.schema),
    }


def _statistics(users: int, posts: int) -> dict[str, list[object]]:
    row: dict[str, object] = {c.name: 1 for c in USER_STATISTICS.columns}
    return {k: [v] for k, v in (row | {"as_of": AS_OF, "total_users": users, "total_posts": posts}).items()}


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """The columns, and nulls for those that the pipeline adds or that somebody has added to the contract."""
    rows = len(next(iter(columns.values())))
    more = {
        field.name: pa.nulls(rows, field.type) if field.nullable else _any_values(field.type, rows)
        for field in schema
        if field.name not in columns
    }
    return pa.table({**columns, **more}, schema=schema)


def _rolling(values: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    return np.convolve(values, np.ones(window, dtype=np.int64))[: len(values)]


def _authors(rng: Generator, users: list[str]) -> dict[str, object]:
    rows = len(users)
    first = _instants(rng, rows)
    return {
        "user_id": users, "status": rng.choice(["active", "inactive", "other"], rows), "signed_up_at": first,
        "post_count": rng.integers(1, 50, rows), "first_post_at": first, "last_post_at": first,
        "active_days": rng.integers(1, 30, rows), "longest_streak_days": rng.integers(1, 9, rows),
        "median_gap_days": _some(rng, list(rng.random(rows) * 9), 0.8), "words": rng.integers(1, 5_000, rows),
        "words_per_post": rng.random(rows) * 90, "days_to_first_post": rng.random(rows) * 10 - 1,
        "days_since_last_post": rng.random(rows) * 200,
    }  # fmt: skip


def _cohorts(rng: Generator) -> dict[str, list[object]]:
    rows: list[tuple[object, ...]] = []
    months = [date(2025, m, 1) for m in range(6, 13)] + [date(2026, 1, 1)]
    for index, month in enumerate(months):
        users = int(rng.integers(150, 400))
        for since in range(len(months) - index):
            share = 0.62 * 0.78**since * rng.uniform(0.93, 1.07)
            rows.append((month, since, users, round(users * share), round(users * share) / users))
    return {c.name: list(v) for c, v in zip(SIGNUP_COHORTS.columns, zip(*rows, strict=True), strict=True)}


def _hours(rng: Generator) -> dict[str, object]:
    weekday, hour = (grid.ravel() for grid in np.meshgrid(np.arange(1, 8), np.arange(24), indexing="ij"))
    posts = rng.poisson(6 + 26 * np.exp(-((hour - 19) ** 2) / 18) + 14 * np.exp(-((hour - 12) ** 2) / 8)) + 1
    posts = np.where(weekday > 5, posts // 2 + 1, posts)
    return {
        "month": [date(2026, 1, 1)] * len(posts), "weekday": weekday, "hour": hour, "posts": posts, "words": posts * 60,
        "words_mean": posts * 0 + 60.0, "words_median": posts * 0 + 55.0, "words_p90": posts * 0 + 120.0,
        "untitled_posts": posts // 10,
    }  # fmt: skip


def _quality(rng: Generator) -> dict[str, list[object]]:
    rows = [
        (table, rule, action, 1_000, affected := int(rng.integers(0, 80)), affected / 1_000)
        for table, rules in RULES.items()
        for rule, action in rules.items()
    ]
    return {c.name: list(v) for c, v in zip(DATA_QUALITY.columns, zip(*rows, strict=True), strict=True)}


def uuids(rng: Generator, rows: int) -> list[str]:
    """Keys of version 4 in all but name, sorted."""
    texts = (rng.bytes(16).hex() for _ in range(rows))
    return sorted(f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in texts)


def _instants(rng: Generator, rows: int) -> Any:
    first = int(datetime(2025, 6, 1, tzinfo=UTC).timestamp()) * 1_000_000
    last = int(AS_OF.timestamp()) * 1_000_000
    return pa.array(rng.integers(first, last, rows), pa.timestamp("us", tz="UTC"))


def _some(rng: Generator, values: list[object] | list[str] | list[float], share: float) -> list[object]:
    return [value if keep else None for value, keep in zip(values, rng.random(len(values)) < share, strict=True)]


def content_of(stack: Stack, path: str) -> Path:
    """Where the local Storage has the content of a file of the bucket: see local_stack/lite/filestore.mjs."""
    name = hashlib.sha256(path.encode()).hexdigest()
    return Home.at(stack.home).storage / "reports" / name[:2] / name
