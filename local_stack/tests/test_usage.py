"""The command line of the stack where nothing is to be started."""

from __future__ import annotations

from pathlib import Path

import pytest

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
