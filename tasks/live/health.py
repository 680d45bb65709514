"""Whether a watch is alive and what it has done: a small file for people and probes, and systemd's own channel."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer

from tasks.errors import ConfigurationError
from tasks.platform.whole_file import whole_file
from tasks.settings import Settings

Second = Annotated[datetime, PlainSerializer(lambda moment: moment.isoformat(timespec="seconds"))]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class PollHealth(_Part):
    """How the database is asked. error: why the last poll failed; empty when it did not."""

    every_seconds: float
    error: str


class RealtimeHealth(_Part):
    """The connection to Realtime, and how many messages it received."""

    state: str
    why: str
    connects: int
    messages: int


class RunHealth(_Part):
    """Runs that the watch has started. failing: so many in a row have failed; last: the outcome of the last one."""

    started: int
    committed: int
    failed: int
    without_changes: int
    failing: int
    last: str


class WatchHealth(_Part):
    """What the health file says, for people and probes."""

    state: str
    updated_at: Second
    started_at: Second
    pending: int
    blocked_by: str
    poll: PollHealth
    realtime: RealtimeHealth
    runs: RunHealth
    memory_mib: int


def health_path(settings: Settings) -> Path:
    """Where the health file is."""
    return settings.watch_health or settings.data_dir / "watch.json"


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a small file as a whole; only its owner can read it. ConfigurationError when the folder is not usable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, private=True) as part:
            part.write_text(json.dumps(content, indent=1))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({type(error).__name__}).",
            remedy="Point ETL_DATA_DIR or ETL_WATCH_HEALTH elsewhere.",
        ) from None


def read_health(path: Path) -> WatchHealth | None:
    """What the watch wrote; None when there is no such file, or it is none of ours."""
    try:
        return WatchHealth.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def verdict(settings: Settings, now: datetime | None = None) -> tuple[bool, str]:
    """Whether the watch of the health file is well, and a sentence about it."""
    path = health_path(settings)
    health = read_health(path)
    if health is None:
        return False, f"No watch has written {path} yet."
    age = ((now or datetime.now(UTC)) - health.updated_at).total_seconds()
    longest = 60 + 3 * settings.watch_poll_seconds
    if health.state == "stopped":
        return False, f"The watch was stopped {max(0.0, age):.0f} s ago."
    if age > longest:
        return False, f"The watch has not written {path} for {age:.0f} s: it hangs, or was killed."
    if age < -longest:
        since = "The clock of this machine was set back, and no watch has written it since: it hangs, or was killed."
        return False, f"{path} is dated {-age:.0f} s from now. {since}"
    if health.poll.error:
        return False, f"The database cannot be asked: {health.poll.error}"
    if health.runs.failing:
        return False, f"{health.runs.failing} runs in a row have failed: {health.runs.last}"
    return True, f"{health.state}; {health.pending} changes pending; Realtime {health.realtime.state}."


def notify_systemd(state: str) -> None:
    """`READY=1`, `WATCHDOG=1`, `STOPPING=1` to systemd, where it started us (sd_notify(3)); elsewhere nothing.

    A variable of somebody else's service names a socket that is gone or not ours: then nobody waits for it.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel, suppress(OSError):
        channel.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
