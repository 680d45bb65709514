"""A stage of a run as a Prefect task: timed, with progress, its lease checked, its errors in a sentence."""

from __future__ import annotations

import functools
import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext

from flows.engine.evidence import keep_traceback
from flows.engine.progress import Meter, shown
from tasks.errors import ConfigurationError, PipelineError, TerminalError
from tasks.settings import Settings
from tasks.workspace import DISK_REMEDY, disk_problem

P = ParamSpec("P")
R = TypeVar("R")
logger = logging.getLogger(__name__)


class StageRun(Protocol):
    """What a stage needs of a run, apart from its own business."""

    @property
    def folder(self) -> Path: ...
    def enter(self, title: str) -> None: ...
    def leave(self, title: str, seconds: float) -> None: ...


def stage(title: str) -> Callable[[Callable[Concatenate[Any, Meter, P], R]], Callable[Concatenate[Any, P], R]]:
    """Make a function `(run, progress, *earlier results)` a task `(run, *earlier results)` named `title`.

    Inside a flow it is a task; inside a task of a flow, and outside of both, a plain function.
    """

    def decorate(function: Callable[Concatenate[Any, Meter, P], R]) -> Callable[Concatenate[Any, P], R]:
        @functools.wraps(function)
        def run_stage(run: StageRun, *args: P.args, **kwargs: P.kwargs) -> R:
            run.enter(title)
            started = time.monotonic()
            try:
                with shown(title) as progress:
                    return function(run, progress, *args, **kwargs)
            except PipelineError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, its text may hold data: see `unexpected`
                raise unexpected(title, error, run.folder.name) from None
            finally:
                run.leave(title, time.monotonic() - started)

        vars(run_stage).pop("__wrapped__")  # Prefect reads the signature: `progress` is no parameter
        as_task = cast(
            Callable[Concatenate[Any, P], R], task(name=title, cache_policy=NO_CACHE, persist_result=False)(run_stage)
        )

        def call(run: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
            inside_flow = FlowRunContext.get() and not TaskRunContext.get()
            return (as_task if inside_flow else run_stage)(run, *args, **kwargs)

        functools.update_wrapper(call, run_stage)
        return call

    return decorate


def unexpected(title: str, error: Exception, name: str) -> TerminalError:
    """A defect of ours as an error that repeats nothing of a row: libraries quote values in their messages.

    name: of the file that keeps its traceback, without any value, longer than the run's folder lives. What is the
    machine's (a full or read-only disk, a folder without rights) is no defect, and a ConfigurationError.
    """
    if problem := disk_problem(error):
        return ConfigurationError(f"{title}: {problem}.", remedy=DISK_REMEDY)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    try:
        kept = f"Its traceback, without values, is in {keep_traceback(error, Settings().data_dir, name)}."
    except (OSError, ValueError):
        kept = "Its traceback could not be kept: ETL_DATA_DIR cannot be written."
    return TerminalError(
        f"{title}: unexpected {type(error).__name__} at {where}.",
        remedy=f"This is a defect: please report it. {kept}",
    )
