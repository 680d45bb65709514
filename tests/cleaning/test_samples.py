"""Samples show what a rule does, and never to whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.cleaning.samples import SAMPLES, mask_block, mask_email, mask_id, mask_line, shorten
from tests.cleaning.spools import make_run, post, uid, user


@pytest.mark.parametrize(
    ("email", "masked"),
    [
        ("anna@example.com", "a***@e***.com"),
        (" Anna@Example.COM", "\\u00a0A***@E***.COM"),
        ("anna@mail.example.co", "a***@m***.co"),
        ("anna@example", "a***"),
        ("anna maria@example.org", "a*** m***@e***.org"),
        ("@example.com", "@***"),
        ("anna@example.anna1", "a***"),
    ],
)
def test_an_email_keeps_its_shape(email: str, masked: str) -> None:
    assert mask_email(email.replace(" A", "\u00a0A")) == masked


def test_a_name_keeps_its_words_and_what_cannot_be_seen() -> None:
    assert mask_line(" Anna\u200bMaria  Müller\t") == " A***\\u200bM***  M***\\u0009"


def test_a_text_keeps_its_size_only() -> None:
    masked = mask_block("My secret\u202e \n is this ")
    assert masked == "[21 characters, 2 lines with outer white space, with \\u202e]"


def test_an_id_is_cut_and_an_instant_is_not() -> None:
    assert mask_id(uid(7)) == "00000007…"
    assert mask_id("2026-03-03 03:00:00.000000Z") == "2026-03-03 03:00:00.000000Z"
    assert shorten("x" * 100) == "x" * 59 + "…"


def test_the_first_five_of_each_rule_whatever_the_cut(tmp_path: Path) -> None:
    users = [
        user(n, name=f" Secret{n}", email=f"Hidden{n}@Private.com", bio="Quiet \r\n", status="X") for n in range(9)
    ]
    posts = [post(n, n, title="Unseen ", content=" Untold\u200b") for n in range(12)]
    runs = [make_run(tmp_path, users, posts, cuts=cuts)[0] for cuts in ((), (1, 2, 3, 7))]
    first, second = ((run.partials / "samples.json").read_text() for run in runs)
    assert first == second
    assert not [word for word in ("ecret", "idden", "rivate", "uiet", "nseen", "ntold") if word in first]
    samples = json.loads(first)
    assert len(samples["users"]["clean_text"]) == SAMPLES
    assert samples["users"]["lowercase_email"][0] == {
        "column": "email",
        "before": "H***@P***.com",
        "after": "h***@p***.com",
    }
    assert samples["users"]["normalise_status"][0] == {"column": "status", "before": "X", "after": "other"}
    assert samples["posts"]["orphan"][0]["after"] == "the id of a kept user"
    assert samples["users"]["missing_created_at"] == []
