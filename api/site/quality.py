"""The rules of data quality in words and figures, and how they moved since the run before."""

from __future__ import annotations

from typing import Any

import pandas as pd

from api.site.formats import change, percent, title, whole
from api.tokens import Caller
from tasks.cleaning.rules import RULES
from tasks.errors import ReadError
from tasks.files.layout import day_of
from tasks.files.manifest import Manifest

MEANINGS = {(table, rule.name): rule.description for table, rules in RULES.items() for rule in rules}


def before(store: Any, caller: Caller, manifest: Manifest) -> pd.DataFrame | None:
    """The report of the day with a run before this one's."""
    day = day_of(manifest.as_of)
    earlier = max((one for one in store.days(caller) if one < day), default=None)
    if earlier is None:
        return None
    try:
        found: pd.DataFrame = store.frame(caller, store.manifest(caller, as_of=earlier), "data_quality")
    except ReadError:
        return None
    return found


def groups(now: pd.DataFrame, earlier: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The rules by table, in their order."""
    old: dict[Any, Any] = {} if earlier is None else {(r.table, r.rule): r.share for r in earlier.itertuples()}
    found = []
    for table, rows in now.groupby("table", sort=False):
        read = int(rows["rows_checked"].max())
        rejected = int(rows.loc[rows["action"] == "rejected", "rows_affected"].sum())
        rules = [_rule(row, old.get((row.table, row.rule))) for row in rows.itertuples()]
        summary = f"{whole(read)} rows read, {whole(rejected)} rejected"
        found.append({"title": title(str(table)), "summary": summary, "rules": rules})
    return found


def _rule(row: Any, old: float | None) -> dict[str, Any]:
    share = None if pd.isna(row.share) else float(row.share)
    text, direction = change(old, share, points=True)
    return {
        "name": row.rule,
        "meaning": MEANINGS.get((row.table, row.rule), "A rule of an earlier version."),
        "action": row.action,
        "checked": whole(row.rows_checked),
        "affected": whole(row.rows_affected),
        "share": percent(share, 2),
        "change": text,
        "direction": {"up": "down", "down": "up"}.get(direction, direction),  # more is worse here
    }
