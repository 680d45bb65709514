"""Units on Dask workers, through Prefect's own task runner for Dask: local processes, or a cluster by its address.

Nothing secret travels: each worker reads its settings from its own environment, and says so when it has none. A worker
that dies loses its unit to another one; a unit that ran twice has written the same files twice.
"""

from __future__ import annotations

import atexit
import logging
import os
import resource
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.errors import ConfigurationError, PipelineError, ServiceUnavailable
from tasks.platform.http import TRAFFIC
from tasks.platform.shared_folder import SharedFolder, relocate
from tasks.platform.workers import HERE, NeedsFiles, Result, Tick, Unit, Workers, no_tick
from tasks.settings import Settings, load_settings
from tasks.workspace import Workspace

LOOKED_UP = "partials"  # the folder of what every unit looks up: a worker keeps it from unit to unit
TOKEN = "workers.token"  # noqa: S105 - the name of a file
# What shapes the bytes of a file: workers with other versions would write other files.
_LIBRARIES = ("pyarrow", "duckdb", "numpy", "pandas")
_KILLS = 3  # workers that one unit may lose before it is taken for the cause


@dataclass(frozen=True, slots=True)
class Expected:
    """What a worker must find: the run's folder with its token, the project, and the versions of the coordinator.

    url: where the run's files are exchanged; empty where the folder itself is shared.
    """

    folder: Path
    url: str
    token: str
    project: str
    transport: str
    libraries: tuple[str, ...]


@contextmanager
def open_workers(settings: Settings, workspace: Workspace) -> Iterator[Workers]:
    """The workers that the settings ask for; ended with the run where they were started for it.

    ConfigurationError when Dask is not installed, ServiceUnavailable when no scheduler answers at the address.
    """
    if not settings.workers and not settings.dask_address:
        yield HERE
        return
    with _runner(settings, workspace) as runner:
        expected = _expected(settings, workspace)
        workers = DaskWorkers(_client(runner, settings), settings, expected)
        try:
            yield workers
        finally:
            workers.close()


def _client(runner: Any, settings: Settings) -> Any:
    try:
        return runner.client
    except (OSError, TimeoutError) as error:
        raise ServiceUnavailable(
            f"No Dask scheduler answers at {settings.dask_address or 'this machine'} ({type(error).__name__}). "
            "Nothing was read.",
            remedy="Look at ETL_DASK_ADDRESS, and whether the scheduler runs.",
        ) from None


def _runner(settings: Settings, workspace: Workspace) -> Any:
    try:
        import dask
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise ConfigurationError(
            "ETL_WORKERS and ETL_DASK_ADDRESS need Dask, which is not installed.",
            remedy="`make install-dask` installs it; without both settings the run uses this process alone.",
        ) from None
    dask.config.set({"distributed.scheduler.allowed-failures": _KILLS})
    logging.getLogger("distributed").setLevel(logging.ERROR)  # what matters of it becomes an error of ours
    if settings.dask_address:
        return DaskTaskRunner(address=settings.dask_address, client_kwargs={"timeout": settings.connect_timeout})
    local = {
        "n_workers": settings.workers,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        "dashboard_address": None,
        "local_directory": str(workspace.root / "dask"),  # what a worker spills is personal, and goes with the run
        "silence_logs": "ERROR",
    }
    return DaskTaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs=local)


def _expected(settings: Settings, workspace: Workspace) -> Expected:
    token = secrets.token_hex(16)
    (workspace.root / TOKEN).write_text(token)
    folder = workspace.root.resolve()
    url = f"{settings.shared_dir.rstrip('/')}/{workspace.run_id}" if settings.shared_dir else ""
    return Expected(folder, url, token, settings.project, settings.resolved_transport, _versions())


def _versions() -> tuple[str, ...]:
    return tuple(f"{name} {version(name)}" for name in _LIBRARIES)


class DaskWorkers:
    """Runs units on the workers of a Dask client."""

    def __init__(self, client: Any, settings: Settings, expected: Expected) -> None:
        self._client, self._expected = client, expected
        self._where = settings.dask_address or "this machine"
        self._shared = SharedFolder(expected.url, expected.folder) if expected.url else None
        if self._shared:
            self._shared.push([expected.folder / TOKEN])
        self.count = settings.workers or max(1, len(client.scheduler_info(n_workers=-1)["workers"]))

    def map(
        self, work: Callable[[Unit, Tick], Result], units: Sequence[Unit], *, tick: Tick = no_tick
    ) -> Iterator[Result]:
        """The results in the order of the units; see `Workers`."""
        futures = [
            self._client.submit(
                _run,
                work,
                unit,
                self._expected,
                self._share(unit),
                pure=False,
                key=f"{work.__name__}-{secrets.token_hex(8)}",
            )
            for unit in units
        ]
        try:
            for index, future in enumerate(futures):
                done = self._result(future)
                futures[index] = None  # the cluster may forget it
                if done.error:
                    raise done.error
                if self._shared:
                    self._shared.pull(done.outputs)
                TRAFFIC.add(sent=done.sent, received=done.received)
                tick(done.rows)
                yield done.result
        finally:
            self._client.cancel([future for future in futures if future is not None], force=True)

    def _share(self, unit: Any) -> list[str]:
        """Put what a unit reads where workers without a shared disk find it. Returns the names of the files."""
        if self._shared is None or not isinstance(unit, NeedsFiles):
            return []
        return self._shared.push(path for path in unit.inputs() if path.exists())

    def close(self) -> None:
        """Remove what was exchanged at the URL."""
        if self._shared:
            self._shared.remove()

    def peak_mib(self) -> float:
        """The most memory that one of the workers has held so far, MiB."""
        return max(self._client.run(_peak_mib).values(), default=0.0)

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker

        try:
            return future.result()
        except PipelineError:
            raise
        except KilledWorker:
            raise ServiceUnavailable(
                f"A unit of work lost {_KILLS + 1} workers on {self._where}: they were killed or ran out of memory.",
                remedy="Give each worker more memory, or start fewer of them (ETL_WORKERS).",
            ) from None
        except (OSError, TimeoutError, _cancelled()) as error:
            raise ServiceUnavailable(
                f"The Dask scheduler on {self._where} went away ({type(error).__name__}).",
                remedy="Look at the scheduler; a new start of the run reads what is missing again.",
            ) from None


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _cancelled() -> type[BaseException]:
    from concurrent.futures import CancelledError

    return CancelledError


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


def _run(work: Callable[[Any, Tick], Any], unit: Any, expected: Expected, names: Sequence[str] = ()) -> Done:
    """On a worker, which runs one unit at a time."""
    _ready(expected)
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
    """A unit in this worker's own folder: what it reads is fetched first, what it writes is put at the URL."""
    shared = _own_folder(expected)
    shared.pull(names)
    result = work(relocate(unit, expected.folder, shared.local), tick)
    outputs = tuple(shared.push(shared.changed()))
    shared.forget(but=LOOKED_UP)
    return relocate(result, shared.local, expected.folder), outputs


@lru_cache(maxsize=4)
def _own_folder(expected: Expected) -> SharedFolder:
    """A folder of this process for one run; it goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="supabase-nightly-worker-")
    atexit.register(folder.cleanup)
    return SharedFolder(expected.url, Path(folder.name).resolve())


@lru_cache(maxsize=4)
def _ready(expected: Expected) -> None:
    """Once a process and run: this worker sees the run's folder, may write there, and has the settings it needs."""
    pa.set_cpu_count(1)  # the processes share the cores already
    where = f"A Dask worker ({os.uname().nodename}, process {os.getpid()})"
    _require_folder(expected, where)
    if (here := _versions()) != expected.libraries:
        raise ConfigurationError(
            f"{where} has {', '.join(set(here) - set(expected.libraries))}; this run has other versions.",
            remedy="Install the same requirements.txt on all workers: versions shape the bytes of the files.",
        )
    try:
        settings = load_settings(transport=expected.transport)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where} lacks settings. {error.message}", remedy=_OWN_ENVIRONMENT) from None
    if settings.project != expected.project:
        raise ConfigurationError(
            f"{where} is set up for {settings.project}, this run for {expected.project}.", remedy=_OWN_ENVIRONMENT
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
    except (OSError, ImportError, ValueError) as error:  # fsspec: no driver for the URL
        raise ConfigurationError(
            f"{where} cannot use the run's folder {expected.url or expected.folder} ({type(error).__name__}).",
            remedy=_SHARED,
        ) from None
    if not same:
        raise ConfigurationError(f"{where} has another folder at {expected.url or here}.", remedy=_SHARED)


_SHARED = "ETL_DATA_DIR must be a folder that all workers share at the same path, or ETL_SHARED_DIR a URL they reach."
