"""A run that is ready to be published, and settings for the session's stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_stack import Stack
from tasks.files.manifest import FileEntry
from tasks.files.run_files import write_files
from tasks.settings import Settings
from tasks.workspace import Workspace
from tests.publish.builders import AS_OF, make_workspace, settings_of


@pytest.fixture
def settings(clean_stack: Stack, tmp_path: Path) -> Settings:
    return settings_of(clean_stack, tmp_path, part_rows=1_000, row_group_rows=500)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path, users=60, posts=600)


@pytest.fixture
def files(workspace: Workspace, settings: Settings) -> list[FileEntry]:
    return write_files(workspace, as_of=AS_OF, settings=settings)
