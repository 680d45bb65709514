"""The shell blocks of the handbook, and a shell that runs one with this machine's names in place of the page's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "local_stack" / "README.md"]
BLOCKS = [(p.stem, b) for p in PAGES for b in re.findall(r"```sh\n(.*?)```", p.read_text(), re.DOTALL)]
_OF_A_PROJECT = ("SUPABASE_", "ETL_", "PREFECT_")


def block(*starts: str) -> str:
    """The one block of the handbook that has a line which begins with each of these."""
    found: str
    (found,) = [
        text for _, text in BLOCKS if all(re.search(rf"^\s*{re.escape(s)}", text, re.MULTILINE) for s in starts)
    ]
    return found


def with_own(text: str, own: Mapping[str, str]) -> str:
    """The block with the names of this test's in place of the page's; each of them has to be there."""
    for name, value in own.items():
        assert name in text, f"the block does not say {name}"
        text = text.replace(name, value)
    return text


def environment(home: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Of an operator's shell in which .venv is active."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_PROJECT)}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return {**kept, "PATH": path, "PREFECT_HOME": str(home / "prefect"), "DO_NOT_TRACK": "1", **given}


def shell(text: str, env: Mapping[str, str], *, seconds: float = 300) -> str:
    """Run a block from the repository's folder; returns what it printed. Each of its commands has to succeed."""
    line = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(line, cwd=ROOT, env=dict(env), capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout[-4_000:]}\n{done.stderr[-4_000:]}"
    return done.stdout


@contextmanager
def running(
    text: str,
    env: Mapping[str, str],
    log: Path,
    *,
    until: Callable[[], bool],
    cwd: Path = ROOT,
    seconds: float = 120,
) -> Iterator[int]:
    """Run a block whose last command stays, until `until` says that it is up. Yields the id of its process group."""
    with log.open("wb") as file:
        line = ["bash", "-euc", text]
        shell = subprocess.Popen(line, cwd=cwd, env=dict(env), stdout=file, stderr=file, start_new_session=True)
    try:
        patience = time.monotonic() + seconds
        while not until():
            assert shell.poll() is None, log.read_text()[-4_000:]
            assert time.monotonic() < patience, log.read_text()[-4_000:]
            time.sleep(0.1)
        yield shell.pid
    finally:
        _end(shell)


def _end(shell: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        shell.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()


def answers(url: str) -> bool:
    """Whether a GET of this address is a success."""
    with suppress(httpx.TransportError):
        return httpx.get(url, timeout=5).is_success
    return False
