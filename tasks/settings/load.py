"""Settings of this process, or a sentence that names each variable that is wrong."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from tasks.errors import SettingsError, said_of
from tasks.settings.environment import file_values
from tasks.settings.model import Settings

LOCAL_PROJECT = Path("data/local/project.env")
_OTHER_NAMES = frozenset({"ETL_CODE_VERSION", "ETL_PROJECT_DIR"})  # read before there are settings


def load_settings(**overrides: object) -> Settings:
    """The settings of this process; a wrong one is a SettingsError that names the variable, never its value."""
    require_known_names()
    settings = any_settings(**overrides)
    _require_project(settings)
    return settings.scaled()


def settings_over(transport: str) -> Settings:
    """As `load_settings`, for a run over this transport; `auto` leaves it to the settings."""
    return load_settings() if transport == "auto" else load_settings(transport=transport)


def any_settings(**overrides: object) -> Settings:
    """The same, whether or not they name a project."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{variable(e['loc'])}: {said_of(e)}" for e in error.errors())
        raise SettingsError(
            f"The settings are not usable: {problems}.", remedy="Correct them in the environment or in .env."
        ) from None


def require_known_names() -> None:
    """SettingsError for an ETL_* name in the environment or .env that is no setting: most likely a typo."""
    known = {f"ETL_{name.upper()}" for name in Settings.model_fields} | _OTHER_NAMES
    given = {name.upper() for name in (*os.environ, *file_values()) if name.upper().startswith("ETL_")}
    unknown = sorted(given - known)
    if unknown:
        nearest = [(name, get_close_matches(name, known, n=1)) for name in unknown]
        said = "; ".join(f"{name}" + (f" (do you mean {near[0]}?)" if near else "") for name, near in nearest)
        raise SettingsError(
            f"There is no such setting: {said}.", remedy="Correct or remove it in the environment or in .env."
        )


def reader_settings() -> Settings:
    """The settings of someone who only reads: those of the environment and .env, else the local stack's.

    The local stack leaves its address and keys where only its owner can read them. SettingsError as of `load_settings`.
    """
    try:
        settings = any_settings()
    except (UnicodeDecodeError, OSError):
        file_values()  # says so
        raise
    if settings.supabase_url:
        return settings
    try:
        return any_settings(_env_file=(LOCAL_PROJECT, ".env")) if LOCAL_PROJECT.exists() else settings
    except OSError as error:
        raise SettingsError(
            f"SUPABASE_URL is not set, and the local stack of this folder is another account's: {LOCAL_PROJECT} cannot "
            f"be read ({error.strerror}).",
            remedy="Set SUPABASE_URL and a key in the environment, or use a clone of your own.",
        ) from None


def variable(loc: tuple[int | str, ...]) -> str:
    """The name in the environment of a setting that pydantic reports."""
    name = str(loc[0]) if loc else "settings"
    return name.upper() if name.lower().startswith(("supabase", "prefect")) else f"ETL_{name.upper()}"


def _require_project(settings: Settings) -> None:
    missing = [name for name, value in _required(settings) if not value]
    if settings.resolved_transport == "postgres" and not settings.supabase_db_url.get_secret_value():
        missing.append("SUPABASE_DB_URL")
    if missing:
        raise SettingsError(
            f"{' and '.join(missing)} not set.",
            remedy=f"Set {'it' if len(missing) == 1 else 'them'} in the environment or in .env. "
            "Without SUPABASE_URL `make run` uses a local stack.",
        )


def _required(settings: Settings) -> list[tuple[str, str]]:
    """What has to be set, by the identity that the settings choose (tasks/platform/identity.py)."""
    password, token = settings.password.get_secret_value(), settings.access_token.get_secret_value()
    if not (token or settings.email or password):
        return [
            ("SUPABASE_URL", settings.supabase_url),
            ("SUPABASE_SERVICE_KEY", settings.supabase_service_key.get_secret_value()),
        ]
    needed = [("SUPABASE_URL", settings.supabase_url), ("SUPABASE_KEY", settings.supabase_key.get_secret_value())]
    return needed if token else [*needed, ("ETL_EMAIL", settings.email), ("ETL_PASSWORD", password)]
