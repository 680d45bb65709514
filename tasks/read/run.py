"""One run, opened once: everything that is read from it is of the same run, whatever is committed meanwhile."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import pandas as pd
import pyarrow as pa

from tasks.contracts import Report, Table
from tasks.errors import NotThere, ServiceUnavailable
from tasks.files.manifest import FileEntry, Manifest
from tasks.files.parquet import file_schema, report_schema
from tasks.read.cache import Cache
from tasks.read.catalog import open_catalog
from tasks.read.frames import load, no_rows, source_of, to_engine
from tasks.read.options import (
    Access,
    AsOf,
    Choice,
    Engine,
    Filters,
    Part,
    check_engine,
    check_options,
    checked_columns,
    checked_filters,
    checked_months,
    choice_of,
    report_named,
    settings_of,
    table_named,
)
from tasks.settings import Settings

OFFLINE_AFTER = 2  # retries


class OfflineWarning(UserWarning):
    """The project cannot be reached: what was found the last time is read from this machine."""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A published run. Made by `open_run`; `manifest` is all that the run says about itself.

    offline: it was not looked for now, but found by the same question the last time; its frames say so in `attrs`.
    """

    manifest: Manifest
    settings: Settings
    access_token: str | None = field(default=None, repr=False)
    offline: bool = False

    @property
    def run_id(self) -> str:
        return self.manifest.run_id

    def __repr__(self) -> str:
        """One line for a notebook; `manifest` says all of it."""
        return f"<OpenRun {self.run_id}, as of {self.as_of.isoformat()}>"

    @property
    def as_of(self) -> datetime:
        """The instant that the reports are as of, in UTC."""
        return self.manifest.as_of

    @overload
    def report(self, name: str, *, engine: Literal["pandas"] = "pandas", **part: Unpack[Part]) -> pd.DataFrame: ...
    @overload
    def report(self, name: str, *, engine: Literal["arrow"], **part: Unpack[Part]) -> pa.Table: ...
    @overload
    def report(self, name: str, *, engine: Engine = "pandas", **part: Unpack[Part]) -> Any: ...
    def report(self, name: str, *, engine: Engine = "pandas", **part: Unpack[Part]) -> Any:
        """A report of this run; see `read_report`."""
        check_options("report", part, Part, "engine")
        check_engine(engine)
        report = report_named(name)
        entries = self._entries(f"the report {name}", f"reports/{name}.parquet")
        schema = report_schema(report)
        columns = checked_columns(name, part.get("columns"), schema, as_declared=_are_of(entries, report))
        return self._read(name, entries, schema, columns, checked_filters(part.get("filters")), engine)

    @overload
    def table(
        self,
        name: str,
        *,
        months: Iterable[str] | None = None,
        engine: Literal["pandas"] = "pandas",
        **part: Unpack[Part],
    ) -> pd.DataFrame: ...
    @overload
    def table(
        self, name: str, *, months: Iterable[str] | None = None, engine: Literal["arrow"], **part: Unpack[Part]
    ) -> pa.Table: ...
    @overload
    def table(
        self, name: str, *, months: Iterable[str] | None = None, engine: Engine = "pandas", **part: Unpack[Part]
    ) -> Any: ...
    def table(
        self, name: str, *, months: Iterable[str] | None = None, engine: Engine = "pandas", **part: Unpack[Part]
    ) -> Any:
        """The cleaned rows of a table of this run; see `read_table`."""
        check_options("table", part, Part, "engine", "months")
        check_engine(engine)
        table = table_named(name)
        schema = file_schema(table)
        wanted = checked_months(table, months)
        entries = [] if wanted == [] else self._entries_of_table(name, wanted)
        columns = checked_columns(name, part.get("columns"), schema, as_declared=_are_of(entries, table))
        filters = checked_filters(part.get("filters"))
        if not entries:
            return to_engine(no_rows(name, schema, columns, filters), engine, self._source([]))
        return self._read(name, entries, schema, columns, filters, engine)

    def _read(
        self,
        what: str,
        entries: Sequence[FileEntry],
        declared: pa.Schema,
        columns: list[str] | None,
        filters: Filters | None,
        engine: Engine,
    ) -> Any:
        try:
            table = load(what, self._files(entries), columns, filters, declared=declared.names)
        except FileNotFoundError:  # past its time meanwhile, and forgotten by another process that shares the cache
            table = load(what, self._files(entries), columns, filters, declared=declared.names)
        return to_engine(table, engine, self._source(entries))

    def _files(self, entries: Sequence[FileEntry]) -> list[Path]:
        """Copies of the files on this machine, in their order."""
        cache = Cache.of(self.settings)
        local = [cache.find(entry.sha256) for entry in entries]
        files = [file for file in local if file]
        if len(files) < len(entries):
            with open_catalog(self.settings, self.access_token) as catalog:
                files = catalog.fetch([(self.manifest.run, entry) for entry in entries], cache)
        return files

    def _source(self, entries: Sequence[FileEntry]) -> dict[str, Any]:
        """What a frame says about the run it is of."""
        return {**source_of(self.manifest, entries), **({"offline": True} if self.offline else {})}

    def _entries_of_table(self, name: str, months: list[str] | None) -> list[FileEntry]:
        """The parts of a table, or of some months of it, in the order of their paths; none of a table without rows."""
        if self.manifest.historical:
            raise NotThere(
                f"The run as of {self.as_of.isoformat()} is historical, computed from later rows: it has reports, no "
                "cleaned tables.",
                remedy="Leave out as_of and run for the latest cleaned tables.",
            )
        if months is None:
            return [] if self._is_empty(name) else self._entries(f"the cleaned table {name}", f"clean/{name}/")
        parts = [self._entries(f"{name} of {month}", f"clean/{name}/month={month}/") for month in months]
        return [entry for entries in parts for entry in entries]

    def _is_empty(self, name: str) -> bool:
        """Whether a table has no file because no row of it was kept: one that is split by month has none then."""
        counts = self.manifest.counts.tables.get(name)
        has_file = any(entry.path.startswith(f"clean/{name}/") for entry in self.manifest.files)
        return counts is not None and counts.kept == 0 and not has_file and self.manifest.removed is None

    def _entries(self, what: str, prefix: str) -> list[FileEntry]:
        """The run's files under a prefix; NotThere when retention removed them, or there never were any."""
        entries = [entry for entry in self.manifest.files if entry.path.startswith(prefix)]
        removed = self.manifest.removed
        if removed and any(path.startswith(prefix) for path in removed.files):
            raise NotThere(
                f"The run as of {self.as_of.isoformat()} has {what} no more: it was removed by retention on "
                f"{removed.at.date()}, since files that name user ids are kept for a time only.",
                remedy="The run's other reports are there; list_runs() shows newer runs.",
            )
        if not entries:
            raise NotThere(
                f"The run as of {self.as_of.isoformat()} does not have {what}.", remedy=f"It has {_has(self.manifest)}."
            )
        return entries


def _are_of(entries: Sequence[FileEntry], declared: Report | Table) -> bool:
    """Whether files have the columns that are declared now: one of before a change may have others."""
    return all(entry.version == declared.version for entry in entries)


def _has(manifest: Manifest) -> str:
    """What a run has, in words: reports by name, tables with their first and last month."""
    reports = [e.path.removeprefix("reports/").removesuffix(".parquet") for e in manifest.files if e.kind == "report"]
    months: dict[str, list[str]] = {}
    for entry in manifest.files:
        if entry.kind == "clean":
            _, table, *folder = entry.path.split("/")[:-1]
            months.setdefault(table, []).extend(name.removeprefix("month=") for name in folder)
    tables = [f"{t} from {min(found)} to {max(found)}" if found else t for t, found in months.items()]
    return f"the reports {', '.join(reports) or 'none'} and the tables {', '.join(tables) or 'none'}"


@contextmanager
def open_run(**choice: Unpack[Choice]) -> Iterator[OpenRun]:
    """One run to read several things from: by default the latest, else that of `as_of` or `run` (see `Choice`).

        with open_run() as run:
            daily, users = run.report("daily_activity"), run.table("users")

    Raises ReadError when there is no such run, or this user may not see it.
    """
    check_options("open_run", choice, Choice)
    yield find_run(choice)


def find_run(choice: Choice, *, may_be_offline: bool = True) -> OpenRun:
    """The run that is asked for; without a network the one that was found by the same question the last time.

    may_be_offline: False for what others shall take for the latest run's: it is asked for patiently, and
    ServiceUnavailable says that nobody knows which run that is.
    """
    settings, token = settings_of(choice.get("settings")), choice.get("access_token")
    as_of, run = choice.get("as_of"), choice.get("run")
    cache, question = Cache.of(settings), f"{as_of}/{run}"
    known = cache.recall(question) if may_be_offline else None
    if known is None:
        manifest = _find(settings, token, as_of, run)
    else:
        try:
            manifest = _find(_impatient(settings), token, as_of, run)
        except ServiceUnavailable as error:
            warnings.warn(f"{error.message} Reading what was downloaded before.", OfflineWarning, stacklevel=3)
            return OpenRun(Manifest.model_validate_json(known), settings, token, offline=True)
    cache.remember(question, manifest.to_json())
    return OpenRun(manifest, settings, token)


def opened(run: AsOf | OpenRun | None, access: Access) -> OpenRun:
    """A run as it was given, where it is open already; else the one that is meant, None the latest."""
    return run if isinstance(run, OpenRun) else find_run(choice_of(run, access))


def _find(settings: Settings, token: str | None, as_of: AsOf | None, run: str | None) -> Manifest:
    with open_catalog(settings, token) as catalog:
        return catalog.find(as_of=as_of, run=run)


def _impatient(settings: Settings) -> Settings:
    """Few retries, and five seconds to connect: there is something to fall back on."""
    update = {"retries": min(settings.retries, OFFLINE_AFTER), "connect_timeout": min(settings.connect_timeout, 5.0)}
    return settings.model_copy(update=update)
