"""Where alerts go, by the settings: addresses for Apprise, the library with which Prefect sends its notifications.

Plain functions of the settings: `deploy.alerts` gives the addresses to Prefect, the doctor looks at them.
"""

from __future__ import annotations

import re
import smtplib
import ssl
import warnings
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from tasks.settings import Settings

SLACK, SENDGRID, SMTP = "nightly-alerts", "nightly-alerts-email", "nightly-alerts-smtp"  # Prefect's blocks
_ADDRESS = re.compile(r"^[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>.]+$")
_HOST = re.compile(r"[\w.-]+|(?=.*:.*:)[0-9A-Fa-f:.]+")  # a name, or an address, of IPv6 too
_MODES = {"starttls": "starttls", "tls": "ssl", "none": "insecure"}


def channels(settings: Settings) -> dict[str, str]:
    """Name of the block to the Apprise address that holds its secrets. Settings with `problems` give none for these."""
    found = {SLACK: settings.alert_slack_webhook.get_secret_value()}
    if settings.alert_email and settings.alert_smtp_host:
        found[SMTP] = _smtp_address(settings)
    if settings.alert_email and settings.alert_sendgrid_key.get_secret_value():
        key, sender = settings.alert_sendgrid_key.get_secret_value(), sender_of(settings)
        found[SENDGRID] = f"sendgrid://{quote(key, safe='')}:{quote(sender)}/{quote(settings.alert_email)}"
    return {name: address for name, address in found.items() if address}


def sender_of(settings: Settings) -> str:
    """Whom the mails come from."""
    return settings.alert_email_from or settings.alert_email


def _smtp_address(settings: Settings) -> str:
    user, password = settings.alert_smtp_user, settings.alert_smtp_password.get_secret_value()
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    scheme = "mailto" if settings.alert_smtp_security == "none" else "mailtos"
    options = {
        "smtp": settings.alert_smtp_host,
        "from": sender_of(settings),
        "to": settings.alert_email,
        "mode": _MODES[settings.alert_smtp_security],
    }
    return f"{scheme}://{login}{settings.alert_smtp_host}:{settings.alert_smtp_port}?{urlencode(options)}"


def problems(settings: Settings) -> list[str]:
    """What is wrong with the alert settings, a sentence each, without their values."""
    return [*_webhook_problems(settings), *_mail_problems(settings)]


def _webhook_problems(settings: Settings) -> list[str]:
    webhook = settings.alert_slack_webhook.get_secret_value()
    if not webhook or _notifiable(webhook):
        return []
    return ["ETL_ALERT_SLACK_WEBHOOK is no webhook: it looks like https://hooks.slack.com/services/T…/B…/…."]


def _notifiable(address: str) -> bool:
    with warnings.catch_warnings():  # it imports a module that Python 3.13 drops
        warnings.simplefilter("ignore", DeprecationWarning)
        from apprise import Apprise  # takes a moment, and few commands need it

        return bool(Apprise().add(address))


def _mail_problems(settings: Settings) -> list[str]:
    found = []
    named: Mapping[str, str] = {"ETL_ALERT_EMAIL": settings.alert_email, "ETL_ALERT_EMAIL_FROM": sender_of(settings)}
    found += [f"{name} is no e-mail address." for name, value in named.items() if value and not _ADDRESS.match(value)]
    ways = [settings.alert_smtp_host, settings.alert_sendgrid_key.get_secret_value()]
    if settings.alert_email and not any(ways):
        found.append(
            "ETL_ALERT_EMAIL has nothing to send through: set ETL_ALERT_SMTP_HOST (any mail server) or "
            "ETL_ALERT_SENDGRID_KEY."
        )
    if any(ways) and not settings.alert_email:
        found.append("ETL_ALERT_EMAIL is not set: say who gets the mails.")
    if settings.alert_smtp_host and not _HOST.fullmatch(settings.alert_smtp_host):
        found.append("ETL_ALERT_SMTP_HOST is no host alone, like smtp.example.org: the port is ETL_ALERT_SMTP_PORT.")
    if bool(settings.alert_smtp_user) != bool(settings.alert_smtp_password.get_secret_value()):
        found.append("ETL_ALERT_SMTP_USER and ETL_ALERT_SMTP_PASSWORD belong together: set both, or neither.")
    if settings.alert_smtp_user and settings.alert_smtp_security == "none":
        found.append("ETL_ALERT_SMTP_SECURITY=none would send the password in plain text: set starttls or tls.")
    return found


def try_smtp(settings: Settings, *, seconds: float = 10) -> str | None:
    """Connect and sign in to the mail server, and send nothing. None when that works, else what happened."""
    host, port = settings.alert_smtp_host, settings.alert_smtp_port
    context = ssl.create_default_context()
    try:
        if settings.alert_smtp_security == "tls":
            with smtplib.SMTP_SSL(host, port, timeout=seconds, context=context) as server:
                _sign_in(server, settings)
            return None
        with smtplib.SMTP(host, port, timeout=seconds) as server:
            if settings.alert_smtp_security == "starttls":
                server.starttls(context=context)
            _sign_in(server, settings)
    except smtplib.SMTPAuthenticationError:
        return f"{host}:{port} does not take ETL_ALERT_SMTP_USER and ETL_ALERT_SMTP_PASSWORD."
    except smtplib.SMTPNotSupportedError:
        return f"{host}:{port} offers no STARTTLS: see ETL_ALERT_SMTP_SECURITY and ETL_ALERT_SMTP_PORT."
    except (OSError, smtplib.SMTPException) as error:
        return f"{host}:{port} does not answer as a mail server ({type(error).__name__})."
    return None


def _sign_in(server: smtplib.SMTP, settings: Settings) -> None:
    if settings.alert_smtp_user:
        server.login(settings.alert_smtp_user, settings.alert_smtp_password.get_secret_value())
