"""A project with a small demo in it, and runs in this process."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.settings import Settings, load_settings
from tests.pipeline.conftest import Runner, demo, identity, project, pytest_generate_tests, run

__all__ = ["Runner", "demo", "identity", "project", "pytest_generate_tests", "run"]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Those of a worker in this process."""
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "none")
    monkeypatch.setenv("ETL_PART_ROWS", "40")
    monkeypatch.setattr(pa, "set_cpu_count", lambda count: None)
    return load_settings(transport="rest")
