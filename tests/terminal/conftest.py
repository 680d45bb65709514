"""A project with a small demo in it, as the tests of whole runs have."""

from __future__ import annotations

from tests.pipeline.conftest import demo, identity, project, pytest_generate_tests, run

__all__ = ["demo", "identity", "project", "pytest_generate_tests", "run"]
