"""Detached processes and how they are found again.

A process is ours when it runs our program on a path in the home: a stale pid file never points at somebody else's
process, whatever the clock does, and a process whose starter was killed before it noted the pid is found all the same.
One that was started before the home was moved has the earlier path; the folder that it works in moved along.
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

_LOG_LIMIT_BYTES = 20 * 2**20
# Our own children, kept so that they can be reaped and are not mistaken for forgotten ones.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Service:
    """A detached process as it is found again: by the pid that is noted, else by its program and the path it works on.

    program: how one of its arguments, or its own path, ends. folder: the one that it works in.
    """

    pid_file: Path
    program: str
    path: Path
    folder: Path

    def runs_as(self, process: psutil.Process) -> bool:
        """Whether it is this process. Raises psutil.Error where that is gone, or another account's."""
        arguments = process.cmdline()
        if not any(self._runs_on(path, arguments) for path in (str(self.path), *self._before_a_move(arguments))):
            return False
        return str(self.path) in arguments or process.cwd() == str(self.folder)

    def _runs_on(self, path: str, arguments: Sequence[str]) -> bool:
        return path in arguments and any(a.endswith(self.program) for a in arguments if a != path)

    def _before_a_move(self, arguments: Sequence[str]) -> list[str]:
        """What was the path on which it works, and is none any more."""
        name = f"{os.sep}{self.path.name}"
        return [a for a in arguments if a.startswith(os.sep) and a.endswith(name) and not os.path.exists(a)]


@dataclass(frozen=True)
class Command:
    """A program to run detached: its arguments, with the service's own among them, where it logs, as whom it runs."""

    service: Service
    arguments: Sequence[str | Path]
    log: Path
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
            cwd="/" if account else command.service.folder,
            start_new_session=True,
            umask=0o077,
            **(account.popen if account else {}),
        )
    _children[child.pid] = child
    process = psutil.Process(child.pid)
    command.service.pid_file.write_text(json.dumps({"pid": process.pid}))
    return process


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))


def running(service: Service) -> psutil.Process | None:
    """The live process of the service; a stale pid file is removed, one that was lost is written again."""
    process = _noted(service)
    if process is None:
        service.pid_file.unlink(missing_ok=True)
        process = _searched(service)
        if process:
            service.pid_file.write_text(json.dumps({"pid": process.pid}))
    return process


def installed(process: psutil.Process, service: Service) -> bool:
    """Whether its program is still where it was started from: an environment that was made again took its libraries."""
    try:
        programs = [a for a in process.cmdline() if a.endswith(service.program) and a != str(service.path)]
    except psutil.Error:
        return False
    return all(map(os.path.exists, programs))


def _noted(service: Service) -> psutil.Process | None:
    try:
        process = psutil.Process(int(json.loads(service.pid_file.read_text())["pid"]))
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return process if _is(process, service) else None


def _searched(service: Service) -> psutil.Process | None:
    """The process among all, and not a child that it has just forked."""
    found = {process.pid: process for process in psutil.process_iter() if _is(process, service)}
    return next((process for process in found.values() if _parent(process) not in found), None)


def _is(process: psutil.Process, service: Service) -> bool:
    try:
        return service.runs_as(process) and alive(process)
    except psutil.Error:
        return False


def _parent(process: psutil.Process) -> int:
    try:
        return process.ppid()
    except psutil.Error:
        return 0


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


def stop(service: Service, *, signals: Sequence[signal.Signals], patience: float) -> bool:
    """Send the signals one after the other until it is gone; True when there was something to stop."""
    process = running(service)
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
    service.pid_file.unlink(missing_ok=True)
    return True


def kill(service: Service) -> None:
    """As a crash or the kernel would: at once, with all it started. The pid file stays behind, stale."""
    process = running(service)
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
