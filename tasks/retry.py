"""What may be tried again, and how: one policy for every request to the project, so that none hides below another.

Sources: PostgREST's error reference, Supabase's status codes, PostgreSQL's SQLSTATE classes.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol, Self, TypeVar

import httpx

from tasks.arrow.ahead import pause
from tasks.errors import AccessError, RequestRefused, ServiceUnavailable, TransientError
from tasks.platform.remedies import OUTAGE, remedy_for, words_for
from tasks.settings import Settings

T = TypeVar("T")
GiveUp = Callable[[Exception], bool]
logger = logging.getLogger(__name__)

# Of a gateway, an edge or a project that wakes up; 540 is a paused project, which may be restored meanwhile.
TRANSIENT_STATUS = frozenset({408, 429, 502, 503, 504, *range(520, 531), 540, 544})
_SERVER_ERROR = 500  # without a SQLSTATE it is not the database's; every call of ours may be sent twice
_FROM_DATABASE = re.compile(r"[0-9A-Z]{5}|PGRST\w+|SUP")
TRANSIENT_CODES = re.compile(r"40001|40P01|55P03|57P0\d|57014|53\w{3}|08\w{3}|PGRST00[0-3]")
STATEMENT_TIMEOUT = "57014"
# PostgREST's for a function that it does not know: in the seconds after a migration it has not loaded it yet.
NOT_LOADED, RELOADS = "PGRST202", 3
ACCESS_CODES = re.compile(r"42501|28\w{3}|PGRST30\d")
# Which SQLSTATEs have messages that name objects only. Others may quote a value of the row.
NAMES_ONLY = re.compile(r"42\w{3}|23\w{3}|21\w{3}|40\w{3}|57\w{3}|53\w{3}|08\w{3}|3[BDF]\w{3}|PGRST\w+|ET\w{3}")
# How PostgreSQL's own messages for those of a constraint begin; a trigger may raise them with words of its own.
_OF_A_CONSTRAINT = re.compile(
    r"duplicate key value violates|null value in column|new row for relation|conflicting key value violates"
    r"|(insert or update|update or delete) on table"
)
MAX_PAUSE = 30.0


def is_statement_timeout(error: Exception) -> bool:
    """Whether the database ended a statement that took too long: less at once may pass."""
    return getattr(error, "code", None) == STATEMENT_TIMEOUT


class Items(Protocol):
    """What a request carries and can be cut: a list of keys, an Arrow array of rows."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: slice, /) -> Self: ...


Part = TypeVar("Part", bound=Items)


def in_halves(
    send: Callable[[Part, GiveUp | None], T], items: Part, too_much: GiveUp = is_statement_timeout
) -> list[T]:
    """The answers for these items, in their order: one, or those for both halves where it was too much for one request.

    send: sends a part, and does not try again what its second argument knows. For a single item that is None: it is
    tried again like any request, and its error is raised. Parts that answered are not sent again, so what a request
    changes must not depend on how the items are cut.
    """
    single = len(items) <= 1
    try:
        return [send(items, None if single else too_much)]
    except Exception as error:
        if single or not too_much(error):
            raise
    middle = len(items) // 2
    return [*in_halves(send, items[:middle], too_much), *in_halves(send, items[middle:], too_much)]


def classify(
    status: int, code: str | None, message: str, *, retry_after: float | None = None, transient: bool = False
) -> Exception:
    """The error of ours for an answer of the API.

    status: of HTTP, or the real one inside a Storage body; 0 for none. code: SQLSTATE, PGRST… or Storage's word.
    retry_after: seconds the server asks to wait. transient: it is one, whatever its status and code say elsewhere. The
    message comes back masked.
    """
    answer = ", ".join(filter(None, (f"HTTP {status}" if status else "", code))) or "no code"
    text, remedy = f"{masked(code, words_for(status, message))} ({answer})", remedy_for(status, code)
    unsigned = status == _SERVER_ERROR and not _FROM_DATABASE.fullmatch(code or "")
    passing = transient or unsigned or status in TRANSIENT_STATUS
    if TRANSIENT_CODES.fullmatch(code or "") or (passing and not _is_permanent(code)):
        error = ServiceUnavailable(text, remedy=remedy)
        error.retry_after, error.code, error.status = retry_after, code, status
        return error
    if status in (401, 403) or ACCESS_CODES.fullmatch(code or ""):
        refused: RequestRefused = AccessError(text, remedy=remedy)
    else:
        refused = RequestRefused(text, remedy=remedy)
    refused.status, refused.code = status, code
    return refused


def _is_permanent(code: str | None) -> bool:
    """A SQLSTATE of data, constraint or syntax is final whatever the HTTP status says."""
    return bool(re.fullmatch(r"2[0-3]\w{3}|42\w{3}|P0001", code or ""))


def masked(code: str | None, message: str) -> str:
    """A server's whole message without anything of a row: values in quotes and addresses go, a trigger's own words too.

    A value may hold quotes itself, so what lies between the first and the last one goes.
    """
    own_words = code == "P0001" or ((code or "")[:2] == "23" and not _OF_A_CONSTRAINT.match(message))
    if own_words:
        return "a trigger or function refused the row; its own words may hold data and are not repeated"
    if not NAMES_ONLY.fullmatch(code or ""):
        message = re.sub(r"""["'].*["']|["'].*""", '"…"', message, flags=re.DOTALL)
    return re.sub(r"\S+@\S+", "…@…", message).splitlines()[0][:300] if message else "no message"


def parse_retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, in either of its forms (RFC 9110, 10.2.3)."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def network_error(error: httpx.RequestError) -> ServiceUnavailable:
    """The error of ours for a connection that failed, timed out or broke off."""
    url = error.request.url if error._request else None
    where = (f"{url.host}:{url.port}" if url.port else url.host) if url else "the project"
    remedy = f"Is that the address in the dashboard, and in SUPABASE_URL? {OUTAGE}"
    return ServiceUnavailable(f"The connection to {where} failed ({type(error).__name__}).", remedy=remedy)


@dataclass(frozen=True, slots=True)
class Retry:
    """Tries a request again while its failure is transient: exponential pauses with jitter, bounded as a whole.

    base, total: seconds. A Retry-After is honoured as given, as long as the whole allows it.
    """

    attempts: int = 6
    base: float = 0.5
    total: float = 300.0
    sleep: Callable[[float], None] = pause

    @classmethod
    def of(cls, settings: Settings) -> Retry:
        return cls(settings.retries, settings.retry_base, settings.retry_seconds)

    def call(self, request: Callable[[], T], what: str, *, give_up: GiveUp | None = None) -> T:
        """Run `request` until it succeeds; `what` names it in messages. `give_up` ends early on errors it knows."""
        deadline = time.monotonic() + self.total
        for attempt in range(self.attempts + 1):
            try:
                return self._once(request)
            except (TransientError, RequestRefused) as error:
                pause = self._pause(attempt, error)
                last = attempt >= self._retries(error) or time.monotonic() + pause > deadline
                if last or (give_up and give_up(error)):
                    raise _named(error, what, attempt + 1) from None
                logger.warning("%s: %s Try %d in %.1f s.", what, error.message, attempt + 2, pause)
                self.sleep(pause)
        raise AssertionError("unreachable")

    def _retries(self, error: TransientError | RequestRefused) -> int:
        if isinstance(error, TransientError):
            return self.attempts
        return min(self.attempts, RELOADS) if error.code == NOT_LOADED else 0

    def _once(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except (httpx.TransportError, httpx.DecodingError) as error:  # the second: a packed body cut short
            raise network_error(error) from None

    def _pause(self, attempt: int, error: Exception) -> float:
        """Seconds to wait: never less than the server asked for, and not the same for all who wait."""
        ceiling = min(MAX_PAUSE, self.base * 2.0**attempt)
        jittered = ceiling * random.SystemRandom().uniform(0.5, 1.0)
        wanted: float | None = getattr(error, "retry_after", None)
        return jittered if wanted is None else wanted + min(jittered, self.base)


E = TypeVar("E", bound=TransientError | RequestRefused)


def _named(error: E, what: str, tries: int) -> E:
    """The same error, saying what was asked for and how often."""
    error.message = f"{what}: {error.message}" + (f" Tried {tries} times." if tries > 1 else "")
    error.args = (error.message,)
    error.remedy = error.remedy or remedy_for(getattr(error, "status", 0), getattr(error, "code", None))
    return error
