"""The ledger: one row a run, which is the lease too. The database decides who holds it, by its own clock."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from tasks.errors import ConfigurationError, LeaseHeld, LeaseLost, PipelineError
from tasks.platform.functions import Database, Json, open_database
from tasks.settings import Settings, Transport

logger = logging.getLogger(__name__)

AsOfMode = Literal["now", "midnight", "resume", "at"]
_POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger knows it. `token` proves that it holds the lease; it never leaves this process.

    as_of is None until `Ledger.begin` when the mode is `now`. began: the database's clock when reading began, None
    until then; a run that goes on with a dead run's reading over REST has it from the start. last: the counts of the
    run that is current, None when there is none.
    """

    run_id: str
    token: str = field(repr=False)
    as_of: datetime | None
    as_of_mode: str
    began: datetime | None
    transport: str
    resumed_from: str | None
    historical: bool
    last: dict[str, Any] | None


class Ledger:
    """Starts runs, notes their stages and ends, and tells what was committed."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def start(
        self,
        mode: AsOfMode,
        as_of: datetime | None = None,
        *,
        transport: Transport,
        code_version: str = "",
        historical: bool = False,
        kind: Literal["run", "restore"] = "run",
    ) -> Run:
        """Take the lease, waiting `wait_for_lease` seconds for another run; a silent one is replaced.

        mode: `now` and `midnight` (UTC, of the database's day, or `as_of` when the scheduled day is given), `resume`
        (the as_of of the last run, when that failed within `resume_within` seconds and nothing was committed since;
        else as `midnight`), `at` (the given `as_of`). historical: whatever its as_of, this run moves nothing but its
        own reports.
        Raises LeaseHeld, which says who holds it and since when.
        """
        if mode == "at" and as_of is None:
            raise ConfigurationError("An as_of is wanted with this mode.")
        facts = {
            "transport": transport,
            "as_of": as_of.isoformat() if as_of else None,
            "as_of_mode": mode,
            "lease_seconds": self._settings.lease_seconds,
            "resume_within": self._settings.resume_within,
            "code_version": code_version,
            "historical": historical,
            "kind": kind,
        }
        run_id, token = _new_run_id(), str(uuid.uuid4())
        row = self._take(run_id, token, facts)
        return self._run(row, token)

    def _take(self, run_id: str, token: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self._settings.wait_for_lease
        while True:
            try:
                return dict(self._database.call("etl_start", p_run=run_id, p_token=token, p_facts=facts))
            except LeaseHeld as held:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                logger.info("%s Waiting, %.0f s at most.", held.message, left)
                time.sleep(min(_POLL_SECONDS, left))

    def begin(self, run: Run, began: datetime) -> Run:
        """Reading began at this instant of the database's clock: settles `as_of` and `historical`.

        ConfigurationError when as_of is later than `began`: a report must not speak of what has not happened yet.
        """
        if run.as_of is not None and run.as_of > began:
            raise ConfigurationError(
                f"as_of {run.as_of.isoformat()} is later than the database's clock, {began.isoformat()}.",
                remedy="Give an earlier as_of, or `now`. Nothing was read.",
            )
        row = self._database.call("etl_begin", p_run=run.run_id, p_token=run.token, p_began=began.isoformat())
        return self._run(row, run.token)

    @contextmanager
    def holding(self, run: Run) -> Iterator[Heartbeat]:
        """Beat while the block works, also while it waits for the network; `check()` raises LeaseLost."""
        heartbeat = Heartbeat(self._settings, run)
        heartbeat.start()
        try:
            yield heartbeat
        finally:
            heartbeat.stop()

    def note_flow_run(self, run: Run, flow_run_id: str) -> None:
        """Which flow run of Prefect's this run belongs to, so that its page can be found."""
        self._database.call("etl_note_flow_run", p_run=run.run_id, p_token=run.token, p_flow_run=flow_run_id)

    def stage(self, run: Run, name: str, **figures: Mapping[str, Any]) -> None:
        """A stage begins. figures: `seconds`, `bytes`, `counts`, merged into what the ledger has. Raises LeaseLost."""
        self._database.call("etl_stage", p_run=run.run_id, p_token=run.token, p_stage=name, p_figures=figures)

    def fail(self, run: Run, error: BaseException, **figures: Mapping[str, Any]) -> None:
        """The run failed in the stage noted last. A run that was replaced, or is finished, stays as it is."""
        self._finish(run, "failed", error, figures)

    def hold(self, run: Run, error: BaseException, **figures: Mapping[str, Any]) -> None:
        """A guard stopped the run; a person decides."""
        self._finish(run, "held", error, figures)

    def _finish(self, run: Run, status: str, error: BaseException, figures: Mapping[str, Any]) -> None:
        said = str(error) if isinstance(error, PipelineError) else type(error).__name__  # others may quote data
        text = f"{type(error).__name__}: {said}" if isinstance(error, PipelineError) else said
        self._database.call(
            "etl_finish", p_run=run.run_id, p_token=run.token, p_status=status, p_error=text, p_figures=figures
        )

    def restore(self, run: Run, target: str, aggregates: Json) -> None:
        """Make the committed run `target` the current one, with these aggregates; ends `run`, which is a restore."""
        self._database.call(
            "etl_restore", p_run=run.run_id, p_token=run.token, p_target=target, p_aggregates=aggregates
        )

    def current(self) -> dict[str, Any] | None:
        """The run that latest.json must name and whose aggregates are in Postgres; None before the first commit."""
        return self._one(current=True)

    def last_committed(self) -> dict[str, Any] | None:
        """The same as `current`: after a restore that is the restored run."""
        return self.current()

    def run(self, run_id: str) -> dict[str, Any] | None:
        """One row of the ledger."""
        return self._one(run_id=run_id)

    def runs(self, limit: int = 100, **filters: Any) -> list[dict[str, Any]]:
        """Rows of the ledger, newest first. filters: status, kind, historical."""
        return list(self._database.call("etl_history", p_filter={"limit": limit, **filters}))

    def _one(self, **filters: Any) -> dict[str, Any] | None:
        rows = self.runs(1, **filters)
        return rows[0] if rows else None

    def _run(self, row: Mapping[str, Any], token: str) -> Run:
        current = self.current()
        return Run(
            run_id=row["run_id"],
            token=token,
            as_of=_instant(row["as_of"]),
            as_of_mode=row["as_of_mode"],
            began=_instant(row["began"]),
            transport=row["transport"],
            resumed_from=row["resumed_from"],
            historical=row["historical"],
            last=current["counts"] if current else None,
        )


class Heartbeat(threading.Thread):
    """Tells the database that a run is alive, on a connection of its own.

    Only the database's word ends a run: a beat that cannot be delivered is tried again, however long it takes.
    """

    def __init__(self, settings: Settings, run: Run) -> None:
        super().__init__(name=f"heartbeat-{run.run_id}", daemon=True)
        # A beat is not worth long retries: the next one comes soon, on a new connection.
        self._settings = settings.model_copy(update={"retries": 0, "read_timeout": min(10.0, settings.read_timeout)})
        self._run_held = run
        self._every = max(0.25, settings.lease_seconds / 5)
        self._done = threading.Event()
        self._lost: LeaseLost | None = None

    def run(self) -> None:
        while not self._done.is_set() and self._lost is None:
            try:
                with open_database(self._settings) as database:
                    self._beat(database)
            except LeaseLost as error:
                self._lost = error
            except PipelineError as error:
                logger.warning("A heartbeat was not delivered: %s", error.message)
                self._done.wait(min(1.0, self._every))

    def _beat(self, database: Database) -> None:
        while not self._done.is_set():
            database.call("etl_beat", p_run=self._run_held.run_id, p_token=self._run_held.token)
            self._done.wait(self._every)

    def check(self) -> None:
        """Raise LeaseLost when another run has taken over."""
        if self._lost is not None:
            raise LeaseLost(self._lost.message)

    def stop(self) -> None:
        """Stop beating; returns when no beat is under way any more, or after its timeout."""
        self._done.set()
        self.join(timeout=self._settings.read_timeout)


def _new_run_id() -> str:
    """Sorts by time, and is a fine folder name."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def _instant(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value).astimezone(UTC) if value else None
