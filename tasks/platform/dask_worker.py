"""On a Dask worker: one unit at a time, in the run's folder or in a folder of its own, with its own settings."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.errors import ConfigurationError
from tasks.platform.code import CODE, LIBRARIES
from tasks.platform.identity import identity_of
from tasks.platform.shared_folder import SharedFolder, exchanging, relocate
from tasks.platform.traffic import TRAFFIC
from tasks.platform.workers import Tick
from tasks.settings import Settings, load_settings

LOOKED_UP = "partials"  # the folder of what every unit looks up: a worker keeps it from unit to unit
TOKEN = "workers.token"  # noqa: S105 - the name of a file
_ALONE = threading.Lock()  # a process has one folder of its own, whatever the number of its threads


@dataclass(frozen=True, slots=True)
class Expected:
    """What a worker must find: the run's folder with its token, and the coordinator's settings, versions and code.

    url: where the run's files are exchanged; empty where the folder itself is shared. alike: see `to_be_alike`. code:
    its `CODE`.
    """

    folder: Path
    url: str
    token: str
    alike: tuple[tuple[str, str], ...]
    transport: str
    libraries: tuple[str, ...]
    code: str


def dask_setup(worker: Any) -> None:
    """Dask calls this in a worker that was started here: a heartbeat that its end cuts off would log a traceback."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


def to_be_alike(settings: Settings) -> tuple[tuple[str, str], ...]:
    """What decides which rows are seen and where files go, in words: the coordinator has verified both for itself."""
    return (
        ("SUPABASE_URL", settings.project),
        ("kind of key", identity_of(settings).kind),
        ("ETL_DB_ROLE", settings.db_role),
        ("ETL_BUCKET", settings.bucket),
    )


def versions() -> tuple[str, ...]:
    return tuple(f"{name} {version(name)}" for name in LIBRARIES)


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a unit, the rows that it went through, and the bytes that it sent and received.

    outputs: names of the files that it wrote, where the run's folder is not shared. error: of this unit's own files.
    """

    result: Any
    rows: int
    sent: int
    received: int
    outputs: tuple[str, ...] = ()
    error: OSError | None = None


def run_units(
    work: Callable[[Any, Tick], Any], units: Sequence[Any], expected: Expected, names: Sequence[str] = ()
) -> list[Done]:
    """On a worker: a task's units, one after the other; the last of them is the one that failed.

    names: files that they read, where the run's folder is not shared.
    """
    with _ALONE if expected.url else nullcontext():
        _ready(expected)
        finished: list[Done] = []
        try:
            for unit in units:
                finished.append(_run_unit(work, unit, expected, () if finished else names))
                if finished[-1].error:
                    break
        finally:
            if expected.url:
                _own_folder(expected).forget(but=LOOKED_UP)
        return finished


def _run_unit(work: Callable[[Any, Tick], Any], unit: Any, expected: Expected, names: Sequence[str]) -> Done:
    rows, sent, received = 0, TRAFFIC.sent, TRAFFIC.received

    def tick(done: int) -> None:
        nonlocal rows
        rows += done

    outputs: tuple[str, ...] = ()
    result, error = None, None
    try:
        if expected.url:
            result, outputs = _run_apart(work, unit, tick, expected, names)
        else:
            result = work(unit, tick)
    except OSError as fault:  # a full disk, say; raised here it would pass for a lost connection to the scheduler
        error = fault
    return Done(result, rows, TRAFFIC.sent - sent, TRAFFIC.received - received, outputs, error)


def _run_apart(
    work: Callable[[Any, Tick], Any], unit: Any, tick: Tick, expected: Expected, names: Sequence[str]
) -> tuple[Any, tuple[str, ...]]:
    """A unit in this worker's own folder: what is missing there is fetched first, what it writes is put at the URL."""
    shared = _own_folder(expected)
    with exchanging("fetch what a unit of work reads from", expected.url):
        shared.pull(names)
    result = work(relocate(unit, expected.folder, shared.local), tick)
    with exchanging("put what a unit of work wrote at", expected.url):
        shared.pull([TOKEN])  # gone with a run that is over, which nobody will tidy up after again
        outputs = tuple(shared.push(shared.changed()))
    return relocate(result, shared.local, expected.folder), outputs


@lru_cache(maxsize=1)
def _own_folder(expected: Expected) -> SharedFolder:
    """A folder of this process for one run: it goes when another run begins, or with the process."""
    shared = SharedFolder(expected.url, Path(tempfile.mkdtemp(prefix="supabase-nightly-worker-")).resolve())
    weakref.finalize(shared, shutil.rmtree, shared.local, ignore_errors=True)
    return shared


@lru_cache(maxsize=4)
def _ready(expected: Expected) -> None:
    """Once a process and run: this worker sees the run's folder, may write there, and has the settings it needs."""
    pa.set_cpu_count(1)  # the processes share the cores already
    where = f"A Dask worker ({os.uname().nodename}, process {os.getpid()})"
    _require_folder(expected, where)
    if (here := versions()) != expected.libraries:
        raise ConfigurationError(
            f"{where} has {', '.join(set(here) - set(expected.libraries))}; this run has other versions.",
            remedy="Install the same requirements.txt on all workers: versions shape the bytes of the files.",
        )
    if expected.code != CODE:
        raise ConfigurationError(
            f"{where} runs another version of this repository, and would clean by other rules.",
            remedy="Bring its folder to the version of the run, and start the workers again: each keeps the code that "
            "it has loaded. Those of ETL_WORKERS are started by each run: there start the watch again, or the run.",
        )
    _require_settings(expected, where)


def _require_settings(expected: Expected, where: str) -> None:
    try:
        settings = load_settings(transport=expected.transport)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where} lacks settings. {error.message}", remedy=_OWN_ENVIRONMENT) from None
    for (name, mine), (_, wanted) in zip(to_be_alike(settings), expected.alike, strict=True):
        if mine != wanted:
            raise ConfigurationError(
                f"{where} has another {name} than this run: {mine or 'none'}, and not {wanted or 'none'}.",
                remedy=_OWN_ENVIRONMENT,
            )


_OWN_ENVIRONMENT = "Give each worker the SUPABASE_* and ETL_* settings in its own environment; none are sent to it."


def _require_folder(expected: Expected, where: str) -> None:
    here = _own_folder(expected).local if expected.url else expected.folder
    probe = here / f".probe-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        if expected.url:
            _own_folder(expected).pull([TOKEN])
        same = (here / TOKEN).read_text() == expected.token
        probe.touch()
        if expected.url:
            _own_folder(expected).push([probe])
        probe.unlink()
    except Exception as error:  # noqa: BLE001 - each driver of fsspec has errors of its own
        raise ConfigurationError(
            f"{where} cannot use the run's folder {expected.url or expected.folder} ({type(error).__name__}).",
            remedy=_SHARED,
        ) from None
    if not same:
        raise ConfigurationError(f"{where} has another folder at {expected.url or here}.", remedy=_SHARED)


_SHARED = "ETL_DATA_DIR must be a folder that all workers share at the same path, or ETL_SHARED_DIR a URL they reach."
