"""The cleaning rules. To add one: write its function, add its line to the table's list, test it.

The ledger, the report `data_quality`, the dictionary and the run page take names, actions and descriptions from here.
"""

from __future__ import annotations

from tasks.cleaning.rules.base import Change, Facts, Flag, Frame, Reject, Rule
from tasks.cleaning.rules.posts import POSTS_RULES
from tasks.cleaning.rules.users import USERS_RULES

RULES: dict[str, tuple[Rule, ...]] = {"users": USERS_RULES, "posts": POSTS_RULES}

__all__ = ["POSTS_RULES", "RULES", "USERS_RULES", "Change", "Facts", "Flag", "Frame", "Reject", "Rule"]
