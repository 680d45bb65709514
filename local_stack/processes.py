"""Detached processes and how they are found again.

A pid file holds the time the process started too, so that a stale one never points at somebody else's process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from local_stack.accounts import Account

_SAME_START_SECONDS = 2.0  # the kernel's clock of process starts moves a little when the system's clock is set
_LOG_LIMIT_BYTES = 20 * 2**20
# Our own children, kept so that they can be reaped and are not mistaken for forgotten ones.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Command:
    """A program to run detached: its name in the home, its arguments, where it logs, and as whom it runs."""

    arguments: Sequence[str | Path]
    log: Path
    pid_file: Path
    env: dict[str, str]
    account: Account | None = None


def spawn(command: Command) -> psutil.Process:
    """Start it in a session of its own, so that neither Ctrl-C nor the end of this process reaches it."""
    _rotate(command.log)
    account = command.account
    with os.fdopen(os.open(command.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
        child = subprocess.Popen(
            [*(account.prefix if account else ()), *map(str, command.arguments)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=command.env,
            cwd="/",
            start_new_session=True,
            umask=0o077,
            **(account.popen if account else {}),
        )
    _children[child.pid] = child
    process = psutil.Process(child.pid)
    command.pid_file.write_text(json.dumps({"pid": process.pid, "started_at": process.create_time()}))
    return process


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))


def running(pid_file: Path) -> psutil.Process | None:
    """The live process that the pid file names; a stale file is removed."""
    try:
        noted = json.loads(pid_file.read_text())
        process = psutil.Process(noted["pid"])
        if abs(process.create_time() - noted["started_at"]) < _SAME_START_SECONDS and alive(process):
            return process
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, psutil.Error):
        pass
    pid_file.unlink(missing_ok=True)
    return None


def alive(process: psutil.Process) -> bool:
    """Whether it still runs; a dead child of ours is reaped on the way."""
    try:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return True
    except psutil.NoSuchProcess:
        pass
    child = _children.pop(process.pid, None)
    if child:
        child.wait()
    return False


def wait_until(ready: Callable[[], bool], process: psutil.Process, *, seconds: float) -> bool:
    """Poll until `ready`; False as soon as the process is dead or the time is over."""
    deadline = time.monotonic() + seconds
    while alive(process) and time.monotonic() < deadline:
        if ready():
            return True
        time.sleep(0.03)
    return False


def stop(pid_file: Path, *, signals: Sequence[signal.Signals], patience: float) -> bool:
    """Send the signals one after the other until it is gone; True when there was something to stop."""
    process = running(pid_file)
    if process is None:
        return False
    family = [process, *_descendants(process)]
    for number in (*signals, signal.SIGKILL):
        _send(process, number)
        if _gone(process, patience):
            break
    for relative in family:  # only after SIGKILL are there any left
        _send(relative, signal.SIGKILL)
        _gone(relative, patience)
    pid_file.unlink(missing_ok=True)
    return True


def kill(pid_file: Path) -> None:
    """As a crash or the kernel would: at once, with all it started. The pid file stays behind, stale."""
    process = running(pid_file)
    if process is None:
        return
    family = [process, *_descendants(process)]
    for relative in family:
        _send(relative, signal.SIGKILL)
    for relative in family:
        _gone(relative, 10)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _gone(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
