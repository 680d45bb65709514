"""What the doctor says of this machine and of an address, before a project is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks.doctor.machine import disk_has_room
from tasks.doctor.postgres import address_is_right
from tasks.settings import Settings


def test_a_folder_that_cannot_be_made_is_found_before_a_run_meets_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (found, *_) = disk_has_room(Settings(data_dir=tmp_path / "file" / "data"))
    assert (found.level, found.what) == ("fail", f"{tmp_path / 'file'} cannot be written to.")


@pytest.mark.parametrize(("address", "mode"), [("", "require"), ("?sslmode=verify-full", ""), ("", "")])
def test_a_connection_that_may_be_unencrypted_is_named(
    address: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable, too, which counts as an address without the parameter goes."""
    if mode:
        monkeypatch.setenv("PGSSLMODE", mode)
    url = SecretStr(f"postgresql://u:p@127.0.0.2:9/postgres{address}")
    said = [finding.what for finding in address_is_right(Settings(supabase_db_url=url, retries=0))]
    assert ("The connection may be unencrypted." in said) == (not address and not mode)
    assert any("failed" in what for what in said)
