"""What the doctor says of this machine and of an address, before a project is asked."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from socket import create_server
from threading import Thread

import pytest
from pydantic import SecretStr

from tasks.doctor import machine
from tasks.doctor.machine import disk_has_room, versions_are_pinned
from tasks.doctor.postgres import address_is_right
from tasks.settings import Settings

ROOT = Path(__file__).parents[2]


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


@pytest.fixture
def encrypting() -> Iterator[int]:
    """The port of a server that offers TLS, which a client without the CA's certificate does not begin."""
    with create_server(("127.0.0.1", 0)) as listening:

        def offer() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(8)
                client.sendall(b"S")
                client.recv(1)

        thread = Thread(target=offer)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)


def test_a_certificate_that_is_not_on_this_machine_is_named_with_where_to_get_it(
    encrypting: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A new operator takes the dashboard's address with sslmode=verify-full: it was the password that was blamed."""
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "root.crt"))
    url = SecretStr(f"postgresql://u:p@127.0.0.1:{encrypting}/postgres?sslmode=verify-full")
    (found,) = address_is_right(Settings(supabase_db_url=url, retries=0))
    assert (found.level, str(tmp_path) in found.what) == ("fail", False)
    assert found.what.startswith("The certificate of the database cannot be verified (root certificate file")
    assert "SSL Configuration" in found.remedy
    assert "password" not in found.remedy


def test_what_is_not_as_pinned_is_named_with_a_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`make install`, which was advised, does nothing while the pins are those that it has installed."""
    pins = tmp_path / machine.PINS.name
    pins.write_text(re.sub(r"^pandas==\S+", "pandas==0.1.0", machine.PINS.read_text(), flags=re.MULTILINE))
    monkeypatch.setattr(machine, "PINS", pins)
    (found,) = versions_are_pinned(Settings())
    assert (found.level, "pandas" in found.what) == ("warn", True)
    (command,) = re.findall("`(.+?)`", found.remedy)
    asked = [*shlex.split(command), "--dry-run", "--quiet", "--no-index"]
    assert subprocess.run(asked, cwd=ROOT, check=False).returncode == 0
