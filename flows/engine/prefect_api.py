"""Prefect's API as a command needs it: when it does not answer, a person gets a sentence with its address."""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectHTTPStatusError, TerminationSignal
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.engine.declare import ENDS, STARTS
from tasks.errors import ConfigurationError, PipelineError, ServiceUnavailable, TerminalError
from tasks.settings.environment import without_user

F = TypeVar("F")
R = TypeVar("R")
logger = logging.getLogger(__name__)

# What Prefect's own client says, as a RuntimeError without a type of its own.
_AWAY = ("Failed to reach API at", "Timed out while attempting to connect")
_OTHER_VERSION = "Found incompatible versions"
_SERVER = "start its server, or unset the variable: no server is needed for a command."


@contextmanager
def prefect_answering() -> Iterator[None]:
    """What Prefect's client raises when its server does not answer, or refuses, ends the block as a PipelineError.

    A flow that fails for another reason raises its own error.
    """
    starts = len(STARTS)
    with temporary_settings({} if PREFECT_API_URL.value() else {PREFECT_API_URL: None}):  # an empty value is no address
        try:
            yield
        except PipelineError:
            raise
        except TerminationSignal as ended:  # Prefect's own, while a flow runs
            raise KeyboardInterrupt(ended.signal) from None
        except Exception as error:
            if stop := next((e for e in _chain(error) if isinstance(e, KeyboardInterrupt)), None):
                raise stop from None  # Prefect could not record it
            if found := _translated(error, flow_started=len(STARTS) > starts):
                raise found from None
            raise


def answer_of(flow: Callable[[F], R], options: F) -> R:
    """What a flow answers, or raises, also where Prefect's server did not take the end of its run.

    A night that was committed while the server was away, or was set up again, ended as failed, without its run's id.
    """
    ends = len(ENDS)
    try:
        return flow(options)
    except PipelineError:
        raise
    except Exception as error:
        trouble = _translated(error, flow_started=True)
        if trouble is None or len(ENDS) == ends:
            raise
        logger.warning("%s Its page does not say how the run ended.", trouble.message)
    answer: R = ENDS[-1]
    if isinstance(failed := getattr(answer, "data", answer), PipelineError):  # a held run's is in its state
        raise failed
    return answer


def this_flow_run() -> FlowRun | None:
    """The flow run that the caller is a part of; None outside of a flow."""
    context = FlowRunContext.get()
    return context.flow_run if context else None


def start_own_server() -> None:
    """Start the server that Prefect's client would start for itself, where none is set; a second time does nothing.

    Ctrl-C in a terminal goes to it as well, and Prefect would try for a minute to record there that the flow was ended.
    A process starts with the signals blocked that its parent has blocked, so a thread of ours blocks it. The server
    ends with us.
    """
    if PREFECT_API_URL.value():
        return
    _require_home()
    failed: list[Exception] = []

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            get_client(sync_client=True)
        except Exception as error:  # noqa: BLE001 - raised below, where somebody waits
            failed.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(start,), daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _require_home() -> None:
    """Without its folder the server ends at once, and Prefect waits for two minutes before it gives up."""
    home = PREFECT_HOME.value()
    try:
        home.mkdir(parents=True, exist_ok=True)
        writable = os.access(home, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise ConfigurationError(
            f"The folder {home} cannot be written, where this command starts a Prefect server. Nothing was done.",
            remedy="Set PREFECT_HOME to a folder of this account, or PREFECT_API_URL to a server that runs.",
        )


def _translated(error: Exception, *, flow_started: bool) -> PipelineError | None:
    status = next((e for e in _chain(error) if isinstance(e, PrefectHTTPStatusError)), None)
    where, happened, refused = _where(), "", status is not None
    if status is not None:
        happened = f"{where} refused a request with HTTP {status.response.status_code}."
    elif any(isinstance(e, httpx.TransportError) or str(e).startswith(_AWAY) for e in _chain(error)):
        happened = f"{where} does not answer."
    elif str(error).startswith(_OTHER_VERSION):
        happened, refused = f"{where} cannot be used: {error}", True
    if not happened:
        return None
    if flow_started:
        return ServiceUnavailable(
            f"{happened} The flow had begun by then.",
            remedy="The ledger (`etl_runs`) says whether a run was committed; readers never see a partial one.",
        )
    kind = TerminalError if refused else ServiceUnavailable
    return kind(f"{happened} Nothing was read or written.", remedy=_remedy(refused=refused))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _where() -> str:
    url = PREFECT_API_URL.value()
    if not url:
        return "The Prefect server that this command starts for itself"
    return f"Prefect at PREFECT_API_URL ({without_user(url)})"


def _remedy(*, refused: bool) -> str:
    if not PREFECT_API_URL.value():
        return "Start it again when the machine is less busy, or name a server that runs in PREFECT_API_URL."
    if refused:
        return f"Look at PREFECT_API_URL, PREFECT_API_AUTH_STRING and PREFECT_API_KEY, or {_SERVER}"
    return _SERVER[0].upper() + _SERVER[1:]
