"""A sound project, to be spoilt."""

from __future__ import annotations

import pytest

from local_stack import Stack


@pytest.fixture
def healthy(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The settings of the stack, in this process's environment, away from any .env."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("ETL_DATA_DIR", "data")
    for name, value in stack.env().items():
        monkeypatch.setenv(name, value)
    return stack
