"""Every form runs to its end: as it is opened, dry, not dry, and with each choice that it offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

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
from tests.flows.conftest import Deployed

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


def choices(form: type[Form]) -> Iterator[tuple[str, object]]:
    """Every value of a dropdown or a switch of a form."""
    for name, field in form.model_json_schema()["properties"].items():
        values = field.get("enum", [True, False] if field.get("type") == "boolean" else [])
        yield from ((name, value) for value in values if name != "dry_run")


def cases() -> Iterator[Any]:
    for name, form in FORMS.items():
        yield pytest.param(name, None, id=f"{name}-as-opened")
        if "dry_run" in form.model_fields:
            if name != "watch":  # which runs until it is stopped: tests/live
                yield pytest.param(name, {"dry_run": False}, id=f"{name}-defaults")
            yield pytest.param(name, {"dry_run": True}, id=f"{name}-dry")
        for field, value in choices(form):
            options = {field: value, **({"dry_run": False} if "dry_run" in form.model_fields else {})}
            yield pytest.param(name, options, id=f"{name}-{field}-{value}")


@pytest.mark.parametrize(("name", "options"), list(cases()))
def test_a_form_runs_to_its_end(deployed: Deployed, name: str, options: dict[str, Any] | None) -> None:
    run = deployed.run(name, options)
    artifacts = deployed.artifacts(run)
    assert run["state_name"] == "Completed", artifacts.get("failure", run["state"]["message"])
    assert artifacts, "a run shows what it did"
    assert artifacts["report"].startswith("# "), "first a sentence on the outcome"
    if name != "nightly":
        assert artifacts[name] == artifacts["report"]
    assert "failure" not in artifacts


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if "dry_run" in form.model_fields])
def test_every_form_opens_as_a_dry_run_and_writes_nothing(deployed: Deployed, name: str) -> None:
    before = deployed.stack.query("select count(*), max(started_at) from public.etl_runs")
    files = deployed.stack.query("select count(*), max(created_at) from storage.objects")
    run = deployed.run(name)
    assert run["parameters"]["options"]["dry_run"] is True
    assert deployed.stack.query("select count(*), max(started_at) from public.etl_runs") == before
    assert deployed.stack.query("select count(*), max(created_at) from storage.objects") == files
