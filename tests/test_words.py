"""The words of the code and the pages are those of the field: no term of a dialect of our own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Applied migrations and the changelog never change, a lock file is not ours to word, and this list names the terms.
SKIPPED = re.compile(
    r"supabase/migrations/|CHANGELOG\.md$|requirements.*\.txt$|tests/test_words\.py$|\.(png|ico|woff2?|parquet)$"
)
TERMS = {
    r"mend|mends|mended|mending": "fix, remedy",
    r"told": "computed from, reported, notified",
    r"anew|afresh": "again, from scratch",
    r"speaks? of": "is as of",
    r"came of it": "outcome",
    r"at work": "running",
    r"halfway|half way": "staged, partial",
    r"unproved": "unverified",
    r"places": "batch_refs, positions, paths",
    r"borne": "tolerated",
    r"in clear": "in plain text",
    r"out of its mind": "unresponsive",
    r"settle(s|d)? orphans": "recheck orphans",
    r"thinned|unthinned": "pruned",
    r"moved further": "outside its bounds",
}
_PARTS = "|".join(term.replace(" ", "[ _-]") for term in TERMS)
WRONG = re.compile(rf"(?<![A-Za-z])({_PARTS})(?![A-Za-z])", re.IGNORECASE)  # also as a part of a name


def test_no_page_message_name_or_comment_uses_a_private_term() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    paths = [ROOT / name for name in listed if name and not SKIPPED.search(name)]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in paths
        if path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        for match in WRONG.finditer(line)
    ]
    assert found == [], TERMS
