"""The same rules and statistics as a person would write them in a notebook: whole frames, pandas' own methods.

Written to be fair: vectorised wherever pandas is, with the string type that it takes by itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

_UNWANTED = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]"


def clean_and_aggregate(users: pd.DataFrame, posts: pd.DataFrame, snapshot_at: datetime) -> dict[str, pd.DataFrame]:
    """Cleaned posts and the reports made of them; users and posts as they were read."""
    users = clean_users(users.copy(), snapshot_at)
    posts = clean_posts(posts.copy(), users, snapshot_at)
    posts = posts[(posts["created_at"] < snapshot_at) & (posts["signed_up_at"] < snapshot_at)]
    users = users[users["created_at"] < snapshot_at]
    return {
        "daily_activity": daily_activity(users, posts),
        "author_activity": author_activity(posts, snapshot_at),
        "signup_cohorts": signup_cohorts(users, posts),
        "post_statistics": post_statistics(posts),
    }


def clean_text(text: pd.Series[Any], *, line: bool) -> pd.Series[Any]:
    text = text.str.replace("\r\n", "\n", regex=False).str.replace("\r", "\n", regex=False)
    if line:
        text = text.str.replace(r"[\t\n]", " ", regex=True)
    text = text.str.replace(_UNWANTED, "", regex=True).str.normalize("NFC").str.strip()
    return text.where(text != "")


def count_changes(before: pd.DataFrame, after: pd.DataFrame, columns: list[str]) -> int:
    changed = [(before[name] != after[name]) & ~(before[name].isna() & after[name].isna()) for name in columns]
    return int(np.logical_or.reduce(changed).sum())


def clean_users(users: pd.DataFrame, snapshot_at: datetime) -> pd.DataFrame:
    before = users.copy()
    for name in ("name", "email", "status"):
        users[name] = clean_text(users[name], line=True)
    users["bio"] = clean_text(users["bio"], line=False)
    count_changes(before, users, ["name", "email", "status", "bio"])
    users["email"] = users["email"].str.lower()
    valid = users["email"].str.match(r"^[^@\s]+@[^@.\s]+(\.[^@.\s]+)+$") & (users["email"].str.len() <= 254)
    users["email"] = users["email"].where(valid)
    status = users["status"].str.lower()
    users["status"] = status.where(status.isin(["active", "inactive"]), "other")
    users = users[users["created_at"].notna()]
    users = users[users["created_at"] <= snapshot_at + pd.Timedelta(days=1)].sort_values(["created_at", "id"])
    users["duplicate_of"] = users.groupby("email")["id"].transform("first")
    return users


def clean_posts(posts: pd.DataFrame, users: pd.DataFrame, snapshot_at: datetime) -> pd.DataFrame:
    before = posts.copy()
    posts["title"] = clean_text(posts["title"], line=True)
    posts["content"] = clean_text(posts["content"], line=False)
    count_changes(before, posts, ["title", "content"])
    posts = posts[posts["created_at"].notna() & (posts["created_at"] <= snapshot_at + pd.Timedelta(days=1))]
    signed_up = users[["id", "created_at"]].rename(columns={"id": "user_id", "created_at": "signed_up_at"})
    posts = posts.merge(signed_up, on="user_id", how="inner", validate="many_to_one")
    late = posts["updated_at"].isna() | (posts["updated_at"] < posts["created_at"])
    posts["updated_at"] = posts["updated_at"].mask(late, posts["created_at"])
    posts["is_before_signup"] = posts["created_at"] < posts["signed_up_at"]
    posts["words"] = posts["content"].str.count(r"\S+").fillna(0).astype("int64")
    posts["characters"] = posts["content"].str.len().fillna(0).astype("int64")
    return posts


def daily_activity(users: pd.DataFrame, posts: pd.DataFrame) -> pd.DataFrame:
    days = posts.assign(date=posts["created_at"].dt.floor("D"))
    daily = days.groupby("date").agg(posts=("id", "size"), authors=("user_id", "nunique"), words=("words", "sum"))
    pairs = days[["date", "user_id"]].drop_duplicates()
    for window in (7, 28):
        shifted = pd.concat([pairs.assign(date=pairs["date"] + pd.Timedelta(days=n)) for n in range(window)])
        daily[f"authors_{window}d"] = shifted.drop_duplicates().groupby("date").size()
    daily["new_users"] = users.groupby(users["created_at"].dt.floor("D")).size()
    return daily


def author_activity(posts: pd.DataFrame, snapshot_at: datetime) -> pd.DataFrame:
    authors = posts.groupby("user_id").agg(
        post_count=("id", "size"),
        words=("words", "sum"),
        first_post_at=("created_at", "min"),
        last_post_at=("created_at", "max"),
        signed_up_at=("signed_up_at", "first"),
    )
    days = posts.assign(day=posts["created_at"].dt.floor("D"))[["user_id", "day"]].drop_duplicates()
    days = days.sort_values(["user_id", "day"])
    gap = days.groupby("user_id")["day"].diff()
    authors["median_gap_days"] = gap.groupby(days["user_id"]).median()
    streak = (gap != pd.Timedelta(days=1)).cumsum()
    authors["longest_streak_days"] = days.groupby(["user_id", streak]).size().groupby("user_id").max()
    authors["days_since_last_post"] = (snapshot_at - authors["last_post_at"]).dt.total_seconds() / 86_400
    return authors


def signup_cohorts(users: pd.DataFrame, posts: pd.DataFrame) -> pd.DataFrame:
    def month(instants: pd.Series[Any]) -> pd.Series[Any]:
        months: pd.Series[Any] = instants.dt.year * 12 + instants.dt.month
        return months

    cohort = month(posts["signed_up_at"])
    since = (month(posts["created_at"]) - cohort).clip(lower=0)
    pairs = pd.DataFrame({"cohort": cohort, "since": since, "user_id": posts["user_id"]}).drop_duplicates()
    active = pairs.groupby(["cohort", "since"]).size().to_frame("authors").reset_index()
    return active.merge(month(users["created_at"]).value_counts().rename("users"), left_on="cohort", right_index=True)


def post_statistics(posts: pd.DataFrame) -> pd.DataFrame:
    created = posts["created_at"].dt
    slots = posts.groupby([created.year, created.month, created.dayofweek, created.hour])
    words = slots["words"]
    return pd.DataFrame(
        {"posts": words.size(), "words": words.sum(), "median": words.median(), "p90": words.quantile(0.9)}
    )
