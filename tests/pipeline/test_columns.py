"""An optional column that vanishes at the source, or is emptied there: held, never committed as nulls in silence."""

from __future__ import annotations

import pytest

from data.demo import DemoCounts
from tasks.errors import RunHeld
from tasks.settings import Transport
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

SPOILED = {
    "column_gone:users.email": "alter table public.users rename column email to mail",
    "column_gone:posts.title": "alter table public.posts drop column title cascade",
    "column_filled:users.name": "update public.users set name = null where random() < 0.5",
}


@pytest.mark.parametrize(("transport", "name"), list(zip(("postgres", "rest", "rest"), SPOILED, strict=True)))
def test_a_column_that_is_lost_holds_the_run(
    project: Project, demo: DemoCounts, run: Runner, transport: Transport, name: str
) -> None:
    run(transport)
    before = project.state()
    project.stack.query(SPOILED[name])
    try:
        with pytest.raises(RunHeld, match=name) as held:
            run(transport)
        assert f"--accept {name}" in held.value.remedy
        assert project.state() == before
    finally:
        _repair(project)


def _repair(project: Project) -> None:
    project.stack.query(
        "do $$ begin if exists (select from pg_attribute where attname = 'mail')"
        " then alter table public.users rename column mail to email; end if; end $$;"
        "alter table public.posts add column if not exists title text"
    )
