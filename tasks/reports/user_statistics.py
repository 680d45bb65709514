"""The headline figures: one row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning.partials import DAY, WINDOWS
from tasks.contracts import USER_STATISTICS
from tasks.reports.facts import ReportFacts, as_report, share
from tasks.reports.quantiles import quantile


def user_statistics(facts: ReportFacts) -> pa.Table:
    """Users, posts and posts per author as of an instant."""
    users = facts.users.table.filter(pa.array(facts.in_scope))
    posts = facts.authors["posts"].to_numpy()
    total_posts = int(posts.sum())
    row = {
        "as_of": facts.as_of,
        "total_users": users.num_rows,
        **{f"{status}_users": _count(pc.equal(users["status"], status)) for status in ("active", "inactive", "other")},
        "duplicate_accounts": _count(users["is_duplicate"]),
        "users_without_email": users.num_rows - _count(users["has_email"]),
        **{f"new_users_{days}d": int((facts.signed_up >= facts.as_of - days * DAY).sum()) for days in WINDOWS},
        "posting_users": len(posts),
        "total_posts": total_posts,
        **{f"posts_{days}d": facts.counts["posts"].in_scope.windows[days] for days in WINDOWS},
        "posts_per_user_mean": float(share(total_posts, users.num_rows)),
        "posts_per_author_median": quantile(posts, 0.5),
        "posts_per_author_p90": quantile(posts, 0.9),
        "posts_per_author_p99": quantile(posts, 0.99),
        "posts_per_author_max": int(posts.max()) if len(posts) else np.nan,
    }
    return as_report(USER_STATISTICS, {name: [value] for name, value in row.items()})


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask, min_count=0).as_py())
