"""The README and the Makefile: every command is there, and names something that exists."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from tasks.files.manifest import FileKind

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))


def test_every_make_command_of_the_readme_is_a_target() -> None:
    named = set(re.findall(r"make ([a-z]+)", README)) - {"sure"}
    assert {"run", "test", "ui", "doctor", "migrate"} <= named <= TARGETS


def test_every_module_that_the_makefile_and_the_readme_run_is_there() -> None:
    modules = set(re.findall(r"(?:\$\(PY\)|python) -m ([a-z_.]+)", MAKEFILE + README))
    assert {"scripts.run", "local_stack", "scripts.bootstrap"} <= modules
    for name in modules:
        assert importlib.util.find_spec(name), name


def test_every_file_that_the_readme_names_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_listing_of_the_bucket_has_every_kind_of_file_of_a_run() -> None:
    folders = re.findall(r"^runs/2026-01-31/<run id>/(\w+)/", README, re.MULTILINE)
    assert {folder.removesuffix("s") for folder in folders} == set(get_args(FileKind))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z]+)", listed, re.MULTILINE)) == TARGETS


def test_ci_calls_what_the_readme_names() -> None:
    commands = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert commands == ["check", "test", "test-slow"]
    assert set(commands) <= set(re.findall(r"make ([a-z-]+)", README))


def test_the_requirements_are_pinned_with_hashes_and_name_no_registry() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        pins = re.findall(r"^([a-z0-9][\w.\[\]-]*)==\S+", text, re.MULTILINE | re.IGNORECASE)
        assert len(pins) > 50
        assert text.count("--hash=sha256:") >= len(pins)
        assert not re.search(r"^(-i|--(extra-)?index-url|--find-links)\b|https?://", text, re.MULTILINE)
