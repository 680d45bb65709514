"""The doctor as a flow: what keeps a run from working, each with its fix, as a table on the run's page."""

from __future__ import annotations

import sys

from prefect import get_run_logger

from flows.engine.artifacts import show_report
from flows.engine.declare import etl_flow
from flows.engine.form_command import run_form
from flows.engine.run_page import table
from flows.forms import DoctorForm
from tasks.doctor import Finding, examine, line, sound
from tasks.errors import ConfigurationError

WORDS = {"ok": "ok", "warn": "**warning**", "fail": "**fails**"}


@etl_flow(name="doctor", run_name="doctor over {options.transport}")
def doctor(options: DoctorForm = DoctorForm()) -> None:  # noqa: B008 - the form is frozen
    """Look at settings, keys, tables, rights, bucket, limits, clock and disk; fail when something must be fixed.

    Args:
        options: What to look at. Nothing that lasts is changed.
    """
    findings = []
    logger = get_run_logger()
    for finding in examine(transport=options.transport, try_upload=options.try_upload):
        logger.log(30 if finding.level == "fail" else 20, line(finding))
        findings.append(finding)
    show_report(page(findings), key="doctor", description="What the doctor found, and what to do.")
    if not sound(findings, strict=options.strict):
        raise ConfigurationError(verdict(findings), remedy="The doctor's report says what to do, what fails first.")


def verdict(findings: list[Finding]) -> str:
    """How many findings of each level, in words."""
    levels = [finding.level for finding in findings]
    warned = levels.count("warn")
    return f"{levels.count('ok')} fine, {warned} warning{'s' * (warned != 1)}, {levels.count('fail')} to fix."


def page(findings: list[Finding]) -> str:
    """The findings as Markdown, what must be fixed first."""
    order = ("fail", "warn", "ok")
    rows = [(WORDS[f.level], f.check, f.what, f.remedy) for f in sorted(findings, key=lambda f: order.index(f.level))]
    return f"# {verdict(findings)}\n\n{table('llll', ['', 'check', 'what', 'what to do'], rows)}"


if __name__ == "__main__":
    sys.exit(run_form(doctor, DoctorForm, "doctor"))
