"""Content that Storage has lost and still lists: the night reads everything, and says which file it was."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.demo import DemoCounts
from tasks.settings import Transport
from tests.incremental.kit import assert_same_as_full
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project
from tests.publish.builders import content_of

TRANSPORTS: tuple[Transport, ...] = ("postgres", "rest")


def _content(project: Project, part: str) -> tuple[str, Path]:
    """A file of the last run, and where the local Storage has its content."""
    run, files = project.manifest()["run"], project.manifest()["files"]
    path = next(f"{run}/{file['path']}" for file in files if part in file["path"])
    return path, content_of(project.stack, path)


def _spoil(content: Path) -> None:
    """Other bytes, with their checksum, which the local Storage notes behind them."""
    body = content.read_bytes()
    md5 = re.findall(rb'"md5":"([0-9a-f]{32})"', body)[-1]
    content.write_bytes(body.replace(b"PAR1", b"RAP1").replace(md5, md5[::-1]))


# What Storage lists all the same, what happened to its content, and whether the worker has files of the last run: what
# is copied inside Storage is found to be lost when the reports are built already.
_LOSSES: tuple[tuple[str, Callable[[Path], Any], bool, str], ...] = (
    ("clean/posts/", Path.unlink, True, "is not in the bucket any more"),
    ("clean/users/", Path.unlink, False, "is not in the bucket any more"),
    ("state/", Path.unlink, False, "is not in the bucket any more"),
    ("clean/posts/", _spoil, True, "is damaged"),
    ("clean/users/", _spoil, False, "is damaged"),
)


@pytest.mark.parametrize(
    ("transport", "losses"),
    [("rest", _LOSSES[:1]), *(pytest.param(of, _LOSSES, marks=pytest.mark.slow) for of in TRANSPORTS)],
)
def test_content_that_storage_has_lost_makes_the_night_full(
    transport: Transport, losses: Any, project: Project, demo: DemoCounts, run: Runner
) -> None:
    """As where the database was restored from a backup, and the files were not."""
    run(transport, ETL_RUN_RETRIES=0)
    for part, lose, kept_here, words in losses:
        path, content = _content(project, part)
        lose(content)
        if not kept_here:
            shutil.rmtree(project.folder / "data" / "base")
        project.stack.query(
            "update posts set content = content || '.' where id in (select max(id::text)::uuid from posts)"
        )
        night = run(transport, ETL_RUN_RETRIES=0)
        assert (night.mode, night.tables["posts"]["updated"]) == ("full", 1)
        assert str(night.full_because).startswith(f"a file of the last run cannot be used: {path} {words}")
        project.assert_whole()
        manifest = project.manifest()
        assert (manifest["run_id"], manifest["full_because"]) == (night.run_id, night.full_because)
        named = {f"{manifest['run']}/{file['path']}" for file in manifest["files"]}
        assert {file.path for file in project.bucket.walk(manifest["run"])} == {
            *named,
            f"{manifest['run']}/manifest.json",
        }
    if len(losses) > 1:
        assert_same_as_full(project, run(transport), lambda: run(transport, full_refresh=True))
