"""Every form runs to its end: as it is opened, dry, not dry, and with each choice that it offers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from flows.engine.form_command import run_form
from flows.forms import (
    BackfillForm,
    CompareForm,
    DoctorForm,
    ExportForm,
    Form,
    NightlyForm,
    RestoreForm,
    RetentionForm,
    WatchForm,
)
from tasks.platform.bucket import Bucket
from tasks.settings import load_settings
from tests.flows.conftest import Deployed
from tests.without_charts import SWITCH

pytestmark = [pytest.mark.xdist_group("forms"), pytest.mark.timeout(300)]
FORMS: dict[str, type[Form]] = {
    "nightly": NightlyForm,
    "backfill": BackfillForm,
    "export": ExportForm,
    "compare": CompareForm,
    "restore": RestoreForm,
    "retention": RetentionForm,
    "watch": WatchForm,
    "doctor": DoctorForm,
}

# In their order; charts and `latest-report` come after them.
PAGES = ["report", "summary", "statistics", "cleaning", "cleaning-samples", "traffic", "files"]


def choices(form: type[Form]) -> Iterator[dict[str, object]]:
    """Every value of a dropdown or a switch of a form that the form is not opened with, one of each field at a time."""
    offered: dict[str, list[object]] = {}
    for name, field in form.model_json_schema()["properties"].items():
        values = field.get("enum", [True, False] if field.get("type") == "boolean" else [])
        offered[name] = [value for value in values if name != "dry_run" and value != field.get("default")]
    for number in range(max(map(len, offered.values()))):
        yield {name: values[number] for name, values in offered.items() if number < len(values)}


def cases() -> Iterator[Any]:
    for name, form in FORMS.items():
        yield pytest.param(name, None, id=f"{name}-as-opened")
        if "dry_run" in form.model_fields and name != "watch":  # which runs until it is stopped: tests/live
            yield pytest.param(name, {"dry_run": False}, id=f"{name}-not-dry")
        for chosen in choices(form):
            options = {**chosen, **({"dry_run": False} if "dry_run" in form.model_fields else {})}
            yield pytest.param(name, options, id="-".join([name, *(f"{of}-{value}" for of, value in chosen.items())]))


def test_a_command_prints_the_report_with_its_links_and_then_the_answer(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_form(deployed.flow("export"), ExportForm, "export", ["--no-dry-run"]) == 0
    *report, answer = capsys.readouterr().out.splitlines()
    assert report[0].startswith("# The file is ready: [Download daily_activity.parquet](http")
    assert json.loads(answer) in "\n".join(report)
    assert not [*(deployed.folder / "data" / "runs").rglob("export-*")], "its rows may name people"


@pytest.mark.parametrize(
    ("write", "says"), [(False, "; the file would hold no rows"), (True, "The file holds no rows: [")]
)
def test_an_export_of_days_that_the_report_does_not_have_says_so(deployed: Deployed, write: bool, says: str) -> None:
    """It said that the file is ready."""
    options = {"date_from": "1999-01-01", "date_to": "1999-12-31", "format": "csv", "dry_run": not write}
    page = deployed.artifacts(deployed.run("export", options))["export"]
    assert says in page.splitlines()[0]
    first, last = deployed.stack.query("select min(date) || ' to ' || max(date) from daily_activity").split(" to ")
    assert f"0 rows (the run's days go from {first} to {last}), " in page


def test_a_backfill_makes_the_day_again_whose_run_retention_has_taken(deployed: Deployed) -> None:
    """It was `done before` for good, by the ledger, while the reading kit's advice was to backfill it."""
    row = "'taken', gen_random_uuid(), 'committed', 'rest', '2026-01-11Z', 'midnight', true, 120"
    columns = "run_id, token, status, transport, as_of, as_of_mode, historical, lease_seconds"
    deployed.stack.query(f"insert into public.etl_runs ({columns}) values ({row})")
    day = {"first_day": "2026-01-10", "last_day": "2026-01-10"}
    assert "1 of 1 days would be published" in deployed.artifacts(deployed.run("backfill", day))["backfill"]
    with Bucket(load_settings()) as bucket:
        bucket.store("runs/2026-01-10/taken/manifest.json", b"{}")
        try:
            assert "0 of 1 days would be published" in deployed.artifacts(deployed.run("backfill", day))["backfill"]
        finally:
            bucket.remove(["runs/2026-01-10/taken/manifest.json"])


def test_a_restore_finds_the_run_before_one_of_long_ago(deployed: Deployed) -> None:
    """Behind the last hundred runs, eight hours of a watch, there was none before it."""
    row = "'watched-' || i, gen_random_uuid(), 'committed', 'rest', now(), 'now', 120"
    columns = "run_id, token, status, transport, as_of, as_of_mode, lease_seconds"
    deployed.stack.query(f"insert into public.etl_runs ({columns}) select {row} from generate_series(1, 100) i")
    try:
        artifacts = deployed.artifacts(deployed.run("restore"))
    finally:
        deployed.stack.query("delete from public.etl_runs where run_id like 'watched-%'")
    assert "are whole; nothing was moved" in artifacts["restore"]


def written(deployed: Deployed) -> str:
    """Changes with every run in the ledger and every file in Storage."""
    counts = "select count(*), max(started_at) from public.etl_runs"
    return deployed.stack.query(f"{counts} union all select count(*), max(created_at) from storage.objects")


@pytest.mark.parametrize(("name", "options"), list(cases()))
def test_a_form_runs_to_its_end(
    deployed: Deployed, name: str, options: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "nightly" and options == {"dry_run": False}:
        monkeypatch.delenv(SWITCH)  # one run with its charts below the other pages
    if (options or {}).get("transport") == "rest":  # the form's choice holds for all that its run does
        monkeypatch.setenv("ETL_TRANSPORT", "postgres")
        monkeypatch.setenv("SUPABASE_DB_URL", "")
    before = written(deployed)
    run = deployed.run(name, options)
    artifacts = deployed.artifacts(run)
    assert run["state_name"] == "Completed", artifacts.get("failure", run["state"]["message"])
    assert artifacts, "a run shows what it did"
    assert artifacts["report"].startswith("# "), "first a sentence on the outcome"
    pages = deployed.listed(run)
    if name == "nightly":
        first = [key for key in PAGES if key in artifacts]
        assert pages[: len(first)] == first
        assert all(key == "latest-report" or key.startswith("chart-") for key in pages[len(first) :])
        assert any(key.startswith("chart-") for key in pages) is (options == {"dry_run": False})
    else:
        assert pages[:2] == ["report", name]
        assert artifacts[name] == artifacts["report"]
    assert "failure" not in artifacts
    if "dry_run" in FORMS[name].model_fields:
        assert run["parameters"]["options"]["dry_run"] is (options is None), "every form opens as a dry run"
        assert run["name"].endswith(" (dry run)") is (options is None)
    if options is None:
        assert written(deployed) == before, "a dry run writes nothing"
