"""The command line of the stack where nothing is to be started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local_stack import StackError, npm
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_packages_that_are_missing_in_somebody_elses_clone_are_named_with_the_way_out(tmp_path: Path) -> None:
    """It advised --home, which does not move them, and which `make api` does not have."""
    (tmp_path / "package-lock.json").write_text("{}")
    tmp_path.chmod(0o555)
    with pytest.raises(StackError, match="is not installed yet, and this user may not write") as refused:
        npm.install(tmp_path, "@supabase/lite", lambda _: None)
    assert "--home" not in str(refused.value)
