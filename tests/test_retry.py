"""What is tried again, for how long, and what a message may say."""

from __future__ import annotations

import time
from contextlib import nullcontext
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import AccessError, RequestRefused, ServiceUnavailable, TransientError
from tasks.retry import MAX_PAUSE, GiveUp, Retry, classify, in_halves, masked, parse_retry_after


class Clock:
    """Remembers the pauses instead of making them."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def failing(*errors: Exception) -> tuple[list[int], object]:
    """A request that fails with each of these once, and then answers."""
    left, tries = list(errors), [0]

    def request() -> str:
        tries[0] += 1
        if left:
            raise left.pop(0)
        return "answer"

    return tries, request


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, None), (502, None), (503, "PGRST000"), (504, None), (520, None), (522, None), (525, None),
     (530, None), (540, None), (544, "DatabaseTimeout"), (500, None),
     (500, "internal_error"), (500, "57014"), (500, "40001"),
     (500, "40P01"), (500, "55P03"), (503, "57P01"), (503, "53300"), (503, "08006"), (0, "08006"), (504, "PGRST003")],
)  # fmt: skip
def test_what_passes_is_transient(status: int, code: str | None) -> None:
    error = classify(status, code, "busy")
    assert isinstance(error, ServiceUnavailable)
    assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "21000"), (400, "22P02"), (409, "23505"), (409, "23503"), (404, "PGRST205"), (404, "PGRST202"),
     (416, "PGRST103"), (400, "P0001"), (500, "XX000"), (402, None), (503, "23514"), (400, "42703"), (304, None)],
)  # fmt: skip
def test_what_stays_is_refused(status: int, code: str | None) -> None:
    error = classify(status, code, "no")
    assert isinstance(error, RequestRefused)
    assert not isinstance(error, AccessError)


@pytest.mark.parametrize(
    ("status", "code"), [(401, None), (403, "42501"), (401, "PGRST301"), (0, "28P01"), (404, "42501")]
)
def test_a_key_that_may_not_is_an_access_error(status: int, code: str | None) -> None:
    assert isinstance(classify(status, code, "no"), AccessError)


@pytest.mark.parametrize(
    ("status", "code", "answer"), [(0, "28P01", "28P01"), (409, None, "HTTP 409"), (0, None, "no code")]
)
def test_a_message_ends_with_the_answer_as_far_as_there_is_one(status: int, code: str | None, answer: str) -> None:
    error = classify(status, code, "no")
    assert isinstance(error, RequestRefused)
    assert error.message == f"no ({answer})"


def test_a_request_is_tried_until_it_answers() -> None:
    clock = Clock()
    tries, request = failing(ServiceUnavailable("a"), httpx.ReadTimeout("b"), httpx.DecodingError("c"))
    assert Retry(attempts=3, base=1, sleep=clock.sleep).call(request, "a page") == "answer"  # type: ignore[arg-type]
    assert tries == [4]
    assert len(clock.pauses) == 3


def test_pauses_double_with_jitter_up_to_a_bound() -> None:
    clock = Clock()
    _, request = failing(*[ServiceUnavailable("busy") for _ in range(12)])
    Retry(attempts=12, base=1, total=1e9, sleep=clock.sleep).call(request, "a page")  # type: ignore[arg-type]
    for attempt, pause in enumerate(clock.pauses):
        ceiling = min(MAX_PAUSE, 2.0**attempt)
        assert ceiling / 2 <= pause <= ceiling


def test_the_server_decides_how_long_to_wait() -> None:
    clock, error = Clock(), ServiceUnavailable("busy")
    error.retry_after = 7.0
    _, request = failing(error)
    Retry(base=0.5, sleep=clock.sleep).call(request, "a page")  # type: ignore[arg-type]
    assert 7.0 <= clock.pauses[0] <= 7.5


def test_a_wait_beyond_the_bound_on_the_whole_ends_at_once() -> None:
    clock, error = Clock(), ServiceUnavailable("busy")
    error.retry_after = 3_600.0
    _, request = failing(error)
    with pytest.raises(ServiceUnavailable) as caught:
        Retry(total=300, sleep=clock.sleep).call(request, "a page")  # type: ignore[arg-type]
    assert caught.value.message == "a page: busy"
    assert clock.pauses == []


def test_a_failure_that_stays_names_what_was_asked_and_how_often() -> None:
    _, request = failing(*[httpx.ConnectError("secret.example.com refused") for _ in range(9)])
    with pytest.raises(TransientError) as caught:
        Retry(attempts=2, sleep=Clock().sleep).call(request, "a page")  # type: ignore[arg-type]
    assert caught.value.message == "a page: The connection to the project failed (ConnectError). Tried 3 times."
    assert "secret.example.com" not in str(caught.value)
    assert caught.value.remedy


def test_a_refusal_is_not_tried_again() -> None:
    tries, request = failing(classify(400, "22P02", "no"))
    with pytest.raises(RequestRefused, match="a page: no"):
        Retry(sleep=Clock().sleep).call(request, "a page")  # type: ignore[arg-type]
    assert tries == [1]


def test_a_function_of_a_moment_ago_is_asked_for_until_it_is_loaded() -> None:
    """A run in the seconds after `make migrate` said that the migrations were not applied."""
    clock = Clock()
    for loaded_after in (3, 4):
        tries, request = failing(*[classify(404, "PGRST202", "no function") for _ in range(loaded_after)])
        with pytest.raises(RequestRefused, match="Tried 4 times") if loaded_after > 3 else nullcontext():
            assert Retry(sleep=clock.sleep).call(request, "a call") == "answer"  # type: ignore[arg-type]
        assert tries == [4]
    assert sum(clock.pauses) < 8


def test_a_caller_may_give_up_on_what_it_knows_better() -> None:
    tries, request = failing(classify(500, "57014", "slow"))
    with pytest.raises(ServiceUnavailable):
        Retry(sleep=Clock().sleep).call(request, "a page", give_up=lambda e: True)  # type: ignore[arg-type]
    assert tries == [1]


@given(costs=st.lists(st.integers(0, 5)), most=st.integers(5, 20))
def test_what_is_too_much_at_once_is_sent_in_halves_each_item_once(costs: list[int], most: int) -> None:
    def send(part: list[int], give_up: GiveUp | None) -> list[int]:
        assert (give_up is None) == (len(part) <= 1), "a single item is tried again like any request"
        if sum(part) > most:
            raise classify(500, "57014", "slow")
        return part

    parts = in_halves(send, costs)
    assert [cost for part in parts for cost in part] == costs
    assert len(parts) <= max(1, len(costs))


def test_what_fewer_items_do_not_help_is_raised_at_once() -> None:
    sent: list[list[int]] = []

    def send(part: list[int], give_up: GiveUp | None) -> None:
        sent.append(part)
        raise classify(500, "57014" if 3 in part else "42P01", "no")

    with pytest.raises(RequestRefused):
        in_halves(send, [1, 2, 3])
    with pytest.raises(ServiceUnavailable):
        in_halves(send, [3])
    assert sent == [[1, 2, 3], [1], [3]]


def test_retry_after_comes_in_two_forms() -> None:
    assert parse_retry_after("17") == 17
    assert parse_retry_after(formatdate(time.time() + 60, usegmt=True)) == pytest.approx(60, abs=2)
    assert parse_retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert parse_retry_after("soon") is parse_retry_after("") is parse_retry_after(None) is None


@given(st.sampled_from(["22P02", "23505", None, "P0001", "42703"]), st.text(max_size=30))
def test_messages_hold_no_address(code: str | None, text: str) -> None:
    said = masked(code, f"{text} ada.lovelace@example.com {text}")
    assert "lovelace" not in said
    assert "\n" not in said


@pytest.mark.parametrize("code", ["22P02", None, "PX000"])
def test_values_in_quotes_are_masked(code: str | None) -> None:
    assert "Ada" not in masked(code, 'invalid input syntax for type uuid: "Ada"')


@pytest.mark.parametrize("value", ['Ann "Ada" Smith', "it's Ada", "a line\nand Ada"])
def test_a_value_may_hold_quotes_and_lines(value: str) -> None:
    assert "Ada" not in masked("22007", f'invalid input syntax for type date: "{value}"')


@pytest.mark.parametrize("code", ["P0001", "23514", "38000"])
def test_what_a_trigger_says_is_not_repeated(code: str) -> None:
    assert "Ada" not in masked(code, "'Ada' may not write")


def test_names_of_objects_stay() -> None:
    assert '"posts_pkey"' in masked("23505", 'duplicate key value violates unique constraint "posts_pkey"')
