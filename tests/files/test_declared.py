"""What a file declares about itself is true of it: the order of its rows, and the version of its schema."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.contracts import REPORTS, TABLES, Report, Table
from tasks.files.manifest import FileEntry
from tasks.files.parquet import file_schema, report_schema
from tasks.files.run_files import write_files
from tasks.settings import Settings
from tasks.workspace import Workspace
from tests.publish.builders import AS_OF, make_workspace

VERSIONS = Path(__file__).with_name("schema_versions.json")
DECLARED: list[Report | Table] = [*REPORTS, *TABLES]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def entries(workspace: Workspace) -> list[FileEntry]:
    return write_files(workspace, as_of=AS_OF, settings=Settings(part_rows=200, row_group_rows=100))


def test_every_declared_order_is_that_of_the_rows(workspace: Workspace, entries: list[FileEntry]) -> None:
    declared = set()
    for entry in entries:
        path = workspace.files / entry.path
        metadata = pq.read_metadata(path)
        table = pq.read_table(path)
        for group in range(metadata.num_row_groups):
            columns = metadata.row_group(group).sorting_columns
            names = [metadata.schema.column(column.column_index).name for column in columns]
            declared.add((entry.path.split("/")[1].removesuffix(".parquet"), *names))
            if names:
                rows = list(zip(*(table[name].to_pylist() for name in names), strict=True))
                assert rows == sorted(rows), entry.path
    expected = {(r.name, *(r.keys if r.sorted_by_keys else ())) for r in REPORTS}
    assert declared == expected | {(table.name, table.key.name) for table in TABLES}


def _fingerprint(of: Report | Table) -> str:
    """Of names, types and null rules: what a reader of the file depends on."""
    schema: pa.Schema = report_schema(of) if isinstance(of, Report) else file_schema(of)
    fields = [f"{field.name} {field.type} {'null' if field.nullable else 'not null'}" for field in schema]
    return hashlib.sha256("\n".join(fields).encode()).hexdigest()[:16]


@pytest.mark.parametrize("of", DECLARED, ids=lambda of: of.name)
def test_a_schema_that_changed_has_a_new_version(of: Report | Table) -> None:
    known = json.loads(VERSIONS.read_text())[of.name]
    assert known.get(str(of.version)) == _fingerprint(of), (
        f"the columns of {of.name} changed: raise its `version` in tasks/contracts/, and add "
        f'"{of.version + 1}": "{_fingerprint(of)}" to its entry in {VERSIONS.name}'
    )


def test_every_version_keeps_its_schema() -> None:
    for name, versions in json.loads(VERSIONS.read_text()).items():
        assert len(set(versions.values())) == len(versions), name
