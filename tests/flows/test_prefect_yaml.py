"""prefect.yaml says nothing that Prefect would ignore in silence, and everything that a deployment needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import (
    ConcurrencyLimitSpec,
    DeploymentConfig,
    PrefectYamlModel,
    RawScheduleConfig,
    WorkPoolConfig,
)
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.schema_tools.validation import validate
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
DECLARED: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = DECLARED["deployments"]
NAMES = [deployment["name"] for deployment in DEPLOYMENTS]
each_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)


def known(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_every_flow_is_deployed() -> None:
    flows = [path.stem for path in sorted((ROOT / "flows").glob("*.py")) if "@etl_flow(" in path.read_text()]
    assert len(flows) > 7
    assert sorted(NAMES) == flows


def test_prefect_knows_every_key_at_the_top() -> None:
    own = {"definitions"}  # anchors, for YAML only
    assert set(DECLARED) - own <= known(PrefectYamlModel)


@each_deployment
def test_prefect_knows_every_key_of_a_deployment(deployment: dict[str, Any]) -> None:
    assert set(deployment) <= known(DeploymentConfig)
    assert set(deployment["work_pool"]) <= known(WorkPoolConfig)
    assert set(deployment.get("concurrency_limit", {})) <= known(ConcurrencyLimitSpec)
    for schedule in deployment.get("schedules", []):
        assert set(schedule) <= known(RawScheduleConfig)


@each_deployment
def test_a_description_says_what_when_what_it_writes_how_long_and_what_on_failure(deployment: dict[str, Any]) -> None:
    headings = re.findall(r"^\*\*(.+?)\.\*\*", deployment["description"], re.MULTILINE)
    assert headings == ["What", "When", "What it writes", "How long", "When it fails"]


@each_deployment
def test_its_parameters_pass_the_form_of_its_flow(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    flow: Flow[..., Any] = load_flow_from_entrypoint(deployment["entrypoint"])
    parameters = deployment.get("parameters", {})
    assert flow.name == deployment["name"]
    assert validate(parameters, flow.parameters.model_dump_for_openapi()) == []
    flow.validate_parameters({"options": {}, **parameters})


def test_the_nightly_is_scheduled_by_the_settings_and_runs_once_at_a_time() -> None:
    nightly = DEPLOYMENTS[0]
    (schedule,) = nightly["schedules"]
    assert (schedule["cron"], schedule["timezone"]) == ("{{ $ETL_CRON }}", "{{ $ETL_TIMEZONE }}")
    # A night that is due while somebody's dry run is running must not be cancelled for it.
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert schedule["parameters"]["options"] == {**nightly["parameters"]["options"], "dry_run": False}
    assert nightly["parameters"]["options"]["as_of"] == "midnight"


def test_every_form_is_opened_as_a_dry_run_and_only_schedules_write() -> None:
    for deployment in DEPLOYMENTS:
        if deployment["name"] not in ("doctor", "compare"):  # which write nothing of the project's
            assert deployment["parameters"]["options"]["dry_run"] is True
        for schedule in deployment.get("schedules", []):
            assert schedule["parameters"]["options"]["dry_run"] is False


def test_the_parameters_of_a_schedule_pass_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for deployment in DEPLOYMENTS:
        flow: Flow[..., Any] = load_flow_from_entrypoint(deployment["entrypoint"])
        for schedule in deployment.get("schedules", []):
            assert validate(schedule["parameters"], flow.parameters.model_dump_for_openapi()) == []
