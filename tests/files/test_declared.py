"""What a file declares about itself is true of it: the order of its rows."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from tasks.contracts import REPORTS, TABLES
from tasks.files.manifest import FileEntry
from tasks.files.run_files import write_files
from tasks.settings import Settings
from tasks.workspace import Workspace
from tests.publish.builders import AS_OF, make_workspace


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
