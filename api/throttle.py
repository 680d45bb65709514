"""How often somebody may try to sign in: a moving window per account and per address."""

from __future__ import annotations

import hashlib
import math
import time

from limits import RateLimitItem, parse
from limits.errors import ConfigurationError as NoStore
from limits.errors import StorageError
from limits.storage import RedisStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisClusterException, RedisError

from api.problems import Problem
from tasks.errors import ConfigurationError
from tasks.settings import Settings

PER_ADDRESS = 5  # people behind one address share it
# A cluster without a node that answers is none of the errors of Redis, and `limits` passes it on as it is.
AWAY = (StorageError, RedisClusterException)


class Throttle:
    """Counts tries in `ETL_API_LIMITS_STORE`; keys are hashed, as they name people."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = _limiter(settings.api_limits_store)
        self._account = _rate(settings.api_sign_in_rate)
        self._address = type(self._account)(self._account.amount * PER_ADDRESS, self._account.multiples)

    def sign_in(self, email: str, address: str) -> None:
        """Count a try. Problem 429 says when the next one may come; 503 that tries cannot be counted."""
        account = hashlib.sha256(email.strip().lower().encode()).hexdigest()
        try:
            for limit, key in ((self._address, address), (self._account, account)):
                if not self._limiter.hit(limit, "sign-in", key):
                    raise self._too_many(limit, key)
        except AWAY:
            text = "Nobody can sign in: the store in which tries are counted does not answer."
            raise Problem(503, text, remedy="The operator looks at ETL_API_LIMITS_STORE.") from None

    def _too_many(self, limit: RateLimitItem, key: str) -> Problem:
        reset = self._limiter.get_window_stats(limit, "sign-in", key).reset_time
        seconds = max(1, math.ceil(reset - time.time()))
        return Problem(
            429,
            "Too many tries to sign in.",
            remedy=f"Wait {seconds} seconds.",
            headers={"Retry-After": str(seconds)},
        )


def _limiter(address: str) -> MovingWindowRateLimiter:
    """ConfigurationError for an address of no store, or of none that can count so; only a cluster is asked here."""
    try:
        store = storage_from_string(address, wrap_exceptions=True)
        if type(store) is RedisStorage:  # it looks at the options of its address with the first connection alone
            pool = store.storage.connection_pool
            pool.connection_class(**pool.connection_kwargs)
        return MovingWindowRateLimiter(store)
    except RedisClusterException:
        raise ConfigurationError(
            "No node of the Redis cluster in ETL_API_LIMITS_STORE answers as one: no try to sign in can be counted.",
            remedy="Start it, or correct its address and password, then start the site again.",
        ) from None
    except (NoStore, RedisError, TypeError, ValueError, AssertionError, NotImplementedError):
        raise ConfigurationError(
            "ETL_API_LIMITS_STORE names no store of tries to sign in, or with an option that it does not have.",
            remedy="It is memory://, or for several workers like redis://127.0.0.1:6379.",
        ) from None


def _rate(text: str) -> RateLimitItem:
    try:
        return parse(text)
    except ValueError:
        raise ConfigurationError("ETL_API_SIGN_IN_RATE is no rate.", remedy="It looks like 10/minute.") from None
