"""The audit: a full night that has a base looks whether what incremental nights carried is what is there.

It counts rows whose fingerprint is the stored one and whose cleaned form is another, where nothing that they depend on
changed; rule counts that the stored rows do not add up to; and months without a changed row whose file is another. All
of that is 0, unless somebody wrote to our tables, or this program is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning.rules import RULES
from tasks.cleaning.rules.base import Reject, bits_of
from tasks.contracts import FURTHER_TABLES, POSTS, STAMPS, TABLES, USERS, Table
from tasks.errors import ServiceUnavailable
from tasks.files.manifest import FileEntry, in_order
from tasks.files.state import month_of_path
from tasks.incremental.base import Base
from tasks.incremental.known import known_parts, month_names, months
from tasks.incremental.look_up import LookUp, look_up_keys
from tasks.incremental.mode import GoFull
from tasks.platform.functions import Database
from tasks.retry import is_statement_timeout
from tasks.sink.model import TablePlan, deletes, rows_to_write, suspects
from tasks.workspace import Spool, Workspace

logger = logging.getLogger(__name__)
_PARTS = 16
MOST_ROWS = 100_000  # changed rows up to which the months that they were in are looked up


def mark_wrong(database: Database, lease: Mapping[str, Any], table: Table) -> Iterator[int]:
    """Take the hash from cleaned rows that are not what it says: they count as different then, and are written again.

    Key range by key range; where the database takes too long the audit goes without. Yields how many of each: at least
    one where a range was asked for again, whose first answer is lost.
    """
    unheard: list[Exception] = []

    def is_too_slow(error: Exception) -> bool:
        too_slow = is_statement_timeout(error)  # then nothing of it is done
        if not too_slow:
            unheard.append(error)
        return too_slow

    columns = [column.name for column in table.columns if column.name not in STAMPS]
    cuts = database.call("etl_sample_known", p_table=table.name, p_parts=_PARTS)
    for after, until in pairwise(("", *cuts, "")):
        asked: dict[str, Any] = {"p_table": table.name, "p_columns": columns, "p_after": after, "p_until": until}
        unheard.clear()
        try:
            marked = int(database.call("etl_mark_wrong", give_up=is_too_slow, **lease, **asked))
        except ServiceUnavailable as error:
            if not is_statement_timeout(error):
                raise
            logger.warning("The hashes of %s are not audited: the database takes too long.", table.name)
            yield len(unheard)
            return
        yield marked or len(unheard)


@dataclass(frozen=True)
class Audit:
    """What a full night compares with. look_up: our functions, before anything of this night is written. plans: what
    it will write, by table.
    """

    workspace: Workspace
    base: Base
    look_up: LookUp
    plans: Mapping[str, TablePlan]

    def drifted(self, entries: Sequence[FileEntry]) -> int:
        """Rows, rule counts and files that are not what was carried. entries: the files of this night.

        What takes the database too long, or is written as nobody else reads it, is not audited.
        """
        changed = self._changed_users()
        users = self._if_possible("rows of users", lambda: self._users(changed))
        # Rows of further tables depend on themselves alone.
        further: int = sum(self._suspects(table).num_rows for table in FURTHER_TABLES)
        return self._posts(changed) + users + further + self._rules() + self._files(entries)

    @staticmethod
    def _if_possible(what: str, count: Callable[[], int]) -> int:
        try:
            return count()
        except GoFull as reason:
            logger.warning("The %s are not audited: %s.", what, reason)
            return 0

    def _posts(self, changed: set[str]) -> int:
        """Posts that differ although neither they nor their authors changed. changed: keys of users."""
        return sum(author not in changed for author in self._suspects(POSTS)["depends_on"].to_pylist())

    def _users(self, changed: set[str]) -> int:
        """Users who differ although neither they changed nor those whose e-mail they share, now or before."""
        users = self._suspects(USERS)
        keys = users["id"].to_pylist()
        before: dict[str, str | None] = {}
        for pairs in look_up_keys(self.look_up, "etl_values", USERS.name, keys, p_column="duplicate_of"):
            before |= dict(pairs)
        firsts = zip(keys, users["depends_on"].to_pylist(), strict=True)
        return sum(not {first, before.get(key)} & changed for key, first in firsts)

    def _to_write(self, table: Table) -> Spool:
        return rows_to_write(self.workspace, table, self.plans[table.name])

    def _suspects(self, table: Table) -> pa.Table:
        return suspects(self.workspace, table).table()

    def _changed_users(self) -> set[str]:
        """Users that are new, gone, or another at the source, as text."""
        gone = {str(k) for b in deletes(self.workspace, USERS).batches() for k in b["id"].to_pylist()}
        written = {str(k) for b in self._to_write(USERS).batches() for k in b[USERS.key.name].to_pylist()}
        return gone | (written - set(self._suspects(USERS)["id"].to_pylist()))

    def _rules(self) -> int:
        """Rules whose stored rows do not add up to what the base counted."""
        drifted = 0
        for table in TABLES:
            bits, rules = bits_of(RULES[table.name]), RULES[table.name]
            asked = [{"name": r.name, "bit": None if isinstance(r, Reject) else bits[r.name]} for r in rules]
            try:
                found = self.look_up("etl_rule_sums", give_up=is_statement_timeout, p_table=table.name, p_rules=asked)
            except ServiceUnavailable as error:
                if not is_statement_timeout(error):
                    raise
                logger.warning("The rule counts of %s are not audited: the database takes too long.", table.name)
                continue
            before = {r.rule: r.affected for r in self.base.counts.rules if r.table == table.name}
            wrong = [name for name, rows in found["affected"].items() if rows != before.get(name)]
            drifted += len(wrong) + (found["read"] != self.base.counts.tables[table.name].read)
        return drifted

    def _files(self, entries: Sequence[FileEntry]) -> int:
        """Months of a table in which no row changed, and whose files did."""
        drifted = 0
        for table in TABLES:
            if table.by_month is not None:
                drifted += self._if_possible(f"files of {table.name}", partial(self._months, table, entries))
        return drifted

    def _months(self, table: Table, entries: Sequence[FileEntry]) -> int:
        touched = self._months_touched(table)
        if touched is None:
            return 0
        now = _by_month(table, entries)
        before = _by_month(table, self.base.entries("clean").values())
        return sum(now.get(m) != before.get(m) for m in {*now, *before} - touched)

    def _months_touched(self, table: Table) -> set[str] | None:
        """Months that a row left or entered; None where too many changed to look."""
        keys, touched = [], set[str]()
        for batch in self._to_write(table).batches():
            keys += [str(k) for k in batch[table.key.name].to_pylist()]
            touched |= set(pc.unique(month_names(batch[str(table.by_month)])).to_pylist())
        keys += [str(k) for b in deletes(self.workspace, table).batches() for k in b["id"].to_pylist()]
        if len(keys) > MOST_ROWS:
            return None
        for part in known_parts(self.look_up, table, keys):
            touched |= set(pc.unique(months(part)).to_pylist()) if part.num_rows else set()
        return touched


def _by_month(table: Table, entries: Iterable[FileEntry]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for entry in in_order(entries):
        if entry.path.startswith(f"clean/{table.name}/"):
            month = month_of_path(entry.path)
            found[month] = (*found.get(month, ()), entry.sha256)
    return found
