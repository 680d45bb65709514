"""Keys are cut into buckets: each lies in exactly one, between its first and its last key."""

from __future__ import annotations

import json
import random
from uuid import UUID

import pytest

from local_stack import Stack

_CHECK = """
with given as (select k::{kind} as key_ from unnest('{{{keys}}}'::text[]) k),
     of as (select key_ as key, {bucket} as b from given),
     bound as (select key, b, {low} as low, {high} as high from of)
select count(*) filter (where key < low or key > high)                                       -- outside of its bucket
     + (select count(*) from bound x join bound y on x.b < y.b and x.high >= y.low)          -- buckets that overlap
     || ' ' || count(distinct b)
from bound"""


def uuids(*, alike: int) -> list[str]:
    """Keys of which the first bits are the same."""
    same = random.getrandbits(128) >> (128 - alike) << (128 - alike) if alike else 0
    return [str(UUID(int=same | random.getrandbits(128 - alike))) for _ in range(200)]


KEYS = {
    "random": ("uuid", uuids(alike=0)),
    "of one time": ("uuid", uuids(alike=21)),
    "counted up": ("uuid", [str(UUID(int=n)) for n in range(3, 300, 7)]),
    "one": ("uuid", [str(UUID(int=2**127 + 5))]),
    "the ends of uuid": ("uuid", [str(UUID(int=0)), str(UUID(int=2**128 - 1)), str(UUID(int=2**100))]),
    "serial": ("bigint", [str(n) for n in range(1, 900, 3)]),
    "the ends of bigint": ("bigint", [str(n) for n in (-(2**63), -1, 0, 1, 2**63 - 1)]),
}


@pytest.mark.parametrize("name", KEYS)
def test_every_key_lies_in_one_bucket(name: str, stack: Stack) -> None:
    kind, keys = KEYS[name]
    order = sorted(keys, key=int if kind == "bigint" else UUID)
    for bits in (4, 11, 17):
        arguments = f"'{kind}', '{order[0]}', '{order[-1]}', {bits}"
        cut = json.loads(stack.query(f"select row_to_json(c) from public.etl_buckets_sql({arguments}) c"))
        problems, buckets = stack.query(_CHECK.format(kind=kind, keys=",".join(keys), **cut)).split()
        assert int(problems) == 0
        assert int(buckets) <= 2**bits
        assert int(buckets) > 1 or len(keys) == 1
