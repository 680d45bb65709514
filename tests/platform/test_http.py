"""The client: errors of ours with the true status, nothing retried below ours, traffic counted."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tasks.errors import AccessError, ConfigurationError, RequestRefused, ServiceUnavailable
from tasks.platform.http import make_client, make_http
from tasks.platform.traffic import TRAFFIC
from tasks.settings import Settings

Answer = Callable[[httpx.Request], httpx.Response]


def settings(**more: object) -> Settings:
    values = {"supabase_url": "http://127.0.0.1:9", "supabase_service_key": "sb_secret_hidden", **more}
    return Settings(_env_file=None, **values)  # type: ignore[arg-type]


def get(answer: Answer, path: str = "/rest/v1/posts") -> httpx.Response:
    with make_http(settings(), transport=httpx.MockTransport(answer)) as http:
        return http.get(f"http://127.0.0.1:9{path}")


def test_a_good_answer_passes() -> None:
    assert get(lambda request: httpx.Response(206, json=[1])).json() == [1]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, {"code": "PGRST000", "message": "no connection"}, ServiceUnavailable),
        (502, "<html>bad gateway</html>", ServiceUnavailable),
        (400, {"statusCode": "503", "error": "Busy", "message": "later"}, ServiceUnavailable),
        (400, {"statusCode": "404", "error": "not_found", "message": "Object not found"}, RequestRefused),
        (400, {"statusCode": "403", "error": "Unauthorized", "message": "no"}, AccessError),
        (401, {"message": "Invalid API key"}, AccessError),
        (409, {"code": "23505", "message": "twice", "details": "Key (email)=(ada@example.com)"}, RequestRefused),
        (404, "", RequestRefused),
        (500, ["odd"], ServiceUnavailable),
    ],
)
def test_an_answer_of_four_or_five_hundred_is_an_error_of_ours(
    status: int, body: object, kind: type[Exception]
) -> None:
    sent = {"text": body} if isinstance(body, str) else {"json": body}
    with pytest.raises(kind) as caught:
        get(lambda request: httpx.Response(status, **sent))
    assert "ada@" not in str(caught.value)


def test_the_status_in_a_body_of_storage_counts() -> None:
    with pytest.raises(RequestRefused) as caught:
        get(lambda request: httpx.Response(400, json={"statusCode": "409", "error": "Duplicate", "message": "there"}))
    assert (caught.value.status, caught.value.code) == (409, "Duplicate")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, {"statusCode": "500", "error": "InternalError", "message": "Internal server error"}, ServiceUnavailable),
        (400, {"statusCode": "500", "error": "DatabaseError", "message": "Failed"}, ServiceUnavailable),
        (
            544,
            {"statusCode": "544", "error": "DatabaseTimeout", "message": "The connection timed out"},
            ServiceUnavailable,
        ),
        (423, {"statusCode": "423", "error": "LockTimeout", "message": "acquiring lock timeout"}, ServiceUnavailable),
        (400, {"statusCode": "500", "code": "23514", "error": "DatabaseError", "message": "a check"}, RequestRefused),
        (413, {"statusCode": "413", "error": "EntityTooLarge", "message": "too large"}, RequestRefused),
    ],
)
def test_a_failure_of_storage_may_pass(status: int, body: object, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        get(lambda request: httpx.Response(status, json=body), "/storage/v1/object/reports/runs/a.parquet")


def test_retry_after_is_kept() -> None:
    with pytest.raises(ServiceUnavailable) as caught:
        get(lambda request: httpx.Response(429, headers={"retry-after": "9"}))
    assert caught.value.retry_after == 9


def test_nothing_is_tried_again_below_our_policy() -> None:
    asked = []

    def busy(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(503)

    client = make_client(settings(), transport=httpx.MockTransport(busy))
    with pytest.raises(ServiceUnavailable):
        client.table("posts").select("*").execute()
    client.postgrest.session.close()
    assert len(asked) == 1


def test_a_signed_in_user_is_sent_along() -> None:
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200, json=[])

    client = make_client(settings(), key="public", access_token="a-token", transport=httpx.MockTransport(answer))
    client.table("posts").select("*").execute()
    client.postgrest.session.close()
    assert (seen[0]["apikey"], seen[0]["authorization"]) == ("public", "Bearer a-token")


def test_every_client_waits_as_long_as_the_settings_say() -> None:
    """A client that is handed to the SDK has no timeouts of the SDK's; httpx's own are five seconds."""
    client = make_client(settings().model_copy(update={"read_timeout": 77, "connect_timeout": 7}))
    for session in (client.postgrest.session, client.storage.session):
        assert session.timeout == httpx.Timeout(77, connect=7)
        session.close()


def test_a_url_that_is_none_is_a_configuration_error_without_the_key() -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_client(settings().model_copy(update={"supabase_url": "nonsense"}))
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_bodies_that_are_sent_are_counted() -> None:
    before = TRAFFIC.sent
    with make_http(settings(), transport=httpx.MockTransport(lambda request: httpx.Response(200))) as http:
        http.post("http://127.0.0.1:9/", content=b"x" * 123)
    assert TRAFFIC.sent - before >= 123


def test_answers_are_counted_as_they_arrive() -> None:
    body = [b"x" * 1_000] * 3
    before = TRAFFIC.received
    answer = httpx.MockTransport(lambda request: httpx.Response(200, content=iter(body)))
    with make_http(settings(), transport=answer) as http:
        assert len(http.get("http://127.0.0.1:9/").content) == 3_000
    assert TRAFFIC.received - before == 3_000
