"""The driver's words, as they were seen, and what they become."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tasks.errors import AccessError, ConfigurationError, PipelineError, RequestRefused, ServiceUnavailable
from tasks.platform.refusals import refusals
from tasks.retry import is_statement_timeout

STREAM = "[libpq] PGresult error: {}\n"
CONNECTING = 'connection to server at "db.invalid" (::1), port 5432 failed: {}'


def refused(words: str) -> PipelineError:
    with pytest.raises(PipelineError) as caught, refusals():
        raise pa.ArrowInvalid(words)
    return caught.value


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (STREAM.format("ERROR:  date out of range for timestamp"), RequestRefused, "date out of range for timestamp"),
        (STREAM.format('ERROR:  value "Bob" is out of range for type integer'), RequestRefused, "of a row: value."),
        (STREAM.format("ERROR:  division by zero\nCONTEXT:  of Bob"), RequestRefused, "division by zero"),
        (STREAM.format("ERROR:  canceling statement due to conflict with recovery"), ServiceUnavailable, "recovery"),
        (STREAM.format("ERROR:  could not extend file of Bob: No space left on device"), ServiceUnavailable, "extend"),
        (STREAM.format("ERROR:  permission denied for table clean_users"), AccessError, "for table clean_users"),
        (STREAM.format("ERROR:  permission denied for function bob"), AccessError, "permission denied for function"),
        (STREAM.format("ERROR:  the user Bob does not exist"), ServiceUnavailable, "its log has them"),
        (STREAM.format("ERROR:  bob out of range"), ServiceUnavailable, "its log has them"),
        (STREAM.format("FATAL:  terminating connection due to administrator command"), ServiceUnavailable, "admini"),
        (CONNECTING.format("FATAL:  the database system is starting up"), ServiceUnavailable, "is starting up"),
        (CONNECTING.format('FATAL:  password authentication failed for user "bob"'), AccessError, "user or password"),
        # The hosted pooler's words, which were taken for an outage, and the run tried again for minutes.
        (CONNECTING.format("FATAL:  (ENOTFOUND) tenant/user etl.abcdef not found"), AccessError, "The pooler knows no"),
        (
            CONNECTING.format("FATAL:  (ENOIDENTIFIER) no tenant identifier provided (x)"),
            AccessError,
            "The pooler know",
        ),
        (
            CONNECTING.format("FATAL:  Tenant or user not found"),
            AccessError,
            "The pooler knows no such project or user",
        ),
        (CONNECTING.format("FATAL:  (EAUTHQUERY) user not found in the database"), AccessError, "user or password"),
        (
            CONNECTING.format("FATAL:  (EADDRNOTALLOWED) address not in tenant allow_list: {1, 2}"),
            AccessError,
            "this m",
        ),
        (
            CONNECTING.format("FATAL:  (ESSLREQUIRED) SSL connection is required for user: x"),
            AccessError,
            "SSL connect",
        ),
        (
            CONNECTING.format("FATAL:  (EMAXCONNSESSION) max clients reached in …"),
            ServiceUnavailable,
            "no connection left",
        ),
        (
            CONNECTING.format("FATAL:  (ECIRCUITBREAKER) too many authentication failures"),
            ServiceUnavailable,
            "no login",
        ),
        (CONNECTING.format("Cannot assign requested address"), ServiceUnavailable, "an IPv6 address only"),
        (CONNECTING.format("Connection refused"), ServiceUnavailable, "nothing listens"),
        (CONNECTING.format("SSL error: certificate verify failed"), AccessError, "certificate of the database cannot"),
        (CONNECTING.format('server certificate for "bob" does not match host name "x"'), AccessError, "cannot be veri"),
        (CONNECTING.format('invalid integer value "bob" for connection option "x"'), ConfigurationError, "no address"),
        ('[libpq] Failed to connect: invalid URI query parameter: "bob"', ConfigurationError, "no address"),
    ],
)
def test_words_without_a_sqlstate(words: str, kind: type[PipelineError], said: str) -> None:
    error = refused(words)
    assert type(error) is kind
    assert said in error.message
    assert "bob" not in error.message.casefold()


@pytest.mark.parametrize("error", [pa.ArrowInvalid("Casting from timestamp[us] would overflow"), OSError("no footer")])
def test_what_fails_on_this_side_while_rows_come_is_no_outage_of_the_database(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, refusals():
        raise error
    assert caught.value is error


def test_a_statement_that_took_too_long_is_known_by_its_code() -> None:
    """Less at once may pass then; of other failures it changes nothing."""
    assert is_statement_timeout(refused(STREAM.format("ERROR:  canceling statement due to statement timeout")))
    for words in (
        "out of memory",
        "deadlock detected",
        "could not read block 7",
    ):
        assert not is_statement_timeout(refused(STREAM.format(f"ERROR:  {words}")))
