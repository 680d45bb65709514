"""The nightly proof, of all kinds of rows: it holds for what was found whole and stored whole, and for nothing less."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pyarrow as pa
import pytest

from tasks.contracts import POSTS, TABLES
from tasks.errors import ProofFailed, RequestRefused, ServiceUnavailable
from tasks.incremental.audit import mark_wrong
from tasks.incremental.gather import Touched
from tasks.incremental.known import KNOWN_SCHEMA
from tasks.incremental.mode import GoFull
from tasks.incremental.proof import require_proof, verify_known
from tasks.platform.functions import Database, RestDatabase
from tasks.settings import Settings
from tasks.sink.model import REFUSED_RULE
from tasks.source.changes import Changes
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Row:
    """Fingerprints at the source, in the cleaned table and in a reject of a rule; None where the row is not there.

    refused: by the database at an earlier load. touched: read although it need not be. then: what comes of it now.
    """

    source: int | None
    clean: int | None
    reject: int | None
    refused: bool
    touched: bool
    then: str

    @property
    def known(self) -> int | None:
        """As stored; nothing is known of a refused row."""
        return None if self.refused else self.clean if self.reject is None else self.reject

    @property
    def listed(self) -> bool:
        return self.refused or self.source != self.known

    def stored(self, *, noted: bool) -> int | None:
        """As `etl_known_sum` finds it after the load. noted: the refused rows of this load are rejects already."""
        if not (self.listed or self.touched):
            return self.known
        if self.source is None or self.then == "rejected":
            return self.source
        if self.then == "refused":
            return None if noted or self.refused else self.clean
        return None if self.refused and not noted else self.source


World = Mapping[str, Row]
KINDS = ("clean", "reject", "refused")  # a reject is of a rule; of what was refused an earlier version may be there


def row(source: int | None, stored: int | None, kind: str, touched: bool, then: str) -> Row:
    clean, reject = (None, stored) if kind == "reject" else (stored, None)
    return Row(source, clean, reject, kind == "refused", touched, then)


def every_row() -> World:
    """A row for each way in which it can be there, be stored, be touched and end, each with its own fingerprints."""
    ways = product((False, True), ("not", "other", "same"), KINDS, (False, True), ("kept", "rejected", "refused"))
    rows = {}
    for number, (there, stored, kind, touched, then) in enumerate(ways):
        fingerprint = (number * 0x9E3779B97F4A7C15) % 2**63 - 2**62
        known = {"not": None, "other": fingerprint + 1, "same": fingerprint}[stored]
        rows[str(UUID(int=number))] = row(fingerprint if there else None, known, kind, touched, then)
    return rows


def found_in(world: World) -> Touched:
    """As the search for changes leaves it."""
    source = [row.source for row in world.values() if row.source is not None]
    known = [row.known for row in world.values() if row.known is not None]
    listed = {key: row.source for key, row in world.items() if row.listed}
    touched = [key for key, row in world.items() if row.listed or row.touched]
    rows = [{"id": key, "_fingerprint": world[key].source} for key in touched if world[key].source is not None]
    changes = Changes(POSTS, listed, len(source), sum(source) % 2**64, len(known), sum(known) % 2**64)
    return Touched(changes, pa.Table.from_pylist(rows, schema=POSTS.raw_schema), set(touched))


def known_of(world: World, touched: Touched) -> pa.Table:
    """What is stored of the rows that were touched."""
    rows = []
    for key in sorted(touched.asked):
        row = world[key]
        rule = REFUSED_RULE if row.refused else "orphan" if row.reject is not None else None
        if rule or row.clean is not None:
            rows.append({"key": key, "fingerprint": row.clean, "rule": rule, "reject_fingerprint": row.reject})
    return pa.Table.from_pylist(rows, schema=KNOWN_SCHEMA)


def test_rows_that_were_not_touched_are_the_same_on_both_sides() -> None:
    world = every_row()
    require_proof(found_in(world), known_of(world, found_in(world)))
    for missed in (key for key, row in world.items() if row.source != row.known):
        touched = found_in(world)
        touched.asked.remove(missed)
        del touched.changes.fingerprints[missed]
        with pytest.raises(GoFull, match="posts at the source and as stored do not agree"):
            require_proof(touched, known_of(world, touched))


def test_a_proof_that_fails_says_in_what() -> None:
    world = {str(UUID(int=n)): row(n, n, "clean", False, "kept") for n in range(3)}
    for name, words in (
        ("source_rows", "4 and 3 untouched rows$"), ("known_rows", "3 and 4 untouched rows$"),
        ("source_sum", "3 and 3 untouched rows of other fingerprints"), ("known_sum", "of other fingerprints"),
    ):  # fmt: skip
        touched = found_in(world)
        setattr(touched.changes, name, getattr(touched.changes, name) + 1)
        with pytest.raises(GoFull, match=words):
            require_proof(touched, known_of(world, touched))


def night_of(world: World, folder: Path) -> Any:
    """A night of these posts, as far as the proof after its load looks at it."""
    workspace, touched = Workspace.create(folder, "run"), found_in(world)
    known = {POSTS.name: known_of(world, touched)}
    kept = [key for key in touched.rows["id"].to_pylist() if world[key].then != "rejected"]
    for table in TABLES:
        ids = [{"id": key} for key in kept] if table is POSTS else []
        workspace.clean(table).write(0, pa.Table.from_pylist(ids, schema=table.clean_schema).to_batches())
    nothing = {table.name: KNOWN_SCHEMA.empty_table() for table in TABLES}
    return SimpleNamespace(
        workspace=workspace,
        known={**nothing, **known},
        touched=lambda table: touched if table is POSTS else Touched(Changes(table), table.raw_schema.empty_table()),
    )


@contextmanager
def answering(answer: Callable[[httpx.Request], httpx.Response]) -> Iterator[Database]:
    values = {"supabase_url": "http://127.0.0.1:9", "supabase_service_key": "sb_secret_x", "retry_base": 0.001}
    given = Settings(_env_file=None, **values)  # type: ignore[arg-type]
    with closing(RestDatabase(given, transport=httpx.MockTransport(answer))) as database:
        yield database


@contextmanager
def database_with(stored: Sequence[int]) -> Iterator[Database]:
    """A database in which posts with these fingerprints are stored, and nothing else."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = stored if json.loads(request.content)["p_table"] == POSTS.name else ()
        return httpx.Response(200, json={"rows": len(found), "sum": str(sum(found))})

    with answering(answer) as database:
        yield database


def test_what_was_marked_before_the_database_refuses_a_range_is_counted() -> None:
    """The failed run said that it had written nothing."""
    answers = iter([httpx.Response(200, json=["5"]), httpx.Response(200, json=2), httpx.Response(403)])
    marked: list[int] = []
    with answering(lambda request: next(answers)) as database, pytest.raises(RequestRefused):
        marked.extend(mark_wrong(database, {}, POSTS))
    assert marked == [2]


@pytest.mark.parametrize("noted", [False, True])
def test_what_is_stored_after_the_load_is_what_must_be(noted: bool, tmp_path: Path) -> None:
    """noted: over Postgres, where the proof is a part of the transaction that commits."""
    world = every_row()
    verify = verify_known(night_of(world, tmp_path))
    there = [f for f in (row.stored(noted=noted) for row in world.values()) if f is not None]
    read = {key: row for key, row in world.items() if row.source is not None and (row.listed or row.touched)}
    refused = {POSTS.name: [key for key, row in read.items() if row.then == "refused"]}
    with database_with(there) as database:
        verify(database, refused, in_transaction=noted)
    for stored, words in (([*there, 0], r"were expected\. It was not commit"), ([there[0] + 1, *there[1:]], "other")):
        with database_with(stored) as database, pytest.raises(ProofFailed, match=words):
            verify(database, refused, in_transaction=noted)


def test_only_a_proof_beside_the_load_is_gone_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A statement that is ended inside the transaction of the load has ended all of that."""

    asked: list[httpx.Request] = []

    def failing(code: str) -> Callable[[httpx.Request], httpx.Response]:
        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return httpx.Response(500, json={"code": code, "message": "no"})

        return answer

    verify = verify_known(night_of({}, tmp_path))
    for code, in_transaction in (("57014", True), ("53300", False)):
        with answering(failing(code)) as database, pytest.raises(ServiceUnavailable):
            verify(database, {}, in_transaction=in_transaction)
    asked.clear()
    with answering(failing("57014")) as database:
        verify(database, {}, in_transaction=False)
    assert len(asked) == len(TABLES), "and not asked for again"
    assert "posts is not verified after the load: the database takes too long." in caplog.messages
