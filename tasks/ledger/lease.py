"""The lease of a run, and the heartbeat that keeps it."""

from __future__ import annotations

import logging
import secrets
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tasks.errors import LeaseLost, PipelineError
from tasks.ledger.row import LedgerRow
from tasks.platform.functions import Database, open_database
from tasks.reports.figures import RunCounts
from tasks.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who asks the database: a run, and the evidence that it is this one."""

    run_id: str
    token: str = field(repr=False)

    @property
    def evidence(self) -> dict[str, Any]:
        """What every call of ours that changes something carries."""
        return {"p_run": self.run_id, "p_token": self.token}


class Ticket(_Holder):
    """What an attempt asks for the lease with, known before the database is asked: its run id, and its own secret.

    A later attempt of the same process presents it, so that it does not have to wait for what this one left behind.
    """

    @classmethod
    def new(cls) -> Ticket:
        """The id sorts by time, and is a valid folder name."""
        return cls(f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}", str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class Lease(_Holder):
    """A run that holds the lease, as the ledger knows it. `token` is the evidence, and never leaves this process.

    as_of is None until `Ledger.begin` when the mode is `now`. snapshot_at: the database's clock when reading started;
    None until then, but for a run that continues a failed reading over REST. last: the counts of the
    run that is current, None when there is none.
    """

    as_of: datetime | None
    as_of_mode: str
    snapshot_at: datetime | None
    transport: str
    resumed_from: str | None
    historical: bool
    last: RunCounts | None


def lease_of(row: LedgerRow, token: str, last: RunCounts | None) -> Lease:
    """The lease from a row of the ledger."""
    return Lease(
        run_id=row.run_id,
        token=token,
        as_of=row.as_of,
        as_of_mode=row.as_of_mode,
        snapshot_at=row.snapshot_at,
        transport=row.transport,
        resumed_from=row.resumed_from,
        historical=row.historical,
        last=last,
    )


class Heartbeat(threading.Thread):
    """Records in the database that a run is alive, on a connection of its own.

    Only the database's word ends a run: a beat that cannot be delivered is tried again, however long it takes.
    """

    def __init__(self, settings: Settings, lease: Lease) -> None:
        super().__init__(name=f"heartbeat-{lease.run_id}", daemon=True)
        # A beat is not worth long retries: the next one comes soon, on a new connection.
        self._settings = settings.model_copy(update={"retries": 0, "read_timeout": min(10.0, settings.read_timeout)})
        self._lease = lease
        self._every = max(0.25, settings.lease_seconds / 5)
        self._done = threading.Event()
        self._lost: LeaseLost | None = None
        self._away = False  # the last beat was not delivered
        self._waits_for: set[tuple[str, int]] = set()  # tables and sessions that were named already

    def run(self) -> None:
        while not self._done.is_set() and self._lost is None:
            try:
                with open_database(self._settings) as database:
                    self._beat(database)
            except LeaseLost as error:
                self._lost = error
            except PipelineError as error:
                if not self._away:  # once an outage: it is tried every second
                    logger.warning("A heartbeat was not delivered, and is tried until it is: %s", error.message)
                self._away = True
                self._done.wait(min(1.0, self._every))

    def _beat(self, database: Database) -> None:
        while not self._done.is_set():
            database.call("etl_beat", **self._lease.evidence)
            self._away = False
            if self._lease.transport == "postgres":  # over REST the server ends what waits
                self._say_waits(database.call("etl_waits", p_seconds=self._every))
            self._done.wait(self._every)

    def _say_waits(self, waits: list[dict[str, Any]]) -> None:
        """Who keeps this run waiting by a lock, each once."""
        for wait in waits:
            table, pid = wait["table"] or "a row", wait["pid"]
            if (table, pid) in self._waits_for:
                continue
            self._waits_for.add((table, pid))
            logger.warning("Has waited for %d s for a lock on %s that %s", wait["seconds"], table, _holds(wait))

    def check(self) -> None:
        """Raise LeaseLost when another run has taken over."""
        if self._lost is not None:
            raise LeaseLost(self._lost.message, remedy=self._lost.remedy)

    def stop(self) -> None:
        """Stop beating; returns when no beat is under way any more, or after its timeout."""
        self._done.set()
        self.join(timeout=self._settings.read_timeout)


def _holds(wait: dict[str, Any]) -> str:
    """Who holds a lock, and what ends it: a sentence's end. A prepared transaction has no session, and the pid 0."""
    pid, known = wait["pid"], ", ".join(filter(None, (wait["application"], wait["state"])))
    if not pid:
        return (
            "a prepared transaction holds. The run goes on when that ends: `select * from pg_prepared_xacts` lists it, "
            "`rollback prepared 'GID'` or `commit prepared 'GID'` ends it."
        )
    return (
        f"session {pid}{f' ({known})' if known else ''} holds. The run goes on when that session ends its transaction; "
        f"`select pg_terminate_backend({pid})` ends the session."
    )


class NoHeartbeat:
    """Of a dry run, which has no lease to lose."""

    def check(self) -> None:
        """Nothing can be lost."""

    def stop(self) -> None:
        """Nothing beats."""
