"""Each kind of bad end leaves the artifact `failure`: what happened, what was written, what to do next."""

from __future__ import annotations

import inspect
import json
import os
import signal
import time
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run as this_run
from prefect.server.utilities.user_templates import render_user_template_sync
from prefect.states import Cancelling, Crashed, Running

from deploy.automations import OPTIONS_AGAIN
from deploy.prefect_services import api, request
from flows.engine.artifacts import EARLIER
from flows.engine.declare import explain
from flows.engine.form_command import run_form
from flows.forms import MAX_RESTARTS, BackfillForm
from tests.flows.conftest import Deployed
from tests.flows.test_every_form import FORMS

pytestmark = [pytest.mark.xdist_group("forms"), pytest.mark.timeout(300)]
PARTS = ("**What happened.**", "**What was written.**", "**What to do next.**")
each_flow = pytest.mark.parametrize("name", FORMS)
WRONG: dict[str, dict[str, Any]] = {
    "nightly": {"as_of": "now", "instant": "2999-01-01T00:00:00Z"},
    "backfill": {"first_day": "2026-02-01", "last_day": "2026-01-01"},
    "export": {"report": "data_quality", "date_from": "2026-01-01"},
    "restore": {"run": "20200101T000000Z-nothere"},
}


def said(deployed: Deployed, run: dict[str, Any]) -> str:
    page = deployed.artifacts(run)["failure"]
    assert [part for part in PARTS if part in page] == list(PARTS)
    return page


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_only_the_flow_can_refuse(deployed: Deployed, name: str) -> None:
    run = deployed.run(name, WRONG[name])
    assert run["state_type"] == "FAILED"
    assert "Traceback" not in said(deployed, run)


NEWEST = """
select run_id from public.etl_runs where status = 'committed' and kind = 'run' and not historical
order by started_at desc limit 1"""
UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "restore": ({"run": "20200101T000000Z-nothere"}, "The newest that can be restored are "),
    "compare": ({"base": "20200101T000000Z-nothere"}, "The newest runs are "),
    "export": ({"columns": ["posts_1d"]}, "Columns: daily_activity has no posts_1d; it has date, new_users, posts, "),
    "nightly": ({"accept": ["posts_dorp"]}, "Did you mean posts_drop? There are users_drop, users_deletes, posts_drop"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_there_is_answered_with_what_there_is(deployed: Deployed, name: str) -> None:
    """A form has no lists of runs, columns and metrics: they are known when it runs. The doctor has none either."""
    options, says = UNKNOWN[name]
    page = said(deployed, deployed.run(name, options))
    assert says in page
    assert "doctor" not in page
    assert name not in ("restore", "compare") or deployed.stack.query(NEWEST) in page
    assert name != "nightly" or "The last run was not held: leave it empty." in page
    assert name != "restore" or "Nothing was moved." in page


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("nightly", WRONG["nightly"], "Past instant: 2999-01-01T00:00:00+00:00 lies in the future"),
        ("nightly", {"instant": "31.1.2026, 10:00"}, "Past instant: This is no instant like 2026-01-31T12:00Z."),
        ("export", {"date_from": "1/31/2026"}, "From: This is no day like 2026-01-31."),
        ("compare", {"base": "2026-02-30"}, "Base: '2026-02-30' is no day like 2026-01-31."),
    ],
)
def test_a_refused_value_is_named_with_its_field(
    deployed: Deployed, name: str, options: dict[str, Any], says: str
) -> None:
    """By the field's title in the form, and with what it should be like."""
    page = said(deployed, deployed.run(name, options))
    assert page.startswith("# Refused")
    assert says in page


def test_a_parameter_that_the_flow_does_not_have(deployed: Deployed) -> None:
    """The server refuses it; where a request asks it not to look, the run says so, and is not started again.

    Its process ends before it begins: it was restarted, without the parameter.
    """
    of = {name: api(deployed.prefect, f"/deployments/name/{name}/{name}") for name in FORMS}
    assert [name for name in FORMS if of[name]["parameter_openapi_schema"].get("additionalProperties", True)] == []
    path = f"/deployments/{of['nightly']['id']}/create_flow_run"
    body = {"parameters": {"options": {}, "nonsense": 1}}
    answer = request(deployed.prefect, "POST", path, body)
    assert (answer.status_code, "'nonsense' was unexpected" in answer.text) == (409, True)
    run = api(deployed.prefect, path, {**body, "enforce_parameter_schema": False})
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(run["id"]))
    explain(deployed.flow("nightly"), flow_run, Crashed())
    assert "`nightly` has no parameter nonsense; it has options." in said(deployed, run)
    again = json.loads(render_user_template_sync(OPTIONS_AGAIN, {"flow_run": flow_run}))
    assert again["restart"] > MAX_RESTARTS


NO_DRY_RUN = ("doctor", "compare")  # they write nothing but their page


@each_flow
def test_a_project_that_does_not_answer(deployed: Deployed, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SUPABASE_DB_URL", "postgresql://nobody:nothing@127.0.0.1:9/postgres")
    monkeypatch.setenv("ETL_RETRIES", "0")
    monkeypatch.setenv("ETL_RUN_RETRIES", "0")
    run = deployed.run(name, {"dry_run": False} if name not in NO_DRY_RUN else {})
    assert run["state_type"] == "FAILED"
    page = said(deployed, run)
    assert "nothing@" not in page
    assert ("Start `nightly` again" in page) == (name == "nightly")


@each_flow
def test_settings_that_are_missing(deployed: Deployed, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "")
    page = said(deployed, deployed.run(name))
    assert "SUPABASE_SERVICE_KEY" in page or name == "doctor"


@each_flow
def test_a_defect(deployed: Deployed, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_it(*_: object, **__: object) -> None:
        raise ValueError("ada@example.com")

    parts = {
        "nightly": "run_pipeline",
        "backfill": "published_days",
        "export": "make_file",
        "restore": "committed_runs",
        "retention": "clean_up",
        "doctor": "examine",
        "compare": "compare_runs",
        "watch": "watch_changes",
    }
    monkeypatch.setitem(inspect.unwrap(deployed.flow(name).fn).__globals__, parts[name], break_it)
    page = said(deployed, deployed.run(name, {"dry_run": False} if name not in NO_DRY_RUN else {}))
    assert "ValueError" in page
    assert "ada@" not in page


@each_flow
def test_a_run_that_is_cancelled_or_dies(deployed: Deployed, name: str) -> None:
    """The worker calls these hooks in its own process, where the flow's does not live any more."""
    with get_client(sync_client=True) as client:
        ends: list[tuple[State[Any], str]] = [(Cancelling(), "# Cancelled"), (Crashed(), "# Crashed")]
        for state, title in ends:
            run = deployed.create(name)
            flow = deployed.flow(name)
            assert explain in flow.on_cancellation_hooks
            assert explain in flow.on_crashed_hooks
            if has_begun := name == "nightly":
                client.set_flow_run_state(UUID(run["id"]), Running(), force=True)
            explain(flow, client.read_flow_run(UUID(run["id"])), state)
            page = said(deployed, run)
            assert page.startswith(title)
            assert ("the run did not begin" in page) == (not has_begun)
            if (name, title) == ("nightly", "# Cancelled"):  # perhaps after its commit
                assert "Nothing, where the ledger says `committed`" in page


def test_a_run_that_is_tried_again_in_the_ui_says_why_each_try_failed(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = deployed.run("restore", UNKNOWN["restore"][0])
    assert deployed.listed(run).count("failure") == 1
    again = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}
    api(deployed.prefect, f"/flow_runs/{run['id']}/set_state", again)
    monkeypatch.setenv("SUPABASE_SERVICE_KEY", "")
    deployed.execute("restore", run["id"])
    found = api(deployed.prefect, "/artifacts/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}, "sort": "ID_DESC"})
    pages = [artifact["data"] for artifact in found if artifact["key"] == "failure"]
    assert sorted("SUPABASE_SERVICE_KEY" in page for page in pages) == [False, True]
    assert [page.endswith("This was try 2 of the run.") for page in pages if "SUPABASE_SERVICE_KEY" in page] == [True]


def test_what_is_left_of_an_earlier_try_says_so_once_a_later_one_ended_well(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was tried again showed two pages, and the one of its failure could stand first."""
    with monkeypatch.context() as wrong:
        wrong.setenv("SUPABASE_SERVICE_KEY", "")
        run = deployed.run("export", {"report": "user_statistics"})
    api(
        deployed.prefect, f"/flow_runs/{run['id']}/set_state", {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}
    )
    assert deployed.execute("export", run["id"])["state_type"] == "COMPLETED"
    found = deployed.artifacts(run)
    assert found.pop("failure").startswith(EARLIER)
    assert found["report"]
    assert not [text for text in found.values() if text.startswith(EARLIER)]


@pytest.mark.parametrize(
    ("name", "arguments", "code", "said"),
    [
        ("export", [], 0, "# A dry run: "),
        ("restore", ["--run", "20200101T000000Z-nothere"], 1, "✗ 20200101T000000Z-nothere is not a committed run"),
    ],
)
def test_a_command_ends_as_its_flow_did_where_prefect_has_lost_its_run(
    deployed: Deployed, name: str, arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """As with a server that was set up again meanwhile, or is away. A committed night had ended as failed, without its
    id, and a failure had Prefect's words in place of its own."""
    flow = deployed.flow(name)
    parts = inspect.unwrap(flow.fn).__globals__
    load_settings = parts["load_settings"]

    def lose_the_run() -> Any:
        with get_client(sync_client=True) as client:
            client.delete_flow_run(UUID(this_run.id))
        return load_settings()

    monkeypatch.setitem(parts, "load_settings", lose_the_run)
    assert run_form(flow, FORMS[name], name, arguments) == code
    printed = capsys.readouterr()
    assert (printed.out + printed.err).startswith(said)
    assert "Its page does not say how the run ended." in caplog.text


def test_a_held_run_has_a_state_of_its_own(deployed: Deployed) -> None:
    deployed.stack.query("create table public.kept as table public.posts; truncate public.posts")
    try:
        run = deployed.run("nightly", {"as_of": "now", "dry_run": False})
    finally:
        deployed.stack.query("insert into public.posts select * from public.kept; drop table public.kept")
    assert (run["state_type"], run["state_name"]) == ("CANCELLED", "Held")
    assert said(deployed, run).startswith("# Held")
    page = said(deployed, deployed.run("nightly", {"accept": ["posts_dorp"]}))
    assert "The last run was held for posts_drop" in page


# Somebody's run waits for the lease from the commit of the first day on, and goes first.
WAITS = """
create function public.somebody_waits() returns trigger language plpgsql as $$
begin
  if new.status = 'committed' then
    insert into public.etl_waiting values ('somebody', clock_timestamp());
  end if;
  return null;
end $$;
create trigger somebody_waits after update on public.etl_runs for each row execute function public.somebody_waits();
"""
WAITS_NO_MORE = "drop function if exists public.somebody_waits() cascade; delete from public.etl_waiting;"


@pytest.mark.parametrize("ends", [pytest.param("at the lease", marks=pytest.mark.slow), "by hand"])
def test_a_backfill_that_ends_between_two_days_says_what_of_it_is_published(
    deployed: Deployed, ends: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said of the day that was published: all but `latest.json` is written, and the next start moves that."""

    def stop(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    days = {"at the lease": ("2026-01-12", "2026-01-13"), "by hand": ("2026-01-14", "2026-01-15")}[ends]
    monkeypatch.setenv("ETL_WAIT_FOR_LEASE", "0")
    if ends == "by hand":
        monkeypatch.setattr("flows.engine.stages.reduce_the_posts", stop)
    else:
        deployed.stack.query(WAITS)
    try:
        arguments = ["--first-day", days[0], "--last-day", days[1], "--no-dry-run"]
        code = run_form(deployed.flow("backfill"), BackfillForm, "backfill", arguments)
    finally:
        deployed.stack.query(WAITS_NO_MORE)
    printed = capsys.readouterr()
    assert code == (130 if ends == "by hand" else 1)
    assert "1 of 2 days published" in printed.out
    rest = "Nothing: no file and no row." if ends == "by hand" else "Nothing."
    assert f"Written: 1 of 2 days are published, whole. Of the next one: {rest}" in printed.err
    assert ("✗ Stopped by hand.\n" if ends == "by hand" else "somebody waits for the lease") in printed.err
    assert "latest.json" not in printed.err
