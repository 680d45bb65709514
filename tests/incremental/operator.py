"""Who does the operations on a project: each time with other settings, another identity, another transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from flows.engine.outcome import RunOutcome, RunRequest
from flows.engine.pipeline import run_pipeline
from tasks.errors import PipelineError, RunHeld
from tasks.ledger.as_of import AsOf
from tasks.settings import Transport
from tests.incremental.oracle import problems
from tests.incremental.unharmed import Unharmed
from tests.incremental.world import World
from tests.pipeline.identities import identity_env

# In their order; then the clock's.
AS_OFS = (
    "2025-10-20T00:00:00+00:00", "2025-11-01T00:00:00+00:00", "2025-11-30T12:34:56.789+00:00",
    "2025-12-31T23:59:59.999999+00:00", "2026-01-01T00:00:00+00:00", "2026-01-10T00:00:00+00:00",
    "2026-01-31T00:00:00+00:00", "2026-03-29T01:30:00+00:00", "2026-10-25T01:00:00+00:00",
)  # fmt: skip
CLOCK = ("now", "now", "midnight", "resume")
SETTINGS: dict[str, tuple[str, ...]] = {
    "ETL_ROW_GROUP_ROWS": (*("7",) * 15, "3"), "ETL_PART_ROWS": (*("14",) * 15, "9"), "ETL_PAGE_ROWS": ("1000", "3"),
    "ETL_WRITE_ROWS": ("2000", "1", "4"), "ETL_WRITERS": ("4", "1"), "ETL_KEEP_BASE": ("true", "true", "false"),
    "ETL_MAX_CHANGED_SHARE": ("1", "0.1"), "ETL_FULL_REFRESH_DAYS": (*("7",) * 15, "0"),
    "ETL_BATCH_ROWS": ("50000", "5"), "ETL_RUN_RETRIES": ("0", "1"), "ETL_RANGES": ("4", "1"),
}  # fmt: skip
_LOOSE = {"ETL_MAX_REFUSED_SHARE": "1", "ETL_LEASE_SECONDS": "60", "ETL_RUN_RETRY_SECONDS": "0"}
LEASE_ENDS = "update etl_runs set heartbeat = heartbeat - interval '1 day' where status in ('running', 'loading')"


class Operations:
    """One project, what happened to it, and what must hold now."""

    def __init__(self, world: World) -> None:
        self.world, self.rng, self.project = world, world.rng, world.project
        user = identity_env(self.project.stack, "signed-in user")
        key = identity_env(self.project.stack, "service key")
        self.identities = (key, replace(self.project, identity=user).identity)
        self.log: list[str] = []
        self.unharmed = Unharmed(self.project)
        self.runs: list[RunOutcome] = []
        self.older = False  # whether a dump of our tables lies beside them
        self.instants: tuple[str, ...] = AS_OFS

    def as_of(self) -> str:
        """The same instant as before or a later one, by the clock in the end; now and then one of the past."""
        if self.rng.random() < 0.15:
            return self.rng.choice(AS_OFS)
        self.instants = self.instants[self.rng.choice((0, 0, 1, 2)) :]
        return self.instants[0] if self.instants else self.rng.choice(CLOCK)

    def step(self, operation: Callable[[Operations], object]) -> None:
        """One operation, and the invariants."""
        self.log.append(operation.__name__.strip("_<>"))
        operation(self)
        self.unharmed.check(self.log)

    def env(self, **more: str) -> dict[str, str]:
        """Settings of a process: another identity, transport and bounds each time."""
        chosen = {name: self.rng.choice(values) for name, values in SETTINGS.items()}
        project = replace(self.project, identity=self.rng.choice(self.identities))
        transport: Transport = self.rng.choice(("postgres", "rest"))
        self.log[-1] += f" {transport} {'user' if 'ETL_EMAIL' in project.identity else 'key'}"
        return project.env(transport, **{**chosen, **_LOOSE, **more})

    def run(self, *, oracle: bool = True, env: dict[str, str] | None = None, **options: Any) -> RunOutcome:
        """A night in this process, compared with a full one of the same instant when it became current."""
        as_of = options.pop("as_of", None) or self.as_of()
        with self.acting(env or self.env()):
            outcome = run_pipeline(RunRequest(as_of=AsOf.parse(as_of), **options))
            self.log[-1] += f" as of {as_of}: {outcome.mode} {outcome.full_because or ''} {'past' * outcome.historical}"
            if outcome.status == "committed" and not outcome.historical:
                self.runs.append(outcome)
                if not outcome.current:  # another one was committed before this one's pointer moved
                    assert outcome.readers_see == self.unharmed.reader, "\n".join(self.log)
                    return outcome
                self.unharmed.committed(outcome)
                if oracle:
                    found = problems(self.project, outcome, self.rng.choice(("postgres", "rest")))
                    assert not found, "\n".join([*self.log, *found])
            return outcome

    def accepted(self, **options: Any) -> RunOutcome:
        """A night that commits: where its metrics are held, as somebody looks at it and accepts them."""
        names = frozenset[str]()
        for _ in range(4):
            try:
                return self.run(accept=names, **options)
            except RunHeld as held:
                self.log[-1] += f" held for {sorted(held.values)}"
                names |= held.values.keys()
        raise AssertionError("\n".join([*self.log, "held again and again"]))

    @contextmanager
    def acting(self, env: dict[str, str]) -> Iterator[None]:
        """This process with these variables."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            for name in {"SUPABASE_SERVICE_KEY", "SUPABASE_KEY", "ETL_EMAIL", "ETL_PASSWORD"} - env.keys():
                patch.delenv(name, raising=False)
            yield

    def refused(self, work: Callable[[], Any], *kinds: type[BaseException]) -> Any:
        """Work that may end with an error of ours, and then has changed nothing for readers."""
        kinds = kinds or (PipelineError,)
        try:
            return work()
        except kinds as error:
            self.log[-1] += f" → {type(error).__name__}: {str(error)[:160]}"
            return None
