"""The demo's posts, chunk by chunk: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.demo import times
from data.demo.changes import Span
from data.demo.dirt import POST_KINDS
from data.demo.people import People, uuids
from data.demo.plan import is_rejected, kinds_of_rows
from data.demo.spoil import flags, spoil_created, spoil_text, spoil_updated
from data.demo.texts import pool
from data.demo.times import Floats, Numbers, Placed

CHUNK_ROWS = 50_000
_ENGLISH = 0


def make_posts(count: int, people: People, *, seed: int, until: int) -> Iterator[pa.Table]:
    """So many posts by these people, in tables of at most CHUNK_ROWS rows."""
    placed = kinds_of_rows("posts", count, np.random.default_rng((seed, 2)))
    reach = np.cumsum(people.eagerness)
    for number, start in enumerate(range(0, count, CHUNK_ROWS)):
        rng = np.random.default_rng((seed, 3, number))
        yield _chunk(placed[start : start + CHUNK_ROWS], people, reach, until, rng)


def _chunk(placed: Placed, people: People, reach: Floats, until: int, rng: np.random.Generator) -> pa.Table:
    author = _authors(placed, people, reach, rng)
    created, updated = _instants(placed, people, author, until, rng)
    nobodys = flags(POST_KINDS, [kind.author == "none" for kind in POST_KINDS], placed)
    texts = _texts(np.where(rng.random(len(placed)) < 0.15, _ENGLISH, people.language[author]), rng)
    return pa.table({
        "id": uuids(len(placed), rng),
        "user_id": pc.if_else(pa.array(nobodys), pa.scalar(None, pa.binary(16)), people.ids.take(pa.array(author))),
        **{column: spoil_text(values, column, placed, POST_KINDS) for column, values in texts.items()},
        "created_at": times.to_arrow(created),
        "updated_at": times.to_arrow(updated),
    })  # fmt: skip


def _authors(placed: Placed, people: People, reach: Floats, rng: np.random.Generator) -> Numbers:
    """Rows of `people`: as eager as they are, but where a kind asks for somebody rejected or late."""
    author: Numbers = np.searchsorted(reach, rng.random(len(placed)) * reach[-1], side="right")
    for i, kind in enumerate(POST_KINDS):
        if kind.author in ("rejected", "late"):
            rows = placed == i
            author[rows] = rng.choice(people.rejected if kind.author == "rejected" else people.late, rows.sum())
    return author


def _instants(
    placed: Placed, people: People, author: Numbers, until: int, rng: np.random.Generator
) -> tuple[Numbers, Numbers]:
    """Between the author's sign-up and the end of the author's stay, the sooner the denser."""
    signup = people.signup[author]
    stay = np.minimum(people.stay[author], np.maximum(until - signup, 1))
    planned = signup + (rng.random(len(author)) ** 1.3 * stay).astype(np.int64)
    planned = times.in_rhythm(planned, signup, until, rng)
    span = Span(until, rng)
    created = spoil_created(planned, signup, placed, POST_KINDS, span)
    rejected = flags(POST_KINDS, [is_rejected(kind) for kind in POST_KINDS], placed)
    sane = np.where(rejected, planned, created)
    return created, spoil_updated(times.updates(sane, until, rng), sane, placed, POST_KINDS, span)


def _texts(language: Numbers, rng: np.random.Generator) -> dict[str, pa.Array]:
    """Titles of one clause; contents of one to eighty sentences, log-normal, every eighth in paragraphs."""
    lengths = rng.lognormal(1.2, 0.8, len(language)).astype(np.int64).clip(1, 80)
    sentences = pool("sentences").pick(np.repeat(language, lengths), rng)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    between = pc.if_else(pa.array(rng.random(len(language)) < 0.125), "\n\n", " ")
    content = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), sentences), between)
    return {"title": pool("titles").pick(language, rng), "content": content}
