"""Rules: small, named, idempotent, and never changing what they are given."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.cleaning.batches import as_schema
from tasks.cleaning.partials import to_micros
from tasks.cleaning.passes import clean_posts, clean_users
from tasks.cleaning.rules import RULES, Facts, Reject, Rule
from tasks.cleaning.rules.base import Step, run_rule, run_rules
from tasks.cleaning.rules.common import GRACE
from tasks.cleaning.rules.further import rules_of_columns
from tasks.cleaning.rules.posts import with_author
from tasks.cleaning.rules.users import first_of_each_email
from tasks.cleaning.samples import Sample, take_samples
from tasks.cleaning.units import staged_users
from tasks.cleaning.user_index import UserIndex, index_schema
from tasks.cleaning.words import WHITE_SPACE
from tasks.contracts import DATA_QUALITY, POSTS, REJECT_SCHEMA, TABLES, USERS, Column, Table
from tasks.errors import ConfigurationError
from tasks.reports.build import build_reports
from tasks.workspace import Workspace
from tests.cleaning.spools import AS_OF, SNAPSHOT_AT, Row, cleaned, fill_raw, make_run, post, uid, user
from tests.reports.test_recomputed import HOSTILE_POSTS, HOSTILE_USERS

INDEX = UserIndex(
    pa.Table.from_pylist(
        [
            {"id": uid(n), "created_at": AS_OF, "status": "active", "is_duplicate": False, "has_email": True}
            for n in (1, 3)
        ],
        schema=index_schema(),
    )
)
FIRSTS = pa.table({"id": [uid(3)], "first": [uid(1)]})


def facts(table: Table) -> Facts:
    return Facts(table, to_micros(SNAPSHOT_AT) + GRACE, users=INDEX, first_of=FIRSTS)


def frame_of(table: Table) -> pa.RecordBatch:
    rows = HOSTILE_USERS if table is USERS else HOSTILE_POSTS
    frame = pa.RecordBatch.from_pylist(rows, schema=table.raw_schema)
    if table is USERS:
        return frame
    # Rules that come after `orphan` see posts with an author only.
    frame = with_author(frame, INDEX)
    return frame.filter(frame["_author"].is_valid())


EVERY_RULE = [
    pytest.param(table, rule, id=f"{table.name}.{rule.name}") for table in (USERS, POSTS) for rule in RULES[table.name]
]


@pytest.mark.parametrize(("table", "rule"), EVERY_RULE)
def test_a_rule_leaves_its_input_alone_and_twice_is_once(table: Table, rule: Rule) -> None:
    frame = frame_of(table)
    before = frame.to_pylist()
    once = run_rule(rule, frame, facts(table)).after
    assert frame.to_pylist() == before
    assert run_rule(rule, once, facts(table)).after.equals(once)
    if rule.action == "changed":
        assert not run_rule(rule, once, facts(table)).affected.any()


@pytest.mark.parametrize(("table", "rule"), EVERY_RULE)
def test_a_rule_says_what_it_is(table: Table, rule: Rule) -> None:
    assert rule.description.endswith(".")
    assert rule.action in ("rejected", "changed", "flagged")


def test_cleaning_what_was_cleaned_changes_nothing(tmp_path: Path) -> None:
    first, _ = make_run(tmp_path, HOSTILE_USERS, HOSTILE_POSTS)
    users, posts = cleaned(first, USERS), cleaned(first, POSTS)
    again, counts = make_run(tmp_path, as_read(users, USERS), as_read(posts, POSTS))
    for contract, before in ((USERS, users), (POSTS, posts)):
        rows = cleaned(again, contract)
        masks = {row["rule_mask"] for row in rows} | {row.pop("rule_mask") for row in before}
        assert [row.pop("rule_mask") is not None for row in rows]
        assert masks > {0}, "the first time rules had something to do"
        assert rows == before
    for table in counts.values():
        assert not [rule for rule in table.rules if rule.action != "flagged" and rule.affected]


def as_read(rows: list[Row], table: Table) -> list[Row]:
    """Cleaned rows as a source would give them."""
    return [{column.name: row[column.name] for column in table.source_columns} for row in rows]


def test_the_report_lists_every_rule_in_order(tmp_path: Path) -> None:
    workspace, _ = make_run(tmp_path, [], [])
    with pytest.raises(ValueError, match="reduced for another as_of"):
        build_reports(workspace, as_of=SNAPSHOT_AT)
    rows = workspace.spool("reports", "data_quality", DATA_QUALITY.schema).table().to_pylist()
    assert [(row["table"], row["rule"]) for row in rows] == [(t.name, r.name) for t in TABLES for r in RULES[t.name]]


def test_rejects_say_column_what_came_and_what_was_expected(tmp_path: Path) -> None:
    """Long, as it lists one row a rule."""
    late = SNAPSHOT_AT + timedelta(days=2)
    users = [
        user(1),
        user(2, created_at=None, updated_at=None),
        user(3, _invalid="updated_at: -infinity", updated_at=None),
    ]
    posts = [
        post(1, None),
        post(2, 9),
        post(3, 1, created_at=late),
        post(4, 1, id=None, _invalid="id: null key"),
        post(5, 2),
    ]
    workspace, _ = make_run(tmp_path, users, posts)
    rejects = [
        tuple(row.values())[:6]
        for table in TABLES
        for row in workspace.spool("rejects", table.name, REJECT_SCHEMA).table().to_pylist()
    ]
    author = "the id of a kept user"
    assert rejects == [
        ("users", uid(2), "missing_created_at", "created_at", "null", "an instant"),
        ("users", uid(3), "invalid_value", "updated_at", "-infinity", "an instant from 1970 to 9999"),
        ("posts", uid(1), "orphan", "user_id", "null", author),
        ("posts", uid(2), "orphan", "user_id", uid(9), author),
        (
            "posts",
            uid(3),
            "created_in_future",
            "created_at",
            "2026-03-03 03:00:00.000000Z",
            "at most 24 hours after the run began",
        ),
        ("posts", uid(5), "orphan", "user_id", uid(2), author),
        ("posts", "null", "invalid_value", "id", "null key", "a uuid"),
    ]


def test_a_column_may_be_called_anything_where_a_value_of_it_is_invalid() -> None:
    """With a colon in its name the night ended as a defect."""
    odd = Column("seen: \nat", "timestamptz", "Seen.")
    table = replace(POSTS, name="visits", by_month=None, columns=(POSTS["id"], odd, POSTS["row_hash"]))
    said = {"_invalid": f"{odd.name}: infinity"}
    frame = pa.RecordBatch.from_pylist([{"id": uid(1)} | said], schema=table.raw_schema)
    steps: list[Step] = []
    run_rules(frame, rules_of_columns(table), facts(table), witness=steps.append)
    expected = [Sample(odd.name, "infinity", "an instant from 1970 to 9999")]
    assert take_samples(steps[0], table) == expected


def test_cleaning_again_in_the_same_folder_goes_by_the_new_rows(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path, "run")
    for second, cuts in ((2, [1, 1]), (3, [])):
        fill_raw(workspace, USERS, [user(1), user(second, email="user1@example.com"), user(9, created_at=None)], cuts)
        fill_raw(workspace, POSTS, [post(1, 2), post(2, 3), post(3, None)], cuts)
        clean_users(workspace, snapshot_at=SNAPSHOT_AT)
        clean_posts(workspace, snapshot_at=SNAPSHOT_AT, as_of=AS_OF)
    assert {row["id"]: row["duplicate_of"] for row in cleaned(workspace, USERS)} == {uid(1): None, uid(3): uid(1)}
    assert [row["id"] for row in cleaned(workspace, POSTS)] == [uid(2)]
    rejects = {of.name: workspace.spool("rejects", of.name, REJECT_SCHEMA).table().num_rows for of in (USERS, POSTS)}
    assert rejects == {"users": 1, "posts": 2}
    assert not staged_users(workspace).files(), "users are written once"


def test_a_mask_names_the_rules_that_changed_or_flagged_a_row(tmp_path: Path) -> None:
    """The next night takes the counts of a row that changed from it."""
    users = [
        user(1),
        user(2, email=" User1@example.com", status="gone", updated_at=None),
        user(3, email="none"),
        user(4, email="Late@example.com", created_at=None, updated_at=None),
    ]
    posts = [post(1, 1), post(2, 2, title=" a", created_at=AS_OF - timedelta(days=50)), post(3, 9, title=" b")]
    workspace, _ = make_run(tmp_path, users, posts)
    second = ["clean_text", "lowercase_email", "normalise_status", "updated_before_created", "duplicate_email"]
    assert [named(row, USERS) for row in cleaned(workspace, USERS)] == [[], second, ["invalid_email"]]
    assert [named(row, POSTS) for row in cleaned(workspace, POSTS)] == [[], ["clean_text", "before_signup"]]
    rejects = {of: workspace.spool("rejects", of.name, REJECT_SCHEMA).table().to_pylist() for of in (USERS, POSTS)}
    assert [named(row, of) for of, rows in rejects.items() for row in rows] == [["lowercase_email"], ["clean_text"]]


def named(row: Row, table: Table) -> list[str]:
    """The rules in the mask of a row."""
    return [rule.name for place, rule in enumerate(RULES[table.name]) if row["rule_mask"] >> place & 1]


def test_a_null_that_no_rule_filled_is_named_where_the_contract_allows_none() -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("tier", pa.string(), nullable=False)])
    frame = pa.RecordBatch.from_pydict({"_row": [0, 1], "id": [7, 8], "tier": pa.array([None, "a"], pa.string())})
    with pytest.raises(ConfigurationError, match="Column tier is null in 1 cleaned rows"):
        as_schema(frame, schema)
    assert as_schema(frame.slice(1), schema).to_pylist() == [{"id": 8, "tier": "a"}]


def test_a_row_of_a_further_table_without_created_at_keeps_its_updated_at() -> None:
    columns = (POSTS["id"], replace(POSTS["created_at"], nullable=True), POSTS["updated_at"], POSTS["row_hash"])
    table = replace(POSTS, name="comments", columns=columns)
    instants = [(None, AS_OF), (None, None), (AS_OF, None), (AS_OF, SNAPSHOT_AT - timedelta(days=999))]
    rows = [{"id": uid(n), "created_at": made, "updated_at": last} for n, (made, last) in enumerate(instants)]
    frame = pa.RecordBatch.from_pylist(rows, schema=table.raw_schema)
    (rule,) = (rule for rule in rules_of_columns(table) if rule.name == "updated_before_created")
    step = run_rule(rule, frame, facts(table))
    assert step.after["updated_at"].to_pylist() == [AS_OF, None, AS_OF, AS_OF]
    assert step.affected.tolist() == [False, False, True, True]


def test_an_email_with_white_space_of_any_kind_is_none() -> None:
    (rule,) = (rule for rule in RULES["users"] if rule.name == "invalid_email")
    odd = [chr(n) for n in [*range(1, 0x3100), 0xFEFF, 0xFFFD] if chr(n) != "@"]
    frame = pa.RecordBatch.from_pylist([{"email": f"a{c}@b.c"} for c in odd], schema=USERS.raw_schema)
    assert run_rule(rule, frame, facts(USERS)).affected.tolist() == [c in WHITE_SPACE for c in odd]


def test_the_same_email_in_five_spellings_is_one(tmp_path: Path) -> None:
    workspace, counts = make_run(tmp_path, HOSTILE_USERS[:5], [])
    firsts = {row["id"]: row["duplicate_of"] for row in cleaned(workspace, USERS)}
    assert firsts == {uid(1): None, **{uid(n): uid(1) for n in (2, 3, 4, 5)}}
    assert counts["users"].rules[-1].affected == 4


def test_the_first_of_an_email_is_the_earliest_and_then_the_smallest_id() -> None:
    emails = pa.array(["a@b.c"] * 3, pa.large_string())
    found = first_of_each_email(pa.table({"email": emails, "created_at": [5, 4, 4], "id": [1, 10, 9]}))
    assert found.to_pylist() == [{"id": 10, "first": 9}, {"id": 1, "first": 9}]


def test_a_reject_takes_out_rows_and_changes_none() -> None:
    for table in (USERS, POSTS):
        for rule in RULES[table.name]:
            if isinstance(rule, Reject):
                frame = frame_of(table)
                assert run_rule(rule, frame, facts(table)).after is frame


def test_progress_tells_rows_as_they_are_read(tmp_path: Path) -> None:
    workspace, reported = Workspace.create(tmp_path, "run"), list[tuple[int, Any]]()
    fill_raw(workspace, USERS, [user(n) for n in range(10)], cuts=[2, 4, 6])
    clean_users(
        workspace, snapshot_at=SNAPSHOT_AT, progress=lambda done, total: reported.append((done, total)), total=10
    )
    assert reported == [(4, 10), (10, 10)]
