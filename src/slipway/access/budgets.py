"""Budgets a month per key: reserved before a request, settled after it, written down in the background."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from slipway.access.keys import utc_now
from slipway.domain.access import ApiKey, Spending
from slipway.domain.errors import OverLimit
from slipway.store.store import Store


def period_of(now: datetime) -> str:
    """The calendar month in UTC, such as `2026-11`."""
    return now.astimezone(UTC).strftime("%Y-%m")


class Meter:
    """What each key has used this month: the store's figure plus what this process has not written down yet.

    Within one process a budget is never passed by more than the requests in flight cost beyond what they reserved.
    Several processes see each other's spending every `flush_s` seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        flush_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.store, self.flush_s, self._clock, self._now = store, flush_s, clock, now
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._known: dict[str, Spending] = {}
        self._period = ""
        self._waiting: dict[tuple[str, str], Spending] = {}
        self._reserved: dict[str, int] = defaultdict(int)
        self._flushed_at = float("-inf")

    def reserve(self, key: ApiKey, micros: int) -> None:
        """Sets money aside for a request (its price at most). Raises `OverLimit` when the month's budget is used up."""
        if key.limits.monthly_budget_micros is None and key.limits.monthly_requests is None:
            return
        self.catch_up()
        with self._lock:
            used = self._used(key.id)
            budget, requests = key.limits.monthly_budget_micros, key.limits.monthly_requests
            if budget is not None and used.micros + self._reserved[key.id] + micros > budget:
                raise OverLimit(f"The monthly budget of key '{key.name}'", retry_after_s=self._rest_of_month_s())
            if requests is not None and used.requests >= requests:
                raise OverLimit(
                    f"The {requests} requests a month of key '{key.name}'", retry_after_s=self._rest_of_month_s()
                )
            self._reserved[key.id] += micros

    def settle(self, key: ApiKey, *, reserved: int, micros: int, tokens: int = 0) -> None:
        """Replaces what was set aside by what the request really cost, and counts it."""
        period = period_of(self._now())
        with self._lock:
            if reserved and key.id in self._reserved:
                self._reserved[key.id] = max(0, self._reserved[key.id] - reserved)
            before = self._waiting.get((key.id, period)) or Spending(holder=key.id, period=period)
            self._waiting[key.id, period] = replace(
                before,
                requests=before.requests + 1,
                tokens=before.tokens + tokens,
                micros=before.micros + micros,
            )

    def used(self, key: ApiKey) -> Spending:
        """This month's use of a key."""
        self.catch_up()
        with self._lock:
            return self._used(key.id)

    def catch_up(self) -> None:
        """Writes down and reads again when `flush_s` have passed or the month has changed."""
        late = self._clock() - self._flushed_at >= self.flush_s or self._period != period_of(self._now())
        if late and self._flushing.acquire(blocking=False):
            try:
                self.flush()
            finally:
                self._flushing.release()

    def flush(self) -> None:
        """Writes down what was used and reads what all processes have used. Call it once more before the end."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._flushed_at = self._clock()
        period = period_of(self._now())
        try:
            with self.store.transaction():
                self.store.spending.add(waiting.values())
                known = self.store.spending.of(period)
        except BaseException:
            with self._lock:
                for name, used in waiting.items():
                    later = self._waiting.get(name) or Spending(holder=name[0], period=name[1])
                    self._waiting[name] = _sum(used, later)
            raise
        with self._lock:
            self._known, self._period = known, period

    def _used(self, holder: str) -> Spending:
        period = period_of(self._now())
        nothing = Spending(holder=holder, period=period)
        known = self._known.get(holder, nothing) if self._period == period else nothing
        return _sum(known, self._waiting.get((holder, period), nothing))

    def _rest_of_month_s(self) -> float:
        now = self._now().astimezone(UTC)
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return ((first + timedelta(days=32)).replace(day=1) - now).total_seconds()


def _sum(one: Spending, other: Spending) -> Spending:
    return replace(
        one,
        requests=one.requests + other.requests,
        tokens=one.tokens + other.tokens,
        micros=one.micros + other.micros,
    )
