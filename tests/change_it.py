"""What somebody writes who adds a column, a rule, a report and two tables to a copy of the repository."""

from __future__ import annotations

from pathlib import Path

COLUMN = '        Column("country", "text", "Country, in capitals.", cleaning="line"),\n'
RULE = '''def capital_country(frame: Frame, facts: Facts) -> Frame:
    """The country in capitals."""
    return with_column(frame, "country", pc.utf8_upper(frame["country"]))


USERS_RULES'''
REPORT = """TABLE_SIZES = Report(
    name="table_sizes",
    description="Rows kept, one row a table.",
    keys=("table",),
    columns=(
        Column("table", "text", "Name of the table.", nullable=False),
        _count("row_count", "Rows kept.", "rows"),
    ),
)

REPORTS: tuple[Report, ...] = (
    TABLE_SIZES,
"""
BUILDER = '''"""How many rows each table has."""

from __future__ import annotations

import pyarrow as pa

from tasks.contracts.reports import TABLE_SIZES
from tasks.reports.facts import ReportFacts, as_report


def table_sizes(facts: ReportFacts) -> pa.Table:
    """One row a table, by name."""
    names = sorted(facts.counts)
    return as_report(TABLE_SIZES, {"table": names, "row_count": [facts.counts[name].kept for name in names]})
'''
HEAD = """
from __future__ import annotations

from tasks.contracts.model import Column, Table
from tasks.contracts.row_hash import ROW_HASH
"""
TABLE = f'''"""The table `comments`."""
{HEAD}
COMMENTS = Table(
    name="comments",
    source="comments",
    clean="clean_comments",
    description="Comments, one row each, after cleaning.",
    columns=(
        Column("id", "bigint", "The comment's key.", nullable=False),
        Column("note", "text", "The text.", personal=True, cleaning="block", in_file="presence"),
        Column("stars", "int", "Stars that were given.", unit="stars", nullable=False),
        Column("created_at", "timestamptz", "When it was made.", unit="UTC", nullable=False, on_null="rule"),
        ROW_HASH,
    ),
)
'''
BADGES = f'''"""The table `badges`."""
{HEAD}
BADGES = Table(
    name="badges",
    source="Badge %s",
    source_schema="Further tables",
    clean="clean_badges",
    by_month="given_at",
    description="Badges, one row each, after cleaning.",
    columns=(
        Column("badge_id", "uuid", "The badge's key.", nullable=False, source="badgeId"),
        Column("weight", "float", "What it weighs.", unit="grams"),
        Column("gold", "bool", "Whether it is of gold.", source="is gold?"),
        Column("day", "date", "The day on which it ends.", unit="day"),
        Column("given_at", "timestamptz", "When it was given.", unit="UTC", nullable=False, source="givenAt"),
        ROW_HASH,
    ),
)
'''
SQL = """
create or replace table table_sizes as
  select * from (values ('badges', (select count(*) from badges)), ('comments', (select count(*) from comments)),
    ('posts', (select count(*) from kp)), ('users', (select count(*) from ku))) as sizes("table", row_count);
"""
IN_SQL = (
    ("block(bio) as b1 from", "block(bio) as b1, line(country) as l1 from"),
    ("up as updated_at, created_at < getvariable", "up as updated_at, upper(l1) as country, created_at < getvariable"),
    ("or bio is distinct from b1", "or bio is distinct from b1 or country is distinct from l1"),
    (
        "    union all select 6, 'users'",
        "    union all select 5.5, 'users', 'capital_country', 'changed', count(*), "
        "count(*) filter (where l1 <> upper(l1)) from u3 where valid\n    union all select 6, 'users'",
    ),
    ("created_at, updated_at,\n  md5(", "created_at, updated_at, country,\n  md5("),
    (
        "created_at, updated_at)) as row_hash from ku",
        "created_at, updated_at, coalesce(country, chr(30)))) as row_hash from ku",
    ),
)


def change(folder: Path) -> None:
    """What each line of the table names, and nothing else."""
    contracts, rules, reports = (folder / "tasks" / p for p in ("contracts", "cleaning/rules", "reports"))
    edit(contracts / "users.py", ("        ROW_HASH,\n", f"{COLUMN}        ROW_HASH,\n"))
    edit(contracts / "users.py", ('    clean="clean_users",\n', '    clean="clean_users",\n    version=2,\n'))
    line = '    Change("capital_country", "The country in capitals.", capital_country),\n    MISSING_CREATED_AT,\n'
    edit(rules / "users.py", ("USERS_RULES", RULE), ("    MISSING_CREATED_AT,\n    CREATED", f"{line}    CREATED"))
    edit(contracts / "reports.py", ("REPORTS: tuple[Report, ...] = (\n", REPORT))
    (reports / "table_sizes.py").write_text(BUILDER)
    edit(
        reports / "__init__.py",
        ("from tasks.reports.user", "from tasks.reports.table_sizes import table_sizes\nfrom tasks.reports.user"),
        ('    "user_statistics"', '    "table_sizes": table_sizes,\n    "user_statistics"'),
    )
    derived = folder / "tests" / "reports" / "definitions.sql"
    edit(derived, *IN_SQL)
    derived.write_text(derived.read_text() + SQL)
    (contracts / "comments.py").write_text(TABLE)
    (contracts / "badges.py").write_text(BADGES)
    edit(
        contracts / "__init__.py",
        (
            "from tasks.contracts.keys",
            "from tasks.contracts.badges import BADGES\nfrom tasks.contracts.comments import COMMENTS\n"
            "from tasks.contracts.keys",
        ),
        ("(USERS, POSTS)\n", "(USERS, POSTS, COMMENTS, BADGES)\n"),
    )


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text, f"{path.name} has no {old!r}"
        text = text.replace(old, new, 1)
    path.write_text(text)
