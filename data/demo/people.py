"""The demo's users: sign-ups that grow, names in many scripts, one kind of dirt a row at most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.demo import times
from data.demo.changes import Span
from data.demo.dirt import USER_KINDS
from data.demo.plan import is_rejected, kinds_of_rows
from data.demo.spoil import flags, spoil_created, spoil_text, spoil_updated
from data.demo.texts import DOMAINS, HANDLES, Pool, pick_languages, pool
from data.demo.times import DAY, Flags, Floats, Numbers, Placed

DAYS_BACK = 3 * 365
_STAYING = 45 * DAY  # how long a user of middling eagerness keeps posting


@dataclass(frozen=True, slots=True)
class People:
    """What the posts need to know of the users, row by row of `table`.

    signup: created_at, or what it would be were it not spoilt; stay: for how long a user posts (microseconds);
    eagerness: relative number of posts, 0 for all but kept users in scope.
    """

    table: pa.Table
    ids: pa.Array
    signup: Numbers
    language: Numbers
    stay: Numbers
    eagerness: Floats
    rejected: Numbers
    late: Numbers


def make_people(count: int, *, seed: int, since: int, until: int) -> People:
    """So many users who signed up from `since` to `until`."""
    rng = np.random.default_rng((seed, 1))
    placed = kinds_of_rows("users", count, rng)
    rejected = flags(USER_KINDS, [is_rejected(kind) for kind in USER_KINDS], placed)
    late = flags(USER_KINDS, [kind.late for kind in USER_KINDS], placed)
    language = pick_languages(count, rng)
    ids = uuids(count, rng)
    created, updated, signup = _instants(placed, rejected, (since, until), rng)
    table = pa.table({
        "id": ids,
        **_texts(placed, rejected, language, rng),
        "created_at": times.to_arrow(created),
        "updated_at": times.to_arrow(updated),
    })  # fmt: skip
    eagerness = _eagerness(count, rng)
    stay = (_STAYING * np.sqrt(eagerness) * rng.exponential(1, count)).astype(np.int64) + DAY
    eagerness[rejected | late] = 0
    return People(
        table, ids, signup, language, stay, eagerness, rejected=np.flatnonzero(rejected), late=np.flatnonzero(late)
    )


def uuids(count: int, rng: np.random.Generator) -> pa.Array:
    """Random UUIDs of version 4, as their 16 bytes."""
    octets = rng.integers(0, 256, (count, 16), np.uint8)
    octets[:, 6] = octets[:, 6] & 0x0F | 0x40
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(octets.tobytes())])


def _instants(
    placed: Placed, rejected: Flags, of: tuple[int, int], rng: np.random.Generator
) -> tuple[Numbers, Numbers, Numbers]:
    """created_at, updated_at, and created_at as it would be without what gets a row rejected."""
    since, until = of
    planned = times.growing(len(placed), since, until, rng)
    planned = times.in_rhythm(planned, np.full_like(planned, since), until, rng)
    span = Span(until, rng)
    created = spoil_created(planned, planned, placed, USER_KINDS, span)
    signup = np.where(rejected, planned, created)
    updated = times.updates(signup, until, rng)
    return created, spoil_updated(updated, signup, placed, USER_KINDS, span), signup


def _texts(placed: Placed, rejected: Flags, language: Numbers, rng: np.random.Generator) -> dict[str, pa.Array]:
    """name, email, bio and status with their dirt."""
    count = len(placed)
    columns = {
        "name": pool("names").pick(language, rng),
        "email": _share_emails(_emails(count, rng), placed, rejected, rng),
        "bio": _bios(pool("sentences"), language, rng),
        "status": pa.array(["active", "inactive"]).take(pa.array((rng.random(count) < 0.22).astype(np.int8))),
    }
    return {column: spoil_text(values, column, placed, USER_KINDS) for column, values in columns.items()}


def _emails(count: int, rng: np.random.Generator) -> pa.Array:
    """Addresses of which no two are the same: each has the number of its row."""
    handles = pa.array(HANDLES).take(pa.array(rng.integers(0, len(HANDLES), count)))
    domains = pa.array(DOMAINS).take(pa.array(rng.integers(0, len(DOMAINS), count)))
    numbers = pc.cast(pa.array(np.arange(count)), pa.string())
    return pc.binary_join_element_wise(pc.binary_join_element_wise(handles, numbers, "."), domains, "@")


def _share_emails(
    emails: pa.Array,
    placed: Placed,
    rejected: Flags,
    rng: np.random.Generator,
) -> pa.Array:
    """Give the duplicates the address of a plain user (several may take the same one), and the twins of rejected
    users one each."""
    owner = np.arange(len(placed))
    plain, gone = np.flatnonzero(placed == -1), np.flatnonzero(rejected)
    for i, kind in enumerate(USER_KINDS):
        rows = np.flatnonzero(placed == i)
        if kind.email_of == "plain":
            owner[rows] = rng.choice(plain, len(rows))
        elif kind.email_of == "rejected":
            owner[rows] = rng.choice(gone, len(rows), replace=False)
    return emails.take(pa.array(owner))


def _bios(sentences: Pool, language: Numbers, rng: np.random.Generator) -> pa.Array:
    """One sentence; two users in five say nothing."""
    return pc.if_else(
        pa.array(rng.random(len(language)) < 0.6), sentences.pick(language, rng), pa.scalar(None, pa.string())
    )


def _eagerness(count: int, rng: np.random.Generator) -> Floats:
    """Log-normal: a few write very much, most little, and two in five never."""
    return np.where(rng.random(count) < 0.6, rng.lognormal(0, 1.8, count), 0)
