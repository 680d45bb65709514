"""Units on Dask workers, through Prefect's own task runner for Dask: local processes, or a cluster by its address.

Nothing secret travels: each worker reads its settings from its own environment, and says so when it has none. A worker
that dies loses its unit to another one; a unit that ran twice has written the same files twice.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import chain
from typing import Any

from tasks.errors import ConfigurationError, PipelineError, ServiceUnavailable
from tasks.platform.code import CODE
from tasks.platform.dask_worker import TOKEN, Done, Expected, run_units, to_be_alike, versions
from tasks.platform.shared_folder import SharedFolder, exchanging
from tasks.platform.traffic import TRAFFIC
from tasks.platform.workers import HERE, NeedsFiles, Result, Tick, Unit, Workers, no_tick, runs_of
from tasks.settings import Settings
from tasks.workspace import Workspace

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 20.0  # between two looks at whether a cluster still has workers
_NO_WORKER_SECONDS = 300.0  # a cluster may be without one for so long, as when it grows or its machines restart
_KILLS = 3  # workers that one unit may lose before it is taken for the cause
# One thread a library in each worker, as Dask has it by default; but without its MALLOC_TRIM_THRESHOLD_, which makes
# glibc give the memory of every batch back to the kernel: half as much CPU again, in page faults.
_ENVIRON = {f"{name}_NUM_THREADS": 1 for name in ("OMP", "MKL", "OPENBLAS")}
# What the units of a night need, imported while a worker starts rather than by its first units.
_PRELOADED = ("platform.dask_worker", "source.units", "cleaning.units", "files.clean", "files.state", "publish.upload")
# Workers started here share the cores with the work. Dask's profiler looks at every thread 100 times a second and its
# clock ticks 50 times; each time the thread that works has to let go of the interpreter: an eighth of the whole.
_LOCAL = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.preload": [f"tasks.{name}" for name in _PRELOADED],
}


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
        if settings.dask_address:
            _require_scheduler(settings)
        client = runner.client
    except (OSError, TimeoutError) as error:
        raise ServiceUnavailable(
            f"No Dask scheduler answers at {settings.dask_address or 'this machine'} ({type(error).__name__}). "
            "Nothing was read.",
            remedy="Look at ETL_DASK_ADDRESS, and whether the scheduler runs.",
        ) from None
    if settings.dask_address:
        _require_workers_with_our_code(client, settings)
    return client


def _require_scheduler(settings: Settings) -> None:
    """Dask's own greeting, before a client is made: one that fails ends with the process only, and says so for 20 s."""
    from distributed.comm import core

    connect: Any = core.connect  # which has no types

    async def greet() -> None:
        comm = await connect(settings.dask_address, timeout=settings.connect_timeout)
        await comm.close()

    try:
        asyncio.run(greet())
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a web server's answer, say, is read as a length: a MemoryError
        raise ConfigurationError(
            f"What answers at {settings.dask_address} is no Dask scheduler of this version ({type(error).__name__}). "
            "Nothing was read.",
            remedy="Look at ETL_DASK_ADDRESS. Scheduler, workers and run need one version of Dask: docs/scaling.md.",
        ) from None


def _require_workers_with_our_code(client: Any, settings: Settings) -> None:
    """Of a cluster that somebody else started. A worker without this code leaves it when it is sent some, unheard."""

    def finds_the_code() -> bool:  # nested, so that it travels as a whole and not by its name in this module
        from importlib.util import find_spec

        return find_spec("tasks") is not None

    where = f"at {settings.dask_address}"
    try:
        client.wait_for_workers(1, timeout=settings.connect_timeout)
    except TimeoutError:
        raise ServiceUnavailable(
            f"The Dask scheduler {where} has no workers. Nothing was read.", remedy="Start some: docs/scaling.md."
        ) from None
    found = {f"worker {name}": finds for name, finds in client.run(finds_the_code).items()}
    lacking = [
        who for who, finds in {"scheduler": client.run_on_scheduler(finds_the_code), **found}.items() if not finds
    ]
    if lacking:
        raise ConfigurationError(
            f"The Dask {' and the '.join(lacking)} {where} cannot find this code. Nothing was read.",
            remedy="Start scheduler and workers by `python -m dask` in the folder of this repository: docs/scaling.md.",
        )


def _runner(settings: Settings, workspace: Workspace) -> Any:
    try:
        import dask
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise ConfigurationError(
            "ETL_WORKERS and ETL_DASK_ADDRESS need Dask, which is not installed.",
            remedy="`make install-dask` installs it; without both settings the run uses this process alone.",
        ) from None
    dask.config.set({"distributed.scheduler.allowed-failures": _KILLS, "distributed.nanny.pre-spawn-environ": _ENVIRON})
    logging.getLogger("distributed").setLevel(logging.ERROR)  # what matters of it becomes an error of ours
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a scheduler that is gone, as a traceback
    if settings.dask_address:
        return DaskTaskRunner(address=settings.dask_address, client_kwargs={"timeout": settings.connect_timeout})
    dask.config.set(_LOCAL)
    local = {
        "n_workers": settings.workers,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        # Without a dashboard there is still a server for health and metrics: on a free port, of this machine only.
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "local_directory": str(workspace.root / "dask"),  # what a worker spills is personal, and goes with the run
        "silence_logs": "ERROR",
    }
    return DaskTaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs=local)


def _expected(settings: Settings, workspace: Workspace) -> Expected:
    token = secrets.token_hex(16)
    (workspace.root / TOKEN).write_text(token)
    folder = workspace.root.resolve()
    url = f"{settings.shared_dir.rstrip('/')}/{workspace.run_id}" if settings.shared_dir else ""
    return Expected(folder, url, token, to_be_alike(settings), settings.resolved_transport, versions(), CODE)


def _exchange(expected: Expected) -> SharedFolder:
    """The folder at the URL, with the run's token in it."""
    shared = SharedFolder(expected.url, expected.folder)
    try:
        shared.push([expected.folder / TOKEN])
    except Exception as error:  # noqa: BLE001 - each driver of fsspec has errors of its own
        raise ConfigurationError(
            f"Nothing can be written at ETL_SHARED_DIR ({type(error).__name__}). Nothing was read.",
            remedy="Install the driver of such a URL, for S3 s3fs, and give this account the right to write there: "
            "see docs/scaling.md.",
        ) from None
    return shared


class DaskWorkers:
    """Runs units on the workers of a Dask client."""

    def __init__(self, client: Any, settings: Settings, expected: Expected) -> None:
        self._client, self._expected = client, expected
        self._where = settings.dask_address or "this machine"
        self._shared = _exchange(expected) if expected.url else None
        self.count = settings.workers or max(1, len(client.scheduler_info(n_workers=-1)["workers"]))

    def map(
        self, work: Callable[[Unit, Tick], Result], units: Sequence[Unit], *, tick: Tick = no_tick, together: int = 1
    ) -> Iterator[Result]:
        """The results in the order of the units; see `Workers`."""
        futures = [self._submit(work, run) for run in runs_of(units, workers=self.count, together=together)]
        try:
            for index, future in enumerate(futures):
                finished = self._result(future)
                futures[index] = None  # the cluster may forget it
                for done in finished:
                    if done.error:
                        raise done.error
                    self._fetch(done.outputs)
                    TRAFFIC.add(sent=done.sent, received=done.received)
                    tick(done.rows)
                    yield done.result
        finally:
            self._client.cancel([future for future in futures if future is not None], force=True)

    def _submit(self, work: Callable[[Unit, Tick], Result], run: Sequence[Unit]) -> Any:
        """A task for neighbouring units. Returns its future."""
        files = sorted(set(chain.from_iterable(self._share(unit) for unit in run)))
        key = f"{work.__name__}-{secrets.token_hex(8)}"
        return self._client.submit(run_units, work, run, self._expected, files, pure=False, key=key)

    def _share(self, unit: Any) -> list[str]:
        """Put what a unit reads where workers without a shared disk find it. Returns the names of the files."""
        if self._shared is None or not isinstance(unit, NeedsFiles):
            return []
        with exchanging("put what a unit of work reads at", self._expected.url):
            return self._shared.push(path for path in unit.inputs() if path.exists())

    def _fetch(self, names: Sequence[str]) -> None:
        if self._shared:
            with exchanging("fetch what a unit of work wrote from", self._expected.url):
                self._shared.pull(names)

    def close(self) -> None:
        """Remove what was exchanged at the URL. That it stays ends no run, nor is it the reason why one ended."""
        if self._shared is None:
            return
        try:
            with exchanging("remove the run's files from", self._expected.url):
                self._shared.remove()
        except PipelineError as error:
            logger.warning("%s They hold personal data: remove them by hand.", error.message)

    def peak_mib(self) -> float:
        """The most memory that one of the workers has held so far, MiB."""
        return max(self._client.run(_peak_mib).values(), default=0.0)

    def _result(self, future: Any) -> list[Done]:
        from distributed import KilledWorker

        try:
            finished: list[Done] = self._wait(future)
            return finished
        except PipelineError:
            raise
        except KilledWorker:
            raise ServiceUnavailable(
                f"A unit of work lost {_KILLS + 1} workers on {self._where}: they were killed or ran out of memory.",
                remedy="Give each worker more memory, or start fewer of them (ETL_WORKERS).",
            ) from None
        except (OSError, TimeoutError, CancelledError) as error:
            raise ServiceUnavailable(
                f"The Dask scheduler on {self._where} went away ({type(error).__name__}).",
                remedy="Look at the scheduler; a new start of the run reads what is missing again.",
            ) from None

    def _wait(self, future: Any) -> Any:
        """Its result. Dask itself would wait forever for workers that do not come back."""
        seen_at = time.monotonic()
        while True:
            try:
                return future.result(timeout=_LOOK_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
            if self._client.scheduler_info(n_workers=-1)["workers"]:
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at > _NO_WORKER_SECONDS:
                raise ServiceUnavailable(
                    f"The Dask cluster at {self._where} has had no worker for {_NO_WORKER_SECONDS / 60:.0f} minutes.",
                    remedy="Look at its workers; a new start of the run reads what is missing again.",
                )


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
