"""What stays on the worker's disk from a night to the next: the files that it starts from, where that is wanted."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tasks.files.manifest import FileEntry
from tasks.incremental.store import BaseFiles, cache_folder, keep_files
from tasks.settings import Settings


def entry(path: str, kind: str, sha256: str) -> FileEntry:
    return FileEntry.model_validate(
        {"path": path, "kind": kind, "rows": 1, "bytes": 1, "sha256": sha256 * 64, "md5": "", "schema_version": 1}
    )


def test_only_the_files_of_the_next_base_stay(tmp_path: Path) -> None:
    """Made in this night, or downloaded for it; a file that is kept already is left as it is."""
    settings = Settings(_env_file=None, data_dir=tmp_path / "data", supabase_url="http://127.0.0.1:9")
    folder, made, loaded = cache_folder(settings), tmp_path / "made", tmp_path / "loaded"
    entries = [
        entry("clean/users/part-000.parquet", "clean", "a"), entry("state/2026-01.parquet", "state", "b"),
        entry("reports/users.parquet", "report", "c"), entry("clean/posts/part-000.parquet", "clean", "d"),
    ]  # fmt: skip
    for place in (made / entries[0].path, made / entries[2].path, loaded / entries[1].sha256, loaded / ("e" * 64)):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("new")
    folder.mkdir(parents=True)
    for name in ("b" * 64, "f" * 64):
        (folder / name).write_text("before")
    keep_files(settings, entries, made, loaded)
    assert {file.name: file.read_text() for file in folder.iterdir()} == {"a" * 64: "new", "b" * 64: "before"}
    keep_files(settings.model_copy(update={"keep_base": False}), entries, made, loaded)
    assert not folder.exists()
    keep_files(settings, entries, made, loaded)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("links", [True, False])
def test_a_run_that_commits_takes_no_file_from_a_dry_one_beside_it(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `make watch` does every few minutes: the dry run ended as a defect."""

    def link(*_: Any) -> None:
        raise PermissionError("Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", link)
    settings = Settings(_env_file=None, data_dir=tmp_path / "data", supabase_url="http://127.0.0.1:9")
    month = entry("clean/posts/part-000.parquet", "clean", "d").model_copy(
        update={"sha256": hashlib.sha256(b"rows").hexdigest()}
    )
    (cache_folder(settings)).mkdir(parents=True)
    (cache_folder(settings) / month.sha256).write_bytes(b"rows")
    found = BaseFiles(settings, "runs/2026-01-30/before", tmp_path / "dry" / "base").path(month)
    keep_files(settings, [], tmp_path / "made")
    assert not list(cache_folder(settings).iterdir())
    assert found.read_bytes() == b"rows"
