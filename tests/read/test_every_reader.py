"""Every reader with its own defaults, on every file of a run: single file, folder and glob, downloaded and by link.

A reader that parses `key=value` folders may add the column `month` to cleaned posts, and nothing else: each cell of
each column is what was written.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import httpx
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from local_stack import Stack
from tasks.contracts import POSTS, REPORTS, USERS
from tasks.files.manifest import Manifest
from tasks.files.run_files import write_files
from tasks.platform.bucket import Bucket
from tasks.publish.pointer import repair_pointer
from tasks.publish.upload import publish, signed_links
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tests.publish.builders import AS_OF, FakeRun, make_workspace, settings_of

FROM_PATH = {"month"}  # what hive-style readers take from the path of cleaned posts
READERS: dict[str, Callable[[str], pa.Table]] = {
    "duckdb": lambda path: duckdb.connect().read_parquet(path).to_arrow_table(),
    "duckdb sql": lambda path: duckdb.connect().sql(f"from '{path}'").to_arrow_table(),
    "polars read": lambda path: pl.read_parquet(path).to_arrow(),
    "polars scan": lambda path: pl.scan_parquet(path).collect().to_arrow(),
    "pandas": lambda path: pa.Table.from_pandas(pd.read_parquet(path, dtype_backend="pyarrow")),
    "pyarrow": pq.read_table,
    "pyarrow dataset": lambda path: ds.dataset(path).to_table(),
    "pyarrow hive dataset": lambda path: ds.dataset(path, partitioning="hive").to_table(),
}
GLOBS = {"duckdb", "duckdb sql", "polars read", "polars scan"}  # the others know no pattern
NO_FOLDERS = {"duckdb", "duckdb sql"}  # a folder is a pattern to them: `folder/**/*.parquet`


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Manifest, Path, Path]:
    """A published run: settings, manifest, the folder it was written to, and the bucket's `runs`, downloaded."""
    stack.empty_bucket("reports")
    folder = tmp_path_factory.mktemp("run")
    settings = settings_of(stack, folder, part_rows=1_000, row_group_rows=500)
    workspace = make_workspace(folder, users=1_200, posts=2_500)
    files = write_files(workspace, as_of=AS_OF, settings=settings)
    ref = publish(settings, workspace, FakeRun(), files, RunCounts())
    repair_pointer(settings, ref)
    downloaded = folder / "downloaded"
    with Bucket(settings) as bucket:
        manifest = Manifest.model_validate_json(bucket.download(ref.path))
        for entry in manifest.files:
            target = downloaded / manifest.run / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bucket.download(f"{manifest.run}/{entry.path}"))
    return settings, manifest, workspace.files, downloaded / manifest.run


def _written(root: Path, paths: list[str]) -> pa.Table:
    """The rows as they were written, read without anything of their paths."""
    return pa.concat_tables([pq.read_table(pa.BufferReader((root / path).read_bytes())) for path in sorted(paths)])


def _assert_same(read: pa.Table, written: pa.Table, key: list[str]) -> None:
    """Every column that was written, with every cell of it; at most `month` more."""
    extra = set(read.column_names) - set(written.column_names)
    assert extra <= FROM_PATH, f"columns from the path: {extra}"
    read = read.select(written.column_names)
    columns = [pa.field(f.name, f.type) for f in written.schema]
    plain = read.cast(pa.schema(columns)).sort_by([(name, "ascending") for name in key])
    wanted = written.cast(pa.schema(columns)).sort_by([(name, "ascending") for name in key])
    assert plain.num_rows == wanted.num_rows
    for name in wanted.column_names:
        assert plain[name].to_pylist() == wanted[name].to_pylist(), name


def _targets(manifest: Manifest) -> Iterator[tuple[list[str], list[str], str]]:
    """Paths below the run, their key, and what to ask a reader for: each file, each folder, each pattern."""
    keys = {f"reports/{r.name}.parquet": list(r.keys) for r in REPORTS}
    for path, key in keys.items():
        yield [path], key, path
    for table in (USERS, POSTS):
        paths = [entry.path for entry in manifest.files if entry.path.startswith(f"clean/{table.name}/")]
        for path in paths:
            yield [path], [table.key.name], path
        yield paths, [table.key.name], f"clean/{table.name}"
        yield paths, [table.key.name], f"clean/{table.name}/**/*.parquet"
    months = sorted({entry.path.split("/")[2] for entry in manifest.files if entry.path.startswith("clean/posts/")})
    for month in months:
        paths = [entry.path for entry in manifest.files if entry.path.startswith(f"clean/posts/{month}/")]
        yield paths, ["id"], f"clean/posts/{month}"
        yield paths, ["id"], f"clean/posts/{month}/*.parquet"


@pytest.mark.parametrize("reader", list(READERS))
def test_a_downloaded_run(run: tuple[Settings, Manifest, Path, Path], reader: str) -> None:
    _, manifest, written, downloaded = run
    checked = 0
    for paths, key, target in _targets(manifest):
        pattern, folder = "*" in target, not target.endswith(".parquet")
        if (pattern and reader not in GLOBS) or (folder and reader in NO_FOLDERS):
            continue
        _assert_same(READERS[reader](str(downloaded / target)), _written(written, paths), key)
        checked += 1
    assert checked > len(manifest.files) / 2


@pytest.mark.parametrize("reader", ["duckdb", "polars scan", "polars read"])
def test_one_pattern_over_all_runs_and_days(run: tuple[Settings, Manifest, Path, Path], reader: str) -> None:
    _, _, written, downloaded = run
    everywhere = str(downloaded.parents[2] / "runs" / "*" / "*" / "reports" / "daily_activity.parquet")
    _assert_same(READERS[reader](everywhere), _written(written, ["reports/daily_activity.parquet"]), ["date"])


LINKED: dict[str, Callable[[str], pa.Table]] = {
    "pandas": lambda link: pa.Table.from_pandas(pd.read_parquet(link, dtype_backend="pyarrow")),
    "polars read": lambda link: pl.read_parquet(link).to_arrow(),
    "polars scan": lambda link: pl.scan_parquet(link).collect().to_arrow(),
    "pyarrow over fsspec": lambda link: pq.read_table(fsspec.open(link).open()),
    "duckdb over fsspec": lambda link: duckdb.connect().read_parquet(fsspec.open(link).open()).to_arrow_table(),
    "duckdb from bytes": lambda link: (
        duckdb.connect().read_parquet(io.BytesIO(httpx.get(link).content)).to_arrow_table()
    ),
}


@pytest.mark.parametrize("reader", list(LINKED))
def test_every_file_by_its_signed_link(run: tuple[Settings, Manifest, Path, Path], reader: str) -> None:
    settings, manifest, written, _ = run
    keys: dict[str, list[str]] = {f"reports/{r.name}.parquet": list(r.keys) for r in REPORTS}
    paths = [entry.path for entry in manifest.files]
    links = signed_links(settings, [f"{manifest.run}/{path}" for path in paths])
    for path in paths:
        read: Any = LINKED[reader](links[f"{manifest.run}/{path}"])
        _assert_same(read, _written(written, [path]), keys.get(path, ["id"]))
