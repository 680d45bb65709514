"""What is read of the environment and of `.env` before there are settings, and before Prefect is imported.

Prefect reads both when it is imported, `.env` in the same folder as ours, and the environment wins there, too.
"""

from __future__ import annotations

import io
import os
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from tasks.errors import SettingsError
from tasks.settings.network import require_usable_network
from tasks.settings.prefect_values import require_prefect_values

FILE, ENCODING = ".env", "utf-8-sig"  # editors on Windows begin it with a byte order mark
SERVER = "PREFECT_API_URL"
# For every process of Prefect's: no telemetry, no promotion, and our lines of log on the run's page.
EVERYWHERE = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,tasks",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # threads of ours log too
    "DO_NOT_TRACK": "1",
}
_OF_ANY_VALUE = {SERVER, "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY", "PREFECT_HOME", "PREFECT_PROFILE"}
# For a command, which starts a server of its own where none is set: on a busy machine that takes longer than 20 s.
OF_COMMANDS = {**EVERYWHERE, "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}


def file_values() -> dict[str, str | None]:
    """The names and values of `.env`; none where there is no such file. SettingsError when it cannot be read whole."""
    try:
        text = Path(FILE).read_text(encoding=ENCODING) if Path(FILE).is_file() else ""
    except UnicodeDecodeError:
        raise SettingsError("The file .env is not in UTF-8.", remedy="Save it as UTF-8; nothing was started.") from None
    except OSError as error:
        raise SettingsError(
            f"The file .env cannot be read: {error.strerror}.", remedy="Let this user read it, or take it away."
        ) from None
    wrong = [statement.original.line for statement in parse_stream(io.StringIO(text)) if statement.error]
    if wrong:
        lines = f"line{'s' if len(wrong) > 1 else ''} {', '.join(map(str, wrong))}"
        raise SettingsError(
            f"The file .env cannot be understood at {lines}: most likely a quote is not closed.",
            remedy="Correct it; nothing was started.",
        )
    return dotenv_values(stream=io.StringIO(text))


def value_of(name: str) -> str:
    """What the environment says, else `.env`; an empty value is one that is not set. SettingsError as of the file."""
    return said_in(os.environ, name) or said_in(file_values(), name) or ""


def said_in(values: Mapping[str, str | None], name: str) -> str | None:
    """The value of a variable without its ends; None where it is not named. As for settings, also in small letters."""
    found = [value for of, value in values.items() if of.upper() == name]
    return (found[-1] or "").strip() if found else None


def prefect_api_url() -> str:
    """The address of Prefect's API that is set; empty when none is. SettingsError for what is no address."""
    url = value_of(SERVER)
    if url and not re.match("https?://[^/]", url):
        raise SettingsError(
            f"{SERVER} is no address.",
            remedy="It looks like https://prefect.example.org/api. Correct or unset it; nothing was started.",
        )
    return url


def without_user(url: str) -> str:
    """An address as a message may name it: without the user and the password that can stand in it."""
    return re.sub(r"//[^/?#]*@", "//", url)


def _leave_out_ends() -> None:
    """Docker passes the carriage return on that ends a line of a file from Windows; Prefect would ask `…/api\\r`."""
    for name, value in [*os.environ.items()]:
        if name.upper().startswith("PREFECT_"):
            os.environ[name] = value.strip() if name == SERVER else value.rstrip("\r\n")


def _require_home() -> None:
    """Prefect looks for one when it is imported, wherever its own folder is."""
    try:
        Path.home()
    except RuntimeError:
        raise SettingsError(
            f"HOME is not set, and this system knows no account {os.getuid()} that would have a home.",
            remedy="Set HOME to a folder of this account; nothing was started.",
        ) from None


def set_up_commands() -> None:
    """Before Prefect is imported: what holds for every command, unless the environment says otherwise.

    SettingsError when `.env` cannot be read: Prefect would end in a traceback, or report each line 324 times. So for a
    proxy, certificates or an address of Prefect's API that cannot be used, and for a value that Prefect refuses.
    """
    _leave_out_ends()
    _require_home()
    values = file_values()
    require_usable_network()
    prefect_api_url()
    for name, value in OF_COMMANDS.items():
        os.environ.setdefault(name, value)
    if not os.environ.get(SERVER, "").strip():
        os.environ.pop(SERVER, None)  # Prefect would take it for the address of a server
    first = next(iter(values), "")
    if first.startswith("PREFECT_") and Path(FILE).read_bytes().startswith(BOM_UTF8):
        os.environ.setdefault(first, values[first] or "")  # Prefect would read it as a part of this name
    given = {name.upper(): value for name, value in {**values, **os.environ}.items()}
    of_prefect = {name: value for name, value in given.items() if name.startswith("PREFECT_")}
    if any(of_prefect[name] != OF_COMMANDS.get(name) for name in of_prefect.keys() - _OF_ANY_VALUE):
        require_prefect_values(of_prefect)  # it imports Prefect, which not every command needs
