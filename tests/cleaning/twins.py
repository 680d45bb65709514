"""Two ids with one 64-bit number: what a user index has no numbers for."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pyarrow as pa

from tasks.cleaning.user_index import UserIndex, index_schema


def index_of(keys: list[str] | list[int]) -> UserIndex:
    """An index of these ids, in their order, and nothing else."""
    kind = pa.int64() if keys and isinstance(keys[0], int) else pa.string()
    table = index_schema().empty_table()
    columns = {name: pa.nulls(len(keys), table.schema.field(name).type) for name in table.schema.names}
    return UserIndex(pa.table({**columns, "id": pa.array(keys, kind)}))


def twin_of(key: str, high: int = 1) -> str:
    """Another id whose upper half is `high`, and whose number is that of `key`."""
    numbers = index_of([key, str(UUID(int=high << 64))]).numbers.view(np.uint64).tolist()
    return str(UUID(int=high << 64 | ((numbers[0] - numbers[1]) & (2**64 - 1))))
