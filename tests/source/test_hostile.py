"""Hostile rows come out of both transports equal, column by column: held whole, or null and named in `_invalid`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from local_stack import Stack
from tests.source.kit import posts_at, read, settings_for, source_table

WHEN = "2026-01-31 12:00:00.123456+00"
# content, created_at, updated_at (as SQL), what `_invalid` must say
ROWS: tuple[tuple[str, str, str, str | None], ...] = (
    ("'plain'", f"'{WHEN}'", "null", None),
    ("null", "null", "null", None),
    ("''", "'1970-01-01 00:00:00+00'", "'9999-12-31 23:59:59.999999+00'", None),
    ("repeat('🙂é漢', 400000)", f"'{WHEN}'", "null", None),
    (r"E'\u0001\u007f\u0085\u2028\u200b\\ \" \n\r\t {\"json\": [1,2]} },{'", f"'{WHEN}'", "null", None),
    ("'𝔸👩‍👩‍👧‍👦 مرحبا'", "'2026-01-31 12:00:00+05:30'", "'2026-01-31'", None),
    ("'a'", "'infinity'", "'-infinity'", "created_at: infinity"),
    ("'b'", "'-infinity'", "'infinity'", "created_at: -infinity"),
    ("'c'", "'1969-12-31 23:59:59.999999+00'", "'infinity'", "created_at: before 1970"),
    ("'d'", "'10000-01-01 00:00:00+00'", "null", "created_at: after 9999"),
    ("'e'", "'0044-03-15 00:00:00+00 BC'", "null", "created_at: before 1970"),
    ("'f'", "'4713-01-01 00:00:00+00 BC'", "null", "created_at: before 1970"),
    ("'g'", "'294276-12-31 23:59:59.999999+00'", "null", "created_at: after 9999"),
    ("'h'", f"'{WHEN}'", "'infinity'", "updated_at: infinity"),
    ("'i'", f"'{WHEN}'", "'0001-01-01 00:00:00+00'", "updated_at: before 1970"),
    ("'j'", "null", "'9999-12-31 23:59:59.999999-01'", "updated_at: after 9999"),
)


@pytest.fixture(scope="module")
def hostile(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, pa.Table]]:
    folder = tmp_path_factory.mktemp("hostile")
    with source_table(stack) as name:
        for number, (content, created, updated, _) in enumerate(ROWS):
            stack.query(
                f"insert into public.{name} (id, title, content, created_at, updated_at) "
                f"values ('{_key(number)}', {content}, {content}, {created}, {updated})"
            )
        table = posts_at(name)
        yield {t: read(settings_for(stack, t, folder, page_rows=3), table, folder / t)[0] for t in ("rest", "postgres")}


def _key(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def test_every_column_is_equal(hostile: dict[str, pa.Table]) -> None:
    rest, postgres = hostile["rest"], hostile["postgres"]
    assert rest.schema == postgres.schema
    for name in rest.schema.names:
        assert rest[name].to_pylist() == postgres[name].to_pylist(), name


@pytest.mark.parametrize("transport", ["rest", "postgres"])
def test_every_row_is_right_or_named(hostile: dict[str, pa.Table], transport: str) -> None:
    rows = hostile[transport].to_pylist()
    assert [row["id"] for row in rows] == [_key(n) for n in range(len(ROWS))]
    assert [row["_invalid"] for row in rows] == [expected for *_, expected in ROWS]


@pytest.mark.parametrize("transport", ["rest", "postgres"])
def test_texts_come_unchanged(hostile: dict[str, pa.Table], transport: str) -> None:
    contents = hostile[transport]["content"].to_pylist()
    assert contents[1] is None
    assert contents[2] == ""
    assert contents[3] == "🙂é漢" * 400_000
    assert contents[4] == '\x01\x7f\x85\u2028\u200b\\ " \n\r\t {"json": [1,2]} },{'
    assert contents[5] == "𝔸👩‍👩‍👧‍👦 مرحبا"


@pytest.mark.parametrize("transport", ["rest", "postgres"])
def test_offending_cells_are_null_and_others_stay(hostile: dict[str, pa.Table], transport: str) -> None:
    rows = hostile[transport].to_pylist()
    assert rows[0]["created_at"].isoformat() == "2026-01-31T12:00:00.123456+00:00"
    assert rows[5]["created_at"].isoformat() == "2026-01-31T06:30:00+00:00"
    assert rows[2]["updated_at"].isoformat() == "9999-12-31T23:59:59.999999+00:00"
    assert (rows[8]["created_at"], rows[8]["updated_at"]) == (None, None)
    assert rows[13]["created_at"] is not None
    assert rows[13]["updated_at"] is None
