"""How every flow of ours is declared: its logging, and the `failure` artifact that each bad end leaves.

The artifact comes from Prefect's hooks, so that nothing can end without it: an error in the flow, a wrong parameter
before the flow begins, a cancelled run, a process that died.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast, get_type_hints

from prefect import Flow, Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ParameterTypeError

from flows.engine import run_page
from flows.engine.logs import configure_logging
from flows.engine.markdown import inert
from flows.engine.stage import unexpected
from flows.forms import Form
from tasks.errors import PipelineError, in_words

P = ParamSpec("P")
R = TypeVar("R")
KEY = "failure"
STARTS: list[str] = []  # names of the flows that this process has started, once for each of their runs
ENDS: list[Any] = []  # their outcomes: answers, or the errors that they raised
HELD = "Held"  # the name of the state of a run that waits for a person; its type is Cancelled, as it did not fail
NOT_BEGUN = "Nothing: the run did not begin."
UNTIL_THEN = "What the stages before had written; the ledger (`etl_runs`) says whether the run was committed."


def etl_flow(*, name: str, run_name: str | Callable[[], str]) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Like `prefect.flow`, with logging set up when it starts and a `failure` artifact at every bad end."""

    def declare(function: Callable[P, R]) -> Flow[P, R]:
        made: Any = flow(
            name=name,
            flow_run_name=run_name,
            persist_result=False,
            on_running=[set_up_logging],
            on_failure=[explain],
            on_cancellation=[explain],
            on_crashed=[explain],
        )
        return cast(Flow[P, R], made(_noting(_masking(name, function))))

    return declare


def etl_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Like `prefect.task`, without cache or stored result; a defect in it repeats nothing of a row."""

    def declare(function: Callable[P, R]) -> Task[P, R]:
        made: Any = task(name=name, cache_policy=NO_CACHE, persist_result=False)
        return cast(Task[P, R], made(_masking(name, function)))

    return declare


def _masking(name: str, function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose unexpected errors are ours: Prefect stores and logs the text of every error."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except PipelineError:
            raise
        except Exception as error:  # noqa: BLE001 - its text may hold data: see `unexpected`
            raise unexpected(name.capitalize(), error, name.replace(" ", "-")) from None

    # Prefect evaluates annotations in the module of the function that it is given, which is this one.
    vars(run).update(__signature__=inspect.signature(function, eval_str=True))
    run.__annotations__ = get_type_hints(function)
    return run


def _noting(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which leaves its outcome in ENDS: Prefect's server may not be there to hear of it."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            answer = function(*args, **kwargs)
        except PipelineError as error:
            ENDS.append(error)
            raise
        ENDS.append(answer)
        return answer

    return run


def set_up_logging(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook: the run starts."""
    STARTS.append(flow.name)
    configure_logging()


def explain(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook: the run ended badly; says so in the artifact `failure`, unless the flow has said it already.

    A run that somebody tries again in the UI has an artifact for each try.
    """
    with get_client(sync_client=True) as client:
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
        same = ArtifactFilter(key=ArtifactFilterKey(any_=[KEY]))
        said = client.read_artifacts(artifact_filter=same, flow_run_filter=mine)
        tries = client.read_flow_run(flow_run.id).run_count
        if len(said) >= max(1, tries):
            return
        page = unknown_parameters(flow, flow_run, state) or failure_page(flow.name, state, has_begun=tries > 0)
        page += f"\n\nThis was try {tries} of the run." if said else ""
        about = "What happened, and what to do next."
        client.create_artifact(
            ArtifactCreate(key=KEY, type="markdown", description=about, data=page, flow_run_id=flow_run.id)
        )


def unknown_parameters(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> str:
    """Markdown for a run that ended since it was given parameters which its flow does not have; else empty.

    Prefect ends the process of such a run before it begins. Its server refuses them, unless whoever starts the run
    asks it not to look.
    """
    known = [*inspect.signature(flow.fn).parameters]
    unknown = [name[:40] for name in flow_run.parameters if name not in known]
    if not unknown or not (state.is_crashed() or state.is_failed()):
        return ""
    happened = f"`{flow.name}` has no parameter {', '.join(unknown)}; it has {', '.join(known)}."
    return _page("Refused", happened, NOT_BEGUN, "Correct it and start again.")


def failure_page(name: str, state: State[Any], *, has_begun: bool = True) -> str:
    """Markdown for a bad end: what happened, what was written, what to do next. has_begun: the run, before it ended."""
    until_then = UNTIL_THEN if has_begun else NOT_BEGUN
    if state.is_cancelling() or (state.is_cancelled() and state.name != HELD):
        again = _again(name) if has_begun else f"Start `{name}` again when it is wanted."
        return _page("Cancelled", "Someone cancelled this run.", until_then, again)
    if state.is_crashed():
        return _page("Crashed", "The process of this run ended without a word.", until_then, _after_crash(name))
    error = _error(state)
    if isinstance(error, ParameterTypeError):
        return _page("Refused", problems(error), NOT_BEGUN, "Correct it and start again.")
    if isinstance(error, PipelineError):
        written = error.written or "Nothing."
        run_id = error.run_id or None
        return run_page.failure_page(error, stage=error.stage or name, written=written, run_id=run_id, flow=name)
    return run_page.failure_page(error or RuntimeError(), stage=name, written=UNTIL_THEN, flow=name)


def problems(error: ParameterTypeError) -> str:
    """What was wrong with the form, a sentence a field."""
    lines = [line.strip(" -") for line in str(error).splitlines()[1:]]
    return " ".join(re.sub(r"^options\.?(\w*)\S*: (.+)", _problem, line) for line in lines if line)


def _problem(found: re.Match[str]) -> str:
    """What was wrong with a field, which has its title here as the form shows it."""
    titles = {name: field.title for form in Form.__subclasses__() for name, field in form.model_fields.items()}
    return (f"{titles.get(found[1]) or found[1]}: " if found[1] else "") + in_words(found[2])


def _page(title: str, happened: str, written: str, remedy: str) -> str:
    parts = (f"# {title}", f"**What happened.** {inert(happened)}", f"**What was written.** {written}")
    return "\n\n".join([*parts, f"**What to do next.** {remedy}"])


def _again(name: str) -> str:
    if name == "nightly":
        return (
            "Nothing, where the ledger says `committed`: readers see the run. Otherwise start `nightly` with *As of* "
            "set to `resume` to go on, or wait for the next schedule."
        )
    return f"Start `{name}` again when it is wanted."


def _after_crash(name: str) -> str:
    if name == "nightly":
        return "Nothing at first: it starts again after 3 minutes, at most twice. After that start it with `resume`."
    return f"See whether the worker's machine has enough memory and disk, then start `{name}` again."


def _error(state: State[Any]) -> BaseException | None:
    """The exception of a failed state that is still in this process."""
    result = getattr(state.data, "result", state.data)
    return result if isinstance(result, BaseException) else None
