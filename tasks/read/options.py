"""What a reader may ask for: named options, each wrong one answered with the right ones."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal, TypedDict, get_args

import pyarrow as pa

from tasks.contracts import REPORTS, TABLES, Report, Table
from tasks.errors import DAY, ConfigurationError
from tasks.files.layout import day_of
from tasks.settings import Settings, reader_settings

AsOf = date | datetime | str
Filters = Sequence[tuple[str, str, Any]] | Sequence[Sequence[tuple[str, str, Any]]]
Engine = Literal["pandas", "arrow", "polars"]
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}($|[T ])")
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


class Access(TypedDict, total=False):
    """As whom, and of which project.

    access_token: of a signed-in analyst. settings: others than those of the environment.
    """

    access_token: str | None
    settings: Settings | None


class Choice(Access, total=False):
    """Which run, as whom.

    as_of: a day (`2026-01-31`: the run whose reports end with it, that is, cover whole days up to and including it; a
    run with `--as-of 2026-02-01` makes it) or the run's own as_of, an instant with its zone (`2026-02-01T00:00Z`).
    run: a run's id or path, as `list_runs` gives them. Neither: the latest run.
    """

    as_of: AsOf | None
    run: str | None


class Part(TypedDict, total=False):
    """Which part of a report or table.

    columns: only these, in this order; what is named twice is there once, and `[]` selects none. filters: only rows
    that match, as pyarrow takes them: `[("posts", ">", 10)]`. None of either: everything.
    """

    columns: Iterable[str] | None
    filters: Filters | None


class Options(Choice, Part, total=False):
    """Which run, which part of it, as whom: see `Choice`, `Part` and `Access`."""


def check_options(function: str, options: Mapping[str, Any], kind: type, *named: str) -> None:
    """TypeError, as Python raises it, for an option that there is not; it names the nearest one.

    kind: the TypedDict of the options; named: further parameters of the function.
    """
    known = sorted([*kind.__annotations__, *named])
    for name in options:
        if name not in kind.__annotations__:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}."
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}. {hint}")


def settings_of(settings: Settings | None) -> Settings:
    """The settings that were given, else a reader's own. ConfigurationError for what is none, and for wrong ones."""
    if settings is None:
        return reader_settings()
    if not isinstance(settings, Settings):
        raise ConfigurationError(
            f"settings is of type {type(settings).__name__}, not Settings.",
            remedy="Leave it out, to read as the environment and .env say; or give tasks.settings.Settings(…).",
        )
    return settings


def check_engine(engine: str) -> None:
    """ConfigurationError for an engine that there is not, or that is not installed."""
    if engine not in get_args(Engine):
        raise ConfigurationError(f"There is no engine {engine!r}.", remedy=f"They are {', '.join(get_args(Engine))}.")
    if engine == "polars" and not _has_polars():
        raise ConfigurationError(
            "The engine 'polars' needs Polars, which is not installed here.",
            remedy="`pip install polars` installs it; the engines pandas and arrow need nothing more.",
        )


def _has_polars() -> bool:
    try:
        import polars  # noqa: F401 - optional: only who asks for it needs it
    except ImportError:
        return False
    return True


def report_named(name: str) -> Report:
    """The declaration of a report; ConfigurationError names those there are."""
    for report in REPORTS:
        if report.name == name:
            return report
    raise ConfigurationError(
        f"There is no report {name!r}.", remedy=f"The reports are {', '.join(r.name for r in REPORTS)}."
    )


def table_named(name: str) -> Table:
    """The declaration of a cleaned table; ConfigurationError names those there are."""
    for table in TABLES:
        if table.name == name:
            return table
    raise ConfigurationError(
        f"There is no cleaned table {name!r}.", remedy=f"They are {', '.join(t.name for t in TABLES)}."
    )


def checked_months(table: Table, months: Iterable[str] | None) -> list[str] | None:
    """The months asked for, each once; ConfigurationError for a table without months, or for what is not a month."""
    if months is None:
        return None
    if table.by_month is None:
        raise ConfigurationError(f"The files of {table.name} are not split by month.", remedy="Leave out `months`.")
    wanted = _texts("months", months, example='["2026-01"]')
    if wrong := [month for month in wanted if not _MONTH.fullmatch(month)]:
        raise ConfigurationError(f"{wrong[0]!r} is not a month.", remedy="A month looks like 2026-01.")
    return wanted


def checked_columns(
    what: str, columns: Iterable[str] | None, schema: pa.Schema, *, as_declared: bool = True
) -> list[str] | None:
    """The columns asked for, each once; ConfigurationError for those that the contract does not have.

    Where files are not as_declared now, they say themselves which columns they have.
    """
    if columns is None:
        return None
    wanted = _texts("columns", columns, example=f'["{schema.names[0]}"]')
    if as_declared and (unknown := [column for column in wanted if column not in schema.names]):
        raise ConfigurationError(
            f"{what} has no column {', '.join(map(repr, unknown))}.", remedy=f"It has {', '.join(schema.names)}."
        )
    return wanted


def _texts(option: str, values: Iterable[str], *, example: str) -> list[str]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigurationError(f"`{option}` is {values!r}; it is a list.", remedy=f"As in {option}={example}.")
    texts = list(values)
    if wrong := [value for value in texts if not isinstance(value, str)]:
        raise ConfigurationError(f"`{option}` holds {wrong[0]!r}, which is not text.", remedy=f"As in {example}.")
    return list(dict.fromkeys(texts))


def checked_filters(filters: Filters | None) -> Filters | None:
    """The filters, to be applied to each file; what is wrong with them is seen then."""
    return list(filters) if isinstance(filters, Iterator) else filters


def checked_number(option: str, value: int) -> int:
    """How many of something, of any integer type; ConfigurationError for what is not one of at least 1."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ConfigurationError(f"{option} is {value!r}; it is a whole number of at least 1.")
    return number


def not_a_number(value: Any, like: str = DAY) -> Any:
    """A day or an instant that is still to be parsed; ValueError for a number, which pydantic takes for Unix time."""
    try:
        float(value)
    except (TypeError, ValueError):
        return value
    raise ValueError(f"This is no {like}.")


def is_as_of(text: str) -> bool:
    """Whether a text is a day or an instant, not a run's id or path."""
    return _INSTANT.match(text) is not None


def choice_of(run: AsOf | None, access: Access) -> Choice:
    """A choice from one value: a run's id or path, a day or an instant; None is the latest run."""
    choice = Choice(access_token=access.get("access_token"), settings=access.get("settings"))
    if isinstance(run, date) or (isinstance(run, str) and is_as_of(run)):
        choice["as_of"] = run
    elif isinstance(run, str):
        choice["run"] = run
    elif run is not None:
        raise ConfigurationError(f"A run is {run!r}.", remedy="Give its id or path as text, or a day or an instant.")
    return choice


def parse_as_of(as_of: AsOf) -> date | datetime:
    """A day, or an instant in UTC. ConfigurationError says what is wrong with anything else."""
    if isinstance(as_of, str):
        as_of = _parse_text(as_of)
    if not isinstance(as_of, date):
        raise ConfigurationError(f"as_of is {as_of!r}; it is a day or an instant, as in ISO 8601.")
    if not isinstance(as_of, datetime):
        return as_of
    if as_of.tzinfo is None:
        raise ConfigurationError(f"as_of {as_of} has no time zone.", remedy="Add Z for UTC, or an offset.")
    try:
        day_of(as_of)
        return as_of.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"as_of {as_of} is outside the years 1 to 9999 in UTC.") from None


def _parse_text(text: str) -> date:
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"as_of is {text!r}; it is a day or an instant, as in ISO 8601.") from None
