"""Values that Prefect refuses for a setting of its own: its import ends in a traceback over them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import redirect_stderr
from typing import TYPE_CHECKING

from pydantic import AliasChoices, ValidationError

from tasks.errors import SettingsError, said_of

if TYPE_CHECKING:
    from prefect.settings.base import PrefectBaseSettings


def require_prefect_values(given: Collection[str]) -> None:
    """SettingsError for a value that Prefect refuses. given: the variables that are set, as some have several names."""
    said = io.StringIO()
    with redirect_stderr(said):  # where it refuses one, Prefect prints pydantic's message on import; it keeps no stream
        refused = _refused(given)
    if refused:
        raise SettingsError(
            f"Prefect refuses {refused}.",
            remedy="Correct or unset the variable, in the environment or in .env; nothing was started.",
        )
    sys.stderr.write(said.getvalue())


def _refused(given: Collection[str]) -> str:
    """What Prefect refuses, and why; empty where it takes everything."""
    from prefect.settings import Settings
    from pydantic_settings.exceptions import SettingsError as NotParsed

    try:
        Settings()
    except ValidationError as error:
        return "; ".join(
            f"{_variable(problem['loc'], error.title, given)}: {said_of(problem)}"
            for problem in error.errors()
            if problem["type"] != "default_factory_not_called"  # it follows from another
        )
    except NotParsed as error:  # a value that has to be JSON; the message names no model
        field = re.findall('"(.+?)"', str(error))[:1]
        return f"{_variable(tuple(field), '', given)}: This is no JSON"
    return ""


def _variable(loc: tuple[int | str, ...], title: str, given: Collection[str]) -> str:
    """The variable that was set; where the problem is that of several, its message names them."""
    from prefect.settings.base import PrefectBaseSettings

    models = [model for model in _below(PrefectBaseSettings) if title in ("", model.__name__)]
    names = [name for field in loc[:1] for model in models for name in _names(model, str(field))]
    return [*filter(given.__contains__, names), *names, "its settings"][0]


def _below(model: type[PrefectBaseSettings]) -> Iterator[type[PrefectBaseSettings]]:
    for child in model.__subclasses__():
        yield child
        yield from _below(child)


def _names(model: type[PrefectBaseSettings], field: str) -> list[str]:
    """The variables that Prefect reads a setting from, the one that it documents first."""
    if field not in model.model_fields:
        return []
    alias = model.model_fields[field].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else []
    return [name.upper() for name in choices if isinstance(name, str)] or [
        f"{model.model_config.get('env_prefix')}{field}".upper()
    ]
