"""What decides whether a night reads everything, and what a full one is audited by: each reason, at its bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.files.manifest import BaseFacts, Manifest
from tasks.incremental.base import Base
from tasks.incremental.mode import Night, base_facts, choose_mode, is_comparable
from tasks.settings import Settings
from tasks.source import Preflight


def _base(settings: Settings, sources: Preflight, started_at: datetime) -> Base:
    facts = base_facts(settings, sources, seed="s", last_full=started_at, row_bytes={})
    manifest = Manifest(
        run="runs/2026-01-31/r", run_id="r", as_of=started_at, started_at=started_at, files=(), base=facts
    )
    return Base("r", False, "s", manifest)


@dataclass(frozen=True)
class Case:
    """How a night differs from one that is incremental, and what it says then."""

    words: str
    hours: float = 5
    base: Callable[[Base], Base | None] = lambda base: base
    night: Callable[[Night], Night] = lambda night: night
    settings: Mapping[str, Any] = field(default_factory=dict)


def _with_base(facts: BaseFacts | None) -> Callable[[Base], Base]:
    return lambda base: replace(base, manifest=base.published.model_copy(update={"base": facts}))


def _with_facts(**facts: Any) -> Callable[[Base], Base]:
    def changed(base: Base) -> Base:
        assert base.facts
        return _with_base(base.facts.model_copy(update=facts))(base)

    return changed


CASES = {
    "incremental": Case(""),
    "no base": Case("no earlier run", base=lambda base: None),
    "dirty": Case("broke off while it wrote rows", base=lambda base: replace(base, dirty=True)),
    "dirty by a contract's migration": Case(
        "file settings changed", base=lambda base: replace(_with_facts(output="other")(base), dirty=True)
    ),
    "no manifest": Case("gone", base=lambda base: replace(base, manifest=None, problem="gone")),
    "asked for": Case("asked for", night=lambda night: replace(night, full_refresh=True)),
    "past": Case("past instant", night=lambda night: replace(night, historical=True)),
    "code": Case("file settings changed", base=_with_facts(output="other")),
    "part rows": Case("file settings changed", settings={"part_rows": 7}),
    "row groups": Case("file settings changed", settings={"row_group_rows": 7}),
    "types": Case("changed their type", base=_with_facts(sources={"users": {"id": "integer"}})),
    "seed": Case("seed", base=_with_facts(seed="other")),
    "earlier version": Case("earlier version", base=_with_base(None)),
    "clock": Case("clock is before", hours=-1),
    "a week": Case("7 days old or older", hours=7 * 24),
    "a week, and started a little early": Case("7 days old or older", hours=7 * 24 - 1),
    "nearly a week": Case("", hours=7 * 24 - 1.001),
    "never read": Case("7 days old or older", base=_with_facts(last_full=None)),
    "two days": Case("2 days old or older", hours=48, settings={"full_refresh_days": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_decides_the_mode(name: str) -> None:
    case, settings = CASES[name], Settings(_env_file=None)
    sources = Preflight(datetime.now(UTC), "etl", {})
    base = case.base(_base(settings, sources, sources.clock))
    night = case.night(Night(False, False, sources, sources.clock + timedelta(hours=case.hours)))
    mode = choose_mode(night, base, Settings(_env_file=None, **case.settings))
    assert case.words in mode.because
    assert bool(mode.because) == bool(case.words) == (mode.base is None)


# Where a full night must give what the base carried; in all other cases it may differ for a good reason.
_AUDITED = {"incremental", "asked for", "clock", "a week", "a week, and started a little early", "nearly a week",
            "never read", "two days"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CASES if name != "no base"])
def test_what_a_full_night_is_audited_by(name: str) -> None:
    case, sources = CASES[name], Preflight(datetime.now(UTC), "etl", {})
    base = case.base(_base(Settings(_env_file=None), sources, sources.clock))
    night = case.night(Night(False, False, sources, sources.clock + timedelta(hours=case.hours)))
    assert base
    assert is_comparable(night, base, Settings(_env_file=None, **case.settings)) == (name in _AUDITED)
