"""A project with a small demo in it, and runs in this process."""

from __future__ import annotations

from tests.pipeline.conftest import Runner, demo, identity, project, pytest_generate_tests, run

__all__ = ["Runner", "demo", "identity", "project", "pytest_generate_tests", "run"]
