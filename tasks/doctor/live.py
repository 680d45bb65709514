"""Checks of what `watch` goes by: the database's counters, and Realtime's publication."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.contracts import TABLES
from tasks.doctor.findings import Finding, ok, warn
from tasks.live.counts import fetch_counts
from tasks.platform.functions import open_database
from tasks.platform.quoting import identifier
from tasks.settings import Settings

CHECK = "realtime"
# What kind of relation a source is stays unknown here, so it stands behind every statement, as a comment.
SPECIAL = (
    "-- Leave views out, which cannot be published; for a partitioned table also: "
    "alter publication supabase_realtime set (publish_via_partition_root = true);"
)


def changes_are_seen(settings: Settings) -> Iterator[Finding]:
    """Whether Realtime is enabled for the sources, and what to do; without it `watch` asks every few seconds."""
    with open_database(settings) as database:
        counts = fetch_counts(database)
    alone = f"`watch` goes by the change counts alone, every {settings.watch_poll_seconds:g} s"
    missing = [t for t in TABLES if t.name not in counts.published]
    if not missing:
        yield ok(CHECK, "Realtime is enabled for all sources: `watch` hears of changes at once.")
    else:
        names = ", ".join(identifier(t.source_schema, t.source) for t in missing)
        start = "" if counts.realtime else "create publication supabase_realtime; "
        remedy = f"To hear of changes at once: {start}alter publication supabase_realtime add table {names}; {SPECIAL}"
        yield Finding(CHECK, "ok", f"Realtime is not enabled for {names}; {alone}.", remedy)
    if counts.uncounted:
        named = ", ".join(counts.uncounted)
        text = f"The database counts no changes of {named}: `watch` does not see them."
        yield warn(CHECK, text, "Foreign tables have no counters: leave these to the scheduled night.")
