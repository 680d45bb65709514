"""Other keys, extra columns, no `bio`, `status` or `updated_at`: the contracts are edited, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRA = """        Column("plan", "text", "Tariff.", cleaning="line", nullable=False),
        Column("score", "float", "Score."),
        Column("born", "date", "Birthday."),
        Column("is_staff", "bool", "Staff."),
        Column("visits", "int", "Visits."),
        ROW_HASH,
"""
SCRIPT = """
import json, sys
from datetime import datetime, timezone
from pathlib import Path
import pyarrow as pa
from tasks.reports.build import build_reports, run_counts
from tasks.cleaning.passes import clean_further, clean_posts, clean_users
from tasks.contracts import AUTHOR_ACTIVITY, FURTHER_TABLES, POST_STATISTICS, POSTS, REJECT_SCHEMA, USER_STATISTICS
from tasks.contracts import USERS
from tasks.ledger.guard import check_run
from tasks.settings import Settings
from tasks.workspace import Workspace

now = datetime(2026, 3, 1, tzinfo=timezone.utc)
then = datetime(2026, 2, 1, tzinfo=timezone.utc)
workspace = Workspace.create(Path(sys.argv[1]), "run")
users = [
    {"id": n, "name": f" N{n}", "plan": plan, "score": 0.5, "visits": n, "created_at": then, "updated_at": then}
    for n, plan in ((-1, " pro "), (2, ""), (10, None))
]
posts = [
    {"id": n, "user_id": author, "content": "a b", "created_at": then, "updated_at": then}
    for n, author in ((1, 2), (2, 2), (3, 10), (9, 10), (11, None), (100, -1))
]
for table, rows in ((USERS, users), (POSTS, posts)):
    batch = pa.RecordBatch.from_pylist(rows, schema=table.raw_schema)
    workspace.spool("raw", table.name, table.raw_schema).write(0, [batch])
clean_users(workspace, snapshot_at=now)
clean_posts(workspace, snapshot_at=now, as_of=now)
for table in FURTHER_TABLES:
    workspace.spool("raw", table.name, table.raw_schema).write(0, [])
    clean_further(workspace, table, snapshot_at=now)
build_reports(workspace, as_of=now)
check_run(workspace, run_counts(workspace), plan={}, last=None, settings=Settings(_env_file=None))
print(json.dumps({
    "users": workspace.spool("clean", "users", USERS.clean_schema).table().select(["id", "plan"]).to_pylist(),
    "rejects": [
        list(row.values())[:5]
        for table in ("users", "posts")
        for row in workspace.spool("rejects", table, REJECT_SCHEMA).table().to_pylist()
    ],
    "authors": workspace.report(AUTHOR_ACTIVITY).table().select(["user_id", "status"]).to_pylist(),
    "without_email": workspace.report(USER_STATISTICS).table()["users_without_email"].to_pylist(),
    "untitled": workspace.report(POST_STATISTICS).table()["untitled_posts"].to_pylist(),
}))
"""


def test_bigint_keys_extra_columns_and_missing_ones(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tasks", tmp_path / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    edit(tmp_path / "tasks" / "contracts")
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "data")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["users"] == [{"id": -1, "plan": "pro"}, {"id": 2, "plan": ""}]
    assert found["rejects"] == [
        ["users", "10", "invalid_value", "plan", "null"],
        ["posts", "3", "orphan", "user_id", "10"],
        ["posts", "9", "orphan", "user_id", "10"],
        ["posts", "11", "orphan", "user_id", "null"],
    ]
    assert found["authors"] == [{"user_id": -1, "status": "other"}, {"user_id": 2, "status": "other"}]
    assert (found["without_email"], found["untitled"]) == ([2], [3])


def edit(contracts: Path) -> None:
    """What someone with another schema would change."""
    keys, users, posts = (contracts / f"{name}.py" for name in ("keys", "users", "posts"))
    keys.write_text(keys.read_text().replace('_KEY: Kind = "uuid"', '_KEY: Kind = "bigint"'))
    text = users.read_text().replace("        ROW_HASH,\n", EXTRA, 1)
    for name in ("bio", "status", "email", "updated_at"):
        text = without(text, name)
    users.write_text(text)
    posts.write_text(without(without(posts.read_text(), "updated_at"), "title"))


def without(text: str, name: str) -> str:
    """A contract without an optional column, which a copy of the project may lack already."""
    declared = rf'^        Column\(\s*"{name}".*?\),\n(?=        \S)'
    text = re.sub(declared, "", text, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(rf'Column\(\s*"{name}"', text)
    return text
