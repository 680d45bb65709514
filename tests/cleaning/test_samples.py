"""Samples show what a rule does, and never to whom."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from tasks.cleaning.samples import SAMPLES, load_samples, mask_block, mask_email, mask_id, mask_line, shorten
from tasks.cleaning.words import WHITE_SPACE
from tests.cleaning.spools import make_run, post, uid, user
from tests.cleaning.test_text import INVISIBLE


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
        ("anna@example.annä", "a***"),
        ("anna@ .com", "a*** .***"),
        ("anna@example.annamaria", "a***@e***.annama"),
    ],
)
def test_an_email_keeps_its_shape(email: str, masked: str) -> None:
    assert mask_email(email.replace(" A", "\u00a0A")) == masked


def test_a_name_keeps_its_words_and_what_cannot_be_seen() -> None:
    assert mask_line(" Anna\u200bMaria  Müller\t") == " A***\\u200bM***  M***\\u0009"


def test_a_text_keeps_its_size_only() -> None:
    masked = mask_block("My secret\u202e \n is this ")
    assert masked == "[21 characters, 2 lines with outer white space, with \\u202e]"
    assert mask_block("a".join(map(chr, range(9))) + "b").endswith(
        "with " + " ".join(f"\\u{n:04x}" for n in range(8)) + "]"
    )


def test_what_cannot_be_seen_is_written_out_and_what_can_is_not() -> None:
    controls = [chr(code) for code in range(0xA0) if unicodedata.category(chr(code)) == "Cc"]
    formats = [chr(code) for code in range(0x2000, 0x2070) if unicodedata.category(chr(code)) == "Cf"]
    for char in {*controls, *WHITE_SPACE, *INVISIBLE, *formats} - {" "}:
        assert mask_line(f"Ann{char}Bo") == f"A***\\u{ord(char):04x}B***"
    assert shorten("¡ᚁ‐‧‰⁞⁰ é—") == "¡ᚁ‐‧‰⁞⁰ é—"


def test_a_text_shows_its_size_and_a_value_that_names_nobody_itself(tmp_path: Path) -> None:
    """Each row is changed in one column alone."""
    users = [user(1, bio="Quiet words\r\nhere"), user(2, status="Gone"), user(3, email="user2@example.com")]
    posts = [post(1, 1, content="Untold\u200b"), post(2, 1, title="Unseen "), post(3, 1, updated_at=None)]
    samples = load_samples(make_run(tmp_path, users, posts)[0])
    found = [samples["users"]["clean_text"], samples["users"]["normalise_status"], samples["posts"]["clean_text"]]
    found += [samples["posts"]["updated_before_created"], samples["users"]["duplicate_email"]]
    assert [tuple(sample.values()) for of_rule in found for sample in of_rule] == [
        ("bio", "[17 characters, 2 lines, with \\u000d]", "[16 characters, 2 lines]"),
        ("status", "Gone", "other"),
        ("content", "[7 characters, 1 lines, with \\u200b]", "[6 characters, 1 lines]"),
        ("title", "U*** ", "U***"),
        ("updated_at", "null", "2026-02-26 00:00:00.000000Z"),
        ("duplicate_of", "", "00000002…"),
    ]


def test_an_id_is_cut_and_an_instant_is_not() -> None:
    assert mask_id(uid(7)) == "00000007…"
    assert mask_id("2026-03-03 03:00:00.000000Z") == "2026-03-03 03:00:00.000000Z"
    assert shorten("x" * 60) == "x" * 60
    assert shorten("x" * 61) == "x" * 59 + "…"


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
    assert list(samples["posts"]["orphan"][0].values()) == ["user_id", "00000009…", "the id of a kept user"]
    assert samples["users"]["missing_created_at"] == []
