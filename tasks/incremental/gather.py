"""Everything that an incremental night reads: changed rows, and rows whose result depends on them.

Over Postgres all of it is of one instant. Over REST a row is as it was when it was fetched, and the fetch is the truth:
a listed key that does not come is gone. So what is found on the way may bring more, round by round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import rows_without, without
from tasks.arrow.rebatch import for_work
from tasks.cleaning.batches import is_whole_table
from tasks.cleaning.rules import USERS_RULES
from tasks.cleaning.rules.base import Facts, run_rules
from tasks.cleaning.user_index import UserIndex
from tasks.contracts import ARROW_TYPES, FURTHER_TABLES, POSTS, USERS, Table
from tasks.incremental.look_up import look_up_keys
from tasks.incremental.mode import GoFull
from tasks.source.changes import CannotFindChanges, ChangeFinder, Changes, TooManyChanges, keys_of

ROUNDS = 5
FEW = 100  # rows that never make a night full, whatever their share of the table


@dataclass
class Touched:
    """One table: what was found, every key that was asked for, and the rows that came.

    asked: keys as text, changed ones and dependents. rows: the last version that was fetched of each.
    """

    changes: Changes
    rows: pa.Table
    asked: set[str] = field(default_factory=set)

    @property
    def table(self) -> Table:
        return self.changes.table

    def keys(self) -> pa.Array:
        """All keys that were asked for, in key order."""
        return keys_of(self.table, list(self.asked))

    def put(self, keys: Sequence[str], rows: pa.Table) -> None:
        """The rows of these keys as they are now, in place of what was fetched of them before."""
        key = self.table.key.name
        again = keys_of(self.table, [k for k in keys if k in self.asked])
        kept = rows_without(self.rows, key, again) if len(again) else self.rows
        self.rows = pa.concat_tables([kept, rows])
        self.asked |= set(keys)

    def sorted_rows(self) -> pa.Table:
        return self.rows.sort_by(self.table.key.name).combine_chunks()


@dataclass
class Gathered:
    """What an incremental night reads. further: of the tables beside users and posts, on whose rows nothing depends."""

    users: Touched
    posts: Touched
    further: tuple[Touched, ...] = ()
    rounds: int = 0

    @property
    def tables(self) -> tuple[Touched, ...]:
        """In the order of the contracts."""
        return (self.users, self.posts, *self.further)

    def of(self, table: Table) -> Touched:
        """That of one table."""
        return next(touched for touched in self.tables if touched.table is table)


def gather(
    finder: ChangeFinder, base_index: Callable[[], UserIndex], *, latest: int, most_share: float,
    base_rows: Mapping[str, int],
) -> Gathered:  # fmt: skip
    """Find and fetch. base_index: gives the base's kept users; asked once the changes are found. latest: as for
    cleaning, µs. GoFull when it is not worth it.

    most_share: of changed and dependent rows. base_rows: rows that the base read, by table.

    Posts are detected before users: a post's author was there before it.
    """
    posts, users, *further = (
        Touched(_find(finder, table, most_share, base_rows[table.name]), table.raw_schema.empty_table())
        for table in (POSTS, USERS, *FURTHER_TABLES)
    )
    for touched in further:
        _fetch(finder, touched, list(touched.changes.fingerprints))
        _require_few(touched, most_share)
    gathered = Gathered(users, posts, tuple(further))
    _gather_dependents(finder, gathered, base_index(), latest, most_share)
    return gathered


def _gather_dependents(
    finder: ChangeFinder, gathered: Gathered, index: UserIndex, latest: int, most_share: float
) -> None:
    """Fetch changed users and posts, and those that depend on them, until no other is found."""
    users, posts = gathered.users, gathered.posts
    new_users, new_posts = list(users.changes.fingerprints), list(posts.changes.fingerprints)
    authors: set[str] = set()
    while new_users or new_posts:
        gathered.rounds += 1
        if gathered.rounds > ROUNDS:
            raise GoFull(f"dependent rows kept appearing in {ROUNDS} rounds of reading")
        _fetch(finder, users, new_users)
        _fetch_closure(finder, users, new_users, latest)
        kept = kept_users(users.rows, latest)
        moved = moved_users(index, users, kept) - authors
        authors |= moved
        new_posts += [k for k in _posts_of(finder, moved) if k not in posts.asked]
        _fetch(finder, posts, list(dict.fromkeys(new_posts)))
        new_users = [] if finder.one_instant else _recheck_orphans(finder, gathered, index, kept)
        new_posts = []
        for touched in (users, posts):
            _require_few(touched, most_share)


def _find(finder: ChangeFinder, table: Table, most_share: float, rows: int) -> Changes:
    # The source has at most as many rows as before and those that changed: past this, the share is certain.
    most = FEW + int(most_share / (1 - most_share) * rows) if most_share < 1 else 2**31
    try:
        return finder.find(table, most, rows)
    except TooManyChanges:
        raise GoFull(_too_many(table, most_share)) from None
    except CannotFindChanges as problem:
        raise GoFull(str(problem.args[0])) from None


def _require_few(touched: Touched, most_share: float) -> None:
    rows = max(touched.changes.source_rows, touched.changes.known_rows)
    if len(touched.asked) > max(FEW, most_share * rows):
        raise GoFull(_too_many(touched.table, most_share))


def _too_many(table: Table, most_share: float) -> str:
    return f"more than {100 * most_share:g}% of {table.name} changed or depend on a change (ETL_MAX_CHANGED_SHARE)"


def _fetch(finder: ChangeFinder, touched: Touched, keys: Sequence[str]) -> None:
    if keys:
        touched.put(keys, finder.fetch(touched.table, keys_of(touched.table, keys)))


def _fetch_closure(finder: ChangeFinder, users: Touched, new: Sequence[str], latest: int) -> None:
    """Fetch the users who share an e-mail, old or new, with a changed one, until no other is found."""
    for _ in range(ROUNDS):
        rows = users.rows.filter(pc.is_in(users.rows[USERS.key.name], value_set=keys_of(USERS, new)))
        emails = _emails(kept_users(rows, latest))
        found = _dependents(finder, USERS, "duplicate_of", new) | _dependents(finder, USERS, "email", emails)
        new = sorted(found - users.asked)
        if not new:
            return
        _fetch(finder, users, new)
    raise GoFull(f"users with the same e-mail kept appearing in {ROUNDS} rounds of reading")


def kept_users(rows: pa.Table, latest: int) -> pa.Table:
    """Of raw users those that no rule rejects, as their own rules leave them: id, created_at, and email where it is."""
    names = [name for name in (USERS.key.name, "created_at", "email") if name in USERS]
    rules = [rule for rule in USERS_RULES if not is_whole_table(rule)]
    kept = [pa.schema([USERS.raw_schema.field(name) for name in names]).empty_table()]
    for batch in for_work(rows.combine_chunks().to_batches()):
        frame, _ = run_rules(batch, rules, Facts(USERS, latest), witness=lambda step: None)
        kept.append(pa.Table.from_batches([frame]).select(names).cast(kept[0].schema))
    return pa.concat_tables(kept)


def _emails(kept: pa.Table) -> list[str]:
    return pc.unique(kept["email"].drop_null()).to_pylist() if "email" in kept.schema.names else []


def moved_users(index: UserIndex, users: Touched, kept: pa.Table) -> set[str]:
    """Users who appeared, vanished or changed created_at, among the kept: what a post's rules see of its author."""
    keys = users.keys()
    positions = index.positions(keys)
    before = pa.array(index.created_at).take(pa.array(positions, mask=positions < 0))
    place = pc.index_in(keys, value_set=kept[USERS.key.name].combine_chunks())
    after = kept["created_at"].combine_chunks().cast(pa.int64()).take(place)
    same = pc.fill_null(pc.equal(before, after), False)
    both_gone = pc.and_(before.is_null(), after.is_null())
    moved = keys.filter(pc.invert(pc.or_(same, both_gone)))
    return set(moved.cast(pa.string()).to_pylist())


def _posts_of(finder: ChangeFinder, authors: set[str]) -> set[str]:
    """Kept posts of these users, and rejected orphans that name one of them."""
    found = _dependents(finder, POSTS, "user_id", sorted(authors))
    orphans = look_up_keys(finder.look_up, "etl_orphans_of", POSTS.name, sorted(authors), name="p_values")
    return found.union(*orphans)


def _dependents(finder: ChangeFinder, table: Table, column: str, values: Sequence[str]) -> set[str]:
    found = look_up_keys(finder.look_up, "etl_dependents", table.name, values, name="p_values", p_column=column)
    return set[str]().union(*found)


def _recheck_orphans(finder: ChangeFinder, gathered: Gathered, index: UserIndex, kept: pa.Table) -> list[str]:
    """Ask for the authors of would-be orphans that were not read, then for the posts. Returns authors that are there.

    The author is asked for first and the post after: a post that is still there then, with an author who was not, is an
    orphan. One that changed hands is seen the next night.
    """
    orphans = _orphans(gathered.posts.rows, index, gathered.users, kept)
    if not orphans.num_rows:
        return []
    authors = keys_of(USERS, pc.unique(orphans["user_id"]).cast(pa.string()).to_pylist())
    found = finder.fetch(USERS, authors)
    there = found[USERS.key.name].combine_chunks()
    left = rows_without(orphans, "user_id", there)
    _fetch(finder, gathered.posts, left[POSTS.key.name].cast(pa.string()).to_pylist())
    absent = without(authors, there).cast(pa.string()).to_pylist()
    gathered.users.put([k for k in absent if k not in gathered.users.asked], found.slice(0, 0))
    return [str(k) for k in there.cast(pa.string()).to_pylist()]


def _orphans(posts: pa.Table, index: UserIndex, users: Touched, kept: pa.Table) -> pa.Table:
    """id and user_id of the posts whose author is neither kept in the base nor was asked for this night."""
    named = posts.filter(posts["user_id"].is_valid()).select([POSTS.key.name, "user_id"])
    authors = named["user_id"].combine_chunks()
    asked = pc.is_in(authors, value_set=pa.array(sorted(users.asked), pa.string()).cast(ARROW_TYPES[USERS.key.kind]))
    known = pa.array(index.positions(authors) >= 0)
    return named.filter(pc.invert(pc.or_(asked, known)))
