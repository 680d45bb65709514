"""The command line of the stack where nothing is to be started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local_stack import StackError, find, npm
from local_stack.__main__ import main


@pytest.mark.parametrize("line", ["", "up --api-port 70000", "up --db-port x", "up --max-rows 0", "reset --home="])
def test_bad_usage_is_exit_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert " _" not in capsys.readouterr().err, "no name of a function of ours"


def test_a_home_that_is_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["up", "--home", str(tmp_path / "file")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "cannot be made or written" in said.err
    assert "Traceback" not in said.err


def test_a_stack_of_a_later_release_is_found(tmp_path: Path) -> None:
    """It was called damaged, with the advice to remove its data."""
    (tmp_path / "stack.json").write_text('{"api_port": 20001, "db_port": 20002, "of_later": true}')
    found = find(tmp_path)
    assert found is not None
    assert found.url == "http://127.0.0.1:20001"


@pytest.mark.parametrize("text", ["", "[]", "1", '{"api_port": 20001}'])
def test_a_damaged_state_is_said_to_be_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    with pytest.raises(StackError, match=r"stack\.json is damaged"):
        find(tmp_path)


def test_a_home_in_that_of_nobody_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["status", "--home=~nobody-of-that-name/stack"])
    assert "argument --home: '~nobody-of-that-name/stack' is in a home, and" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_packages_that_are_missing_in_somebody_elses_clone_are_named_with_the_way_out(tmp_path: Path) -> None:
    """It advised --home, which does not move them, and which `make api` does not have."""
    (tmp_path / "package-lock.json").write_text("{}")
    tmp_path.chmod(0o555)
    with pytest.raises(StackError, match="is not installed yet, and this user may not write") as refused:
        npm.install(tmp_path, "@supabase/lite", lambda _: None)
    assert "--home" not in str(refused.value)
