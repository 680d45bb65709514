"""Which project a command works on, and where its Prefect has its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy import project
from deploy.project import PREFECT
from tasks.settings.environment import prefect_api_url


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`.env` of a folder without one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path / ".env"


def test_an_address_of_spaces_is_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "  ")
    assert not project.is_set()
    monkeypatch.delenv("SUPABASE_URL")
    file.write_text('SUPABASE_URL=" "')
    assert not project.is_set()


def test_a_name_in_small_letters_is_that_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make run` took the local stack, while settings, and `python -m flows.nightly`, take the project."""
    monkeypatch.delenv("SUPABASE_URL", raising=False)
    file.write_text("supabase_url=https://demo.supabase.co\nPrefect_api_url=http://127.0.0.1:4200/api\n")
    assert (project.is_set(), project.use(start=False)) == (True, "https://demo.supabase.co")
    assert prefect_api_url() == "http://127.0.0.1:4200/api"


def test_an_empty_folder_of_prefects_is_not_the_one_that_a_command_starts_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """There it kept its database, and its password."""
    for name in PREFECT:
        monkeypatch.setenv(name, "")
    project.set_up_prefect()
    assert os.environ["PREFECT_HOME"] == PREFECT["PREFECT_HOME"]


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_a_folder_of_prefects_may_be_in_the_home_and_be_named_in_env(
    where: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make run` made a folder named ~, and took no notice of the line in `.env`, which other commands read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", "~/prefect" if where == "environment" else "")
    file.write_text("" if where == "environment" else "PREFECT_HOME=~/prefect\n")
    project.set_up_prefect()
    assert os.environ["PREFECT_HOME"] == str(tmp_path / "prefect")
