"""Commands that share a local stack: the last one that uses it stops it, unless one left it running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy import project
from local_stack import Stack, down, status
from scripts.ui import local_project
from tests.conftest import temporary_stack

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("stack-lifecycle")]


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    with temporary_stack() as running_stack:
        yield running_stack


@pytest.fixture
def as_command(own: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What commands take for the project is this stack, which does not run."""
    for name in (*own.env(), "PREFECT_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "local").mkdir(parents=True)
    monkeypatch.setattr(project, "LOCAL_HOME", own.home)
    down(own.home)


@pytest.mark.usefixtures("as_command")
def test_the_last_command_that_uses_it_stops_it(own: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as site:
        site.enter_context(local_project())
        monkeypatch.setenv("SUPABASE_URL", "")  # as in another process
        with local_project():
            site.close()
            assert status(own.home).complete, "`make api` has ended, `make ui` uses it"
    assert not status(own.home).complete


@pytest.mark.usefixtures("as_command")
def test_one_that_another_command_leaves_running_goes_on(own: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make run`, `make watch` and `make up` find what `make api` has started, which stopped it beneath them."""
    with local_project():
        monkeypatch.setenv("SUPABASE_URL", "")
        project.use()
    assert status(own.home).complete
    with local_project():
        pass
    assert status(own.home).complete
