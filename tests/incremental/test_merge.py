"""Rows of a file after an edit are the same whether the edit is spliced in or all rows are sorted."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.contracts import USERS
from tasks.files.clean import FileShape, clean_entry, write_parts
from tasks.files.manifest import FileEntry, Manifest
from tasks.files.parquet import file_schema, open_writer
from tasks.incremental import merge
from tasks.incremental.base import Base
from tasks.incremental.merge import Edit, merge_folder
from tasks.incremental.night import IncrementalNight
from tasks.incremental.store import BaseFiles
from tasks.read import OpenRun
from tasks.settings import Settings
from tasks.workspace import Workspace

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
            patch.setattr(merge, "BATCH_ROWS", 7)
            found.append(pa.Table.from_batches(merge._merged(USERS, [path], edit), schema=file_schema(USERS)))
    assert found[0] == found[1]
    keys = found[0][USERS.key.name].to_pylist()
    assert keys == sorted({*_rows(base, 1)["id"].to_pylist()} - {*edit.drop.to_pylist()} | {*put["id"].to_pylist()})


@settings(max_examples=60)
@given(
    base=KEYS,
    dropped=KEYS.filter(bool),
    chosen=st.lists(st.booleans(), min_size=41, max_size=41),
    shape=st.builds(lambda group, groups: FileShape(group * groups, group), st.integers(1, 5), st.integers(1, 3)),
    always=st.booleans(),
)
@example(base=[0, 1], dropped=[1], chosen=[False] * 41, shape=FileShape(1, 1), always=True)  # the last part goes
def test_the_files_after_an_edit_are_those_that_a_full_night_writes(  # type: ignore[no-untyped-def]
    base, dropped, chosen, shape: FileShape, always: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("edit")
    put = [key for key in dropped if chosen[key]]
    edit = Edit(_rows(put, 2), _rows(dropped, 0)[USERS.key.name].combine_chunks())
    files = BaseFiles(Settings(_env_file=None, data_dir=root), "runs/none", root / "base")
    before = _written(_rows(base, 1), root / "before", shape, always=always)
    files.scratch.mkdir()
    for entry in before:
        shutil.copyfile(root / "before" / entry.path, files.scratch / entry.sha256)
    merged = merge_folder(USERS, before, edit, files, root / "after", FOLDER, shape, always=always)
    kept = _rows([key for key in base if key not in dropped], 1)
    whole = pa.concat_tables([kept, edit.put]).sort_by(USERS.key.name).combine_chunks()
    full = _written(whole, root / "full", shape, always=always)
    assert [(e.path, e.sha256, e.rows) for e in merged] == [(e.path, e.sha256, e.rows) for e in full]
    shutil.rmtree(root)


def _written(rows: pa.Table, root: Path, shape: FileShape, *, always: bool) -> list[FileEntry]:
    """The rows as a full night writes them."""
    parts = write_parts(USERS, rows.to_batches(), root / FOLDER, shape, always=always)
    return [clean_entry(USERS, part, root) for part in parts]


MANY, FOLDER, ONE_A_PART = 1_002, "clean/users", FileShape(1, 1)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> IncrementalNight:
    """A night on a base with more than a thousand parts, whose manifest lists them by the text of their names."""
    root = tmp_path_factory.mktemp("many")
    settings = Settings(_env_file=None, supabase_url="http://127.0.0.1:9", data_dir=root / "data", cache_dir=root / "c")
    workspace = Workspace.create(root / "data", "next")
    files = _written(_rows([*range(MANY)], 1), root, ONE_A_PART, always=True)
    manifest = json.loads(_manifest(files).to_json())
    manifest["files"].sort(key=lambda entry: entry["path"])
    assert manifest["files"][101]["path"].endswith("part-1000.parquet")
    for folder in (settings.cache_dir, workspace.root / "base"):
        folder.mkdir(parents=True)
        for entry in files:
            suffix = ".parquet" if folder == settings.cache_dir else ""
            shutil.copyfile(root / entry.path, folder / f"{entry.sha256}{suffix}")
    base = Base("r", False, "s", Manifest.model_validate_json(json.dumps(manifest)))
    return IncrementalNight(settings, workspace, base, 0)


def _manifest(files: list[FileEntry]) -> Manifest:
    at = datetime(2026, 2, 1, tzinfo=UTC)
    return Manifest(run="runs/2026-01-31/r", run_id="r", as_of=at, started_at=at, files=tuple(files))


def test_the_thousandth_part_is_read_after_the_hundredth(many: IncrementalNight) -> None:
    found = OpenRun(many.base.published, many.settings).table("users", engine="arrow")
    assert found[USERS.key.name] == _rows([*range(MANY)], 1)[USERS.key.name]


def test_more_than_a_thousand_parts_are_merged_in_the_order_of_their_rows(
    many: IncrementalNight, tmp_path: Path
) -> None:
    put = _rows([MANY - 2], 2)
    edit, base = Edit(put, put[USERS.key.name].combine_chunks()), many._base_entries(USERS)
    found = merge_folder(USERS, base, edit, many.files, tmp_path, FOLDER, ONE_A_PART, always=True)
    full = write_parts(USERS, put.to_batches(), tmp_path / "full", ONE_A_PART)
    (changed,) = (clean_entry(USERS, part, tmp_path) for part in full)
    assert [entry.path for entry in found] == [f"{FOLDER}/part-{number:03d}.parquet" for number in range(MANY)]
    assert [e.sha256 for e in found if e not in base] == [changed.sha256]
    assert found[MANY - 2].sha256 == changed.sha256
