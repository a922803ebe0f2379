"""Requests and tokens a minute per key, counted in the process that serves them."""

import threading
import time
from collections.abc import Callable

from slipway.domain.access import ApiKey
from slipway.domain.errors import OverLimit


class RateLimiter:
    """A bucket per key that fills evenly: a minute's worth may be used at once, then it refills.

    Each worker process has its own; with several of them pass `share` = 1 / workers, so that together they allow what
    the key says.
    """

    def __init__(self, *, share: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._share, self._clock = share, clock
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, key: ApiKey, *, tokens: int = 0) -> None:
        """Counts one request and the tokens that are known beforehand. Raises `OverLimit`; then nothing is counted."""
        wanted = [
            ("requests", key.limits.requests_per_minute, 1),
            ("tokens", key.limits.tokens_per_minute, tokens),
        ]
        with self._lock:
            now = self._clock()
            left: list[tuple[tuple[str, str], float]] = []
            for what, limit, amount in wanted:
                if limit is None or not amount:
                    continue
                capacity = max(1.0, limit * self._share)
                level = self._level((key.id, what), capacity, now)
                # More than a minute's worth in one request could never be served: it empties the bucket instead.
                needed = min(float(amount), capacity)
                if level < needed:
                    raise OverLimit(
                        f"The limit of {limit} {what} a minute of key '{key.name}'",
                        retry_after_s=(needed - level) / (capacity / 60),
                    )
                left.append(((key.id, what), level - needed))
            for name, level in left:
                self._buckets[name] = (level, now)

    def add_tokens(self, key: ApiKey, tokens: int) -> None:
        """Counts tokens that were only known afterwards; the bucket may go below zero and delays what comes next."""
        limit = key.limits.tokens_per_minute
        if limit is None or tokens <= 0:
            return
        with self._lock:
            now = self._clock()
            level = self._level((key.id, "tokens"), max(1.0, limit * self._share), now)
            self._buckets[key.id, "tokens"] = (level - tokens, now)

    def _level(self, name: tuple[str, str], capacity: float, now: float) -> float:
        level, at = self._buckets.get(name, (capacity, now))
        return min(capacity, level + (now - at) * capacity / 60)
