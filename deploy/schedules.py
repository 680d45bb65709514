"""The schedules that people have changed on a Prefect server stay so when the deployments are made again.

`prefect deploy` makes each deployment as its file says: it would switch a schedule on again, and throw away its time,
its options and every schedule made by hand. So its file says what the server has, but for what the settings name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from flows.forms import Form, NightlyForm, RetentionForm

FORMS: dict[str, type[Form]] = {"nightly": NightlyForm, "retention": RetentionForm}  # those that have a schedule
Deployments = Mapping[str, DeploymentResponse]


def as_on_server(file: Path, known: Deployments, named: frozenset[str]) -> str:
    """The text of prefect.yaml with the schedules that the server has.

    named: which of `cron` and `timezone` the settings name; they win. A schedule that the server lacks stays declared.
    """
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    templates = frozenset(f"{{{{ $ETL_{name.upper()} }}}}" for name in named)
    for deployment in content["deployments"]:
        if found := known.get(deployment["name"]):
            declared = {schedule["slug"]: schedule for schedule in deployment.get("schedules", [])}
            schedules = _recognised(found.schedules, deployment["name"])
            kept = [_kept(deployment["name"], of, declared.pop(of.slug, None), templates) for of in schedules]
            deployment.update(paused=found.paused, schedules=[*kept, *declared.values()])
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)


def _recognised(schedules: list[DeploymentSchedule], slug: str) -> list[DeploymentSchedule]:
    """Ours of the first releases, which had neither slug nor options, as ours; none beside ours at the same time."""
    bare = [of for of in schedules if not of.slug and not of.parameters]
    ours = [of for of in schedules if of.slug == slug]
    if bare and not ours:
        return [of.model_copy(update={"slug": slug}) if of is bare[0] else of for of in schedules]
    at = [of.schedule for of in ours if of.active]  # where somebody has switched ours off of the two, theirs stays
    return [of for of in schedules if of not in bare or of.schedule not in at]


def _kept(name: str, schedule: DeploymentSchedule, declared: Any, templates: frozenset[str]) -> dict[str, Any]:
    """A schedule of the server as prefect.yaml writes it. declared: what that says of it; None of one made by hand."""
    when = schedule.schedule.model_dump(mode="json", exclude_none=True)
    facts = {"active": schedule.active, **({"slug": schedule.slug} if schedule.slug else {})}
    if declared is None:
        return {**when, **facts, "parameters": schedule.parameters}
    if declared["cron"] in templates:
        when = {"cron": declared["cron"], "timezone": when.get("timezone", declared["timezone"])}
    if declared["timezone"] in templates:
        when["timezone"] = declared["timezone"]
    given = schedule.parameters.get("options") or {}  # none where Prefect has lost them: see flows.engine.schedule
    options = {option: value for option, value in given.items() if option in FORMS[name].model_fields}
    return {**when, **facts, "parameters": {"options": {**declared["parameters"]["options"], **options}}}


def timezone_of(known: Deployments) -> str | None:
    """The time zone of the nightly on the server."""
    schedules = known["nightly"].schedules if "nightly" in known else []
    return next((of.schedule.timezone for of in schedules if isinstance(of.schedule, CronSchedule)), None)


def in_words(known: Deployments) -> Iterator[str]:
    """When each deployment that has schedules runs, and which of them are switched off."""
    for name, deployment in known.items():
        for schedule in deployment.schedules:
            off = "" if schedule.active and not deployment.paused else ", switched off"
            yield f"{name} {_when(schedule.schedule)}{off}"


def _when(schedule: object) -> str:
    if isinstance(schedule, CronSchedule):
        return f"at {schedule.cron} ({schedule.timezone or 'UTC'})"
    return f"every {schedule.interval}" if isinstance(schedule, IntervalSchedule) else "by a rule of its own"
