"""A seeded generator of demo data: a product that grows, and dirt of every kind that the rules know, in known numbers.

    python -m data.demo --users 20000 --posts 200000

`load` fills public.users and public.posts and returns the figures that a run must find; `expected_counts` gives the
same figures without a database. Orphans: the tables have a foreign key, so an orphan's author is null or a user who is
rejected.
"""

from data.demo.fill import load, make_tables
from data.demo.plan import DemoCounts, RuleFigures, TableFigures, expected_counts
from data.demo.sources import unfit

__all__ = ["DemoCounts", "RuleFigures", "TableFigures", "expected_counts", "load", "make_tables", "unfit"]
