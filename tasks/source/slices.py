"""Adjoining slices of a table's pages. Each row version of a snapshot lies in one of them, and each page is read once.

Random keys are spread over all pages, so a range of keys reads most of the table and sorts it on the product's disk;
a slice does neither. What has no pages of its own (a view, a foreign table) is one slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from tasks.platform.quoting import literal
from tasks.source.model import TableInfo

MOST_SLICES = 4_096


@dataclass(frozen=True, slots=True)
class Slice:
    """Pages from `start` to before `stop`; None is the table's end. Of a partitioned table: of each partition."""

    index: int
    start: int | None
    stop: int | None


@dataclass(frozen=True, slots=True)
class Extent:
    """pages: of the table, or of its largest partition; 0 without pages of its own. nbytes: with what is beside them
    (TOAST), all partitions together."""

    pages: int
    nbytes: int


def extent_query(info: TableInfo) -> str:
    """Asks for the extent, in one row of two numbers; views and foreign tables have none."""
    name = f"format('%I.%I', {literal(info.table.source_schema)}, {literal(info.table.source)})::regclass"
    # A partition tree has no leaves that are foreign tables here: those have no ctid to slice by.
    return f"""
      with leaves as (
        select c.oid, c.relkind
        from (select {name} as root) r
        cross join lateral (
          select r.root as relid union select t.relid from pg_partition_tree(r.root) t where t.isleaf
        ) l
        join pg_catalog.pg_class c on c.oid = l.relid and c.relkind <> 'p'
      )
      select coalesce(case when bool_and(relkind in ('r', 'm')) then max(pg_relation_size(oid)) end, 0)
               / current_setting('block_size')::bigint,
             coalesce(sum(pg_table_size(oid)), 0)::bigint
      from leaves
    """  # noqa: S608 - names are quoted


def slices_of(extent: Extent, *, pages: int) -> tuple[Slice, ...]:
    """Slices of about `pages` pages that cover the table; rows in pages that came later belong to no older snapshot."""
    step = max(pages, -(-extent.pages // MOST_SLICES))
    edges = (None, *range(step, extent.pages, step), None)
    return tuple(Slice(i, start, stop) for i, (start, stop) in enumerate(pairwise(edges)))
