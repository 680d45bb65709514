"""The settings of the schedule and of the alerts."""

from __future__ import annotations

import re
from typing import Literal
from zoneinfo import available_timezones

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from tasks.settings.fields import Email

CRON = "0 3 * * *"
_NO_PLACE = ("localtime", "Factory")  # beside the zones on many a machine: that of the machine, and one not set yet


class ScheduleSettings(BaseSettings):
    """When the nightly runs, and where its alerts go."""

    cron: str = CRON
    timezone: str = "UTC"
    alert_slack_webhook: SecretStr = SecretStr("")
    alert_email: Email = Field(default="", description="Who gets alerts by e-mail, through SMTP or SendGrid.")
    alert_email_from: Email = Field(default="", description="Their sender; empty takes alert_email.")
    alert_sendgrid_key: SecretStr = SecretStr("")
    alert_smtp_host: str = Field(default="", description="Any mail server; no account with a vendor is needed.")
    alert_smtp_port: int = Field(default=587, ge=1, le=65_535)
    alert_smtp_user: str = ""
    alert_smtp_password: SecretStr = SecretStr("")
    alert_smtp_security: Literal["starttls", "tls", "none"] = "starttls"

    @field_validator("alert_slack_webhook")
    @classmethod
    def _is_webhook(cls, value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        if given and (given.startswith("http://") or "://" not in given):  # other schemes are Apprise's
            raise ValueError("must start with https://")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        if value in _NO_PLACE:
            raise ValueError("is another time on each machine, not a time zone; they look like America/New_York")
        if value != "UTC" and value not in available_timezones():  # the list costs a walk through all its files
            raise ValueError("is no time zone; they look like America/New_York")
        return value

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        # H and R, a time by hash or by chance, are croniter's own: Prefect has no such schedule.
        of_five = re.fullmatch(r"(\S+ +){4}\S+", value.strip()) and not re.search(r"[^\w*/,#? -]|\b[HR]\b", value, re.I)
        if not of_five or (value != CRON and not _comes(value)):
            raise ValueError("is no cron expression of a time that there is; 0 3 * * * is every day at three")
        return value


def _comes(cron: str) -> bool:
    """Whether there is such a time: none is at 24:00, nor on 30 February. By what a watch reads the schedule with."""
    from croniter import CroniterError, croniter  # slow to import: most schedules are the default

    try:
        croniter(cron).get_next()
    except CroniterError:
        return False
    return True
