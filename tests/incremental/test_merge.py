"""Rows of a file after an edit are the same whether the edit is spliced in or all rows are sorted."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contracts import USERS
from tasks.files.parquet import file_schema, open_writer
from tasks.incremental import merge
from tasks.incremental.merge import Edit

KEYS = st.lists(st.integers(0, 40), unique=True).map(sorted)


def _rows(keys: list[int], created: int) -> pa.Table:
    """Rows of the users' file: these keys, the same instant in each."""
    columns = {name: pa.nulls(len(keys), field.type) for name, field in zip(*_fields(), strict=True)}
    columns[USERS.key.name] = pa.array([f"00000000-0000-4000-8000-{key:012d}" for key in keys], pa.string())
    for name, field in zip(*_fields(), strict=True):
        if not field.nullable and name != USERS.key.name:
            columns[name] = (
                pa.array([created] * len(keys), pa.int64()).cast(field.type)
                if pa.types.is_timestamp(field.type)
                else pa.array([_FILL[str(field.type)]] * len(keys), field.type)
            )
    return pa.table(columns, schema=file_schema(USERS))


_FILL = {"string": "active", "bool": False, "int64": 0}


def _fields() -> tuple[list[str], list[pa.Field]]:
    schema = file_schema(USERS)
    return schema.names, list(schema)


@settings(max_examples=60)
@given(base=KEYS.filter(bool), dropped=KEYS, chosen=st.lists(st.booleans(), min_size=41, max_size=41))
def test_few_changes_are_merged_as_many_are(  # type: ignore[no-untyped-def]
    base, dropped, chosen, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "part.parquet"
    with open_writer(path, file_schema(USERS), USERS.file_columns, (USERS.key.name,)) as writer:
        writer.write_table(_rows(base, 1))
    put = _rows([key for key in dropped if chosen[key]], 2)
    edit = Edit(put, _rows(dropped, 0)[USERS.key.name].combine_chunks())
    found = []
    for few in (0, 1_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(merge, "_FEW", few)
            patch.setattr(merge, "_BATCH_ROWS", 7)
            found.append(pa.Table.from_batches(merge._merged(USERS, [path], edit), schema=file_schema(USERS)))
    assert found[0] == found[1]
    keys = found[0][USERS.key.name].to_pylist()
    assert keys == sorted({*_rows(base, 1)["id"].to_pylist()} - {*edit.drop.to_pylist()} | {*put["id"].to_pylist()})
