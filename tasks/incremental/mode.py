"""Whether a night may start from the changes alone, and if not, why not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from tasks.contracts import POSTS, USERS
from tasks.files.manifest import BaseFacts
from tasks.incremental.base import Base
from tasks.platform.code import CODE
from tasks.settings import Settings
from tasks.source.model import Preflight


def _unable() -> str:
    """Why the contracts never allow an incremental night; '' when they do. Known at import."""
    in_files = {column.name for column in POSTS.file_columns}
    needed = {"user_id", "created_at", "word_count", *(["has_title"] if "title" in POSTS else [])}
    if POSTS.by_month != "created_at" or not needed <= in_files:
        return "the contract of posts keeps out of its files what partial tables are made of"
    needed = {"created_at", "duplicate_of", *(["status"] if "status" in USERS else [])}
    needed |= {"has_email"} if "email" in USERS else set()
    lacks = not needed <= {column.name for column in USERS.file_columns}
    return "the contract of users keeps out of its files what the index of users is made of" if lacks else ""


UNABLE = _unable()
_CHANGED = "the contracts, rules, libraries or file settings changed"


class GoFull(Exception):
    """The night reads everything; `args[0]` says why, in words that follow `because`."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How a run reads. base: what an incremental one starts from; because: why a full one is full, in words."""

    base: Base | None
    because: str = ""

    @property
    def name(self) -> Literal["full", "incremental"]:
        return "incremental" if self.base else "full"

    def facts(self, not_read: Mapping[str, int], drifted: int | None) -> dict[str, object]:
        """How a run reads, for who is informed of its end; nothing before that was decided: a full one has a reason."""
        if self.base:
            return {"mode": self.name, "base_run": self.base.run_id, "not_read": dict(not_read)}
        return {"mode": self.name, "full_because": self.because, "drifted": drifted} if self.because else {}


@dataclass(frozen=True, slots=True)
class Night:
    """What decides the mode, beside the base: the request, and the source as the preflight found it."""

    full_refresh: bool
    historical: bool
    sources: Preflight
    clock: datetime


def choose_mode(night: Night, base: Base | None, settings: Settings) -> Mode:
    """The mode of a run, by what is known before anything is read: neither files nor changes were looked at."""
    for reason in (_of_request(night), _of_base(base, settings), *_of_changes(night, base, settings)):
        if reason:
            return Mode(None, reason)
    return Mode(base)


def _of_request(night: Night) -> str:
    if night.full_refresh:
        return "it was asked for (--full-refresh)"
    if UNABLE:
        return UNABLE
    return "a run for a past instant reads everything" if night.historical else ""


def _of_base(base: Base | None, settings: Settings) -> str:
    if base is None:
        return "there is no earlier run to start from"
    if not base.dirty:
        return base.problem
    # The migration of a contract leaves rows to be written, too.
    changed = base.facts is not None and base.facts.output != output_fingerprint(settings)
    return _CHANGED if changed else "an earlier run broke off while it wrote rows"


def _of_changes(night: Night, base: Base | None, settings: Settings) -> list[str]:
    if base is None or base.manifest is None:
        return []
    if (facts := base.facts) is None:
        return ["the last run was made by an earlier version"]
    checks = [
        (facts.output != output_fingerprint(settings), _CHANGED),
        (facts.sources != source_types(night.sources), "columns of a source came, went or changed their type"),
        (facts.seed != base.seed, "the seed of the fingerprints is new"),
        (night.clock < base.started_at, "the database's clock is before the last run's"),
        (
            _is_due(facts, night.clock, settings),
            f"the last full read is {settings.full_refresh_days} days old or older",
        ),
    ]
    return [reason for holds, reason in checks if holds]


def is_comparable(night: Night, base: Base, settings: Settings) -> bool:
    """Whether a full night must give what the base carried: same rules, files, columns, seed, nothing broken off."""
    facts = base.facts
    if night.historical or base.dirty or facts is None or UNABLE:
        return False
    same = output_fingerprint(settings), source_types(night.sources), base.seed
    return (facts.output, facts.sources, facts.seed) == same


def _is_due(facts: BaseFacts, clock: datetime, settings: Settings) -> bool:
    # A nightly starts some minutes earlier or later from day to day.
    due = timedelta(days=settings.full_refresh_days) - timedelta(hours=1)
    return facts.last_full is None or clock - facts.last_full >= due


def output_fingerprint(settings: Settings) -> str:
    """Changes with contracts, rules, reports, partial tables, files, libraries, and the settings that shape files.

    Never the version of the code as git knows it, which can be unknown.
    """
    shape = {"part_rows": settings.part_rows, "row_group_rows": settings.row_group_rows, "code": CODE}
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


def source_types(sources: Preflight) -> dict[str, dict[str, str]]:
    """The columns that are read, with their types, by table: what a fingerprint is made over."""
    return {
        name: {column.source_name: info.type_of(column) for column in info.columns}
        for name, info in sorted(sources.tables.items())
    }


def base_facts(
    settings: Settings, sources: Preflight, *, seed: str, last_full: datetime | None, row_bytes: Mapping[str, float]
) -> BaseFacts:
    """What a run leaves in its manifest for the next night."""
    return BaseFacts(
        output=output_fingerprint(settings),
        sources=source_types(sources),
        seed=seed,
        last_full=last_full,
        row_bytes=dict(row_bytes),
    )
