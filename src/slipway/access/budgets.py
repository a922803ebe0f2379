"""Budgets a month: reserved before a request, settled after it, exact over all workers, written down later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from slipway.access.counters import (
    ALL,
    CALLS,
    EACH,
    KNOWN,
    KNOWN_REQUESTS,
    MICROS,
    PERIOD,
    RESERVED,
    TOKENS_USED,
    UNSETTLED,
    WORKERS,
    Counters,
)
from slipway.access.keys import utc_now
from slipway.access.limits import Allowance
from slipway.domain.access import Limits, Spending
from slipway.domain.errors import OverLimit
from slipway.domain.money import Money
from slipway.store.store import Store

CACHE_HOLDER = "cache"
"""Who saves: requests that the cache answered, and what they would have cost."""


def period_of(now: datetime) -> str:
    """The calendar month in UTC, such as `2026-11`."""
    return now.astimezone(UTC).strftime("%Y-%m")


@dataclass(slots=True)
class Reservation:
    """Money set aside for one request; it is settled or released once."""

    allowances: Sequence[Allowance]
    micros: int
    settled: bool = field(default=False)


class Meter:
    """What each holder has used this month.

    A budget is never passed by more than what the requests in flight cost beyond what they reserved, however many
    processes count in the same `counters`. Servers on other machines see each other's spending every `flush_s` seconds.
    """

    def __init__(
        self,
        store: Store,
        counters: Counters | None = None,
        *,
        flush_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.store, self.flush_s, self._clock, self._now = store, flush_s, clock, now
        self._counters = counters or Counters()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._known: dict[str, Spending] = {}
        self._period = ""
        self._waiting: dict[tuple[str, str], Spending] = {}
        self._flushed_at = float("-inf")

    def reserve(self, allowances: Sequence[Allowance], micros: int) -> Reservation:
        """Counts a request and sets money aside for it (its price at most), for everybody concerned.

        Raises `OverLimit` when a month's budget is used up or too little is left of it; then nothing is counted.
        """
        limited = [one for one in allowances if has_month(one.limits)]
        if limited:
            self.catch_up()
            period = _number(self._period or period_of(self._now()))
            with self._counters.locked() as words:
                rows = [self._row(words, one.holder, period) for one in limited]
                for one, row in zip(limited, rows, strict=True):
                    self._refuse(words, row, one, micros)
                for row in rows:
                    self._counters.add(row, RESERVED, micros)
                    self._counters.add(row, CALLS, 1)
        for one in allowances:
            self._wait(one.holder, period_of(self._now()), requests=1)
        return Reservation(allowances, micros)

    def settle(self, reservation: Reservation, *, micros: int, tokens: int = 0) -> None:
        """Replaces what was set aside by what the request really cost. A second time adds to it."""
        limited = [one for one in reservation.allowances if has_month(one.limits)]
        reserved = 0 if reservation.settled else reservation.micros
        reservation.settled = True
        if limited:
            period = _number(period_of(self._now()))
            with self._counters.locked() as words:
                for one in limited:
                    row = self._row(words, one.holder, period)
                    self._counters.add(row, RESERVED, -reserved)
                    self._counters.add(row, MICROS, micros)
                    self._counters.add(row, TOKENS_USED, tokens)
        for one in reservation.allowances:
            self._wait(one.holder, period_of(self._now()), tokens=tokens, micros=micros)

    def release(self, reservation: Reservation) -> None:
        """Gives back what was set aside for a request that cost nothing. After `settle` it does nothing."""
        if not reservation.settled:
            self.settle(reservation, micros=0)

    def note(self, holder: str, *, requests: int, micros: int) -> None:
        """Counts something that nobody is limited in."""
        self._wait(holder, period_of(self._now()), requests=requests, micros=micros)

    def holder_of(self, subject: str) -> str:
        """What a person is counted under: a pseudonym, so that the sums name nobody."""
        return person_holder(self.store, subject)

    def used(self, holder: str) -> Spending:
        """This month's use by one holder: what the store knows, and what this process has not written down."""
        self.catch_up()
        with self._lock:
            period = period_of(self._now())
            nothing = Spending(holder=holder, period=period)
            known = self._known.get(holder, nothing) if self._period == period else nothing
            return _sum(known, self._waiting.get((holder, period), nothing))

    def catch_up(self) -> None:
        """Writes down and reads again when `flush_s` have passed or the month has changed."""
        late = self._clock() - self._flushed_at >= self.flush_s or self._period != period_of(self._now())
        if late and self._flushing.acquire(blocking=False):
            try:
                self.flush()
            finally:
                self._flushing.release()

    def flush(self) -> None:
        """Writes down what was used here and by workers that died, and reads what all have used. Call it once more
        before the end."""
        for left in self._counters.beat():
            if left.period:
                period = f"{left.period // 100}-{left.period % 100:02d}"
                self._wait(left.holder, period, requests=left.requests, tokens=left.tokens, micros=left.micros)
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
                    later = self._waiting.get(name)
                    self._waiting[name] = _sum(used, later) if later else used
            raise
        with self._lock:
            self._known, self._period = known, period
        self._tell(waiting, known, period)

    # Rows --------------------------------------------------------------------------------------------------------

    def _tell(self, written: dict[tuple[str, str], Spending], known: dict[str, Spending], period: str) -> None:
        """What is written down moves, for all workers, from what is unsettled to what the store knows."""
        number = _number(period)
        for holder, total in known.items():
            if holder not in self._counters.known_rows:
                continue
            mine = written.get((holder, period))
            with self._counters.locked() as words:
                row = self._row(words, holder, number)
                # Another worker may have read a newer figure before us.
                words[row + KNOWN] = max(words[row + KNOWN], total.micros)
                words[row + KNOWN_REQUESTS] = max(words[row + KNOWN_REQUESTS], total.requests)
                if mine is not None:
                    self._counters.add(row, MICROS, -mine.micros)
                    self._counters.add(row, CALLS, -mine.requests)
                    self._counters.add(row, TOKENS_USED, -mine.tokens)

    def _row(self, words: memoryview, holder: str, period: int) -> int:
        """The row of a holder, begun anew where the month is a new one."""
        row = self._counters.row(holder)
        if words[row + PERIOD] != period:
            words[row + PERIOD] = period
            known = self._known.get(holder) if _number(self._period) == period else None
            words[row + KNOWN] = known.micros if known else 0
            words[row + KNOWN_REQUESTS] = known.requests if known else 0
            for which in (MICROS, CALLS, TOKENS_USED):
                words[row + ALL + which] = 0
                for worker in range(WORKERS):
                    words[row + EACH + worker * UNSETTLED + which] = 0
        return row

    def _refuse(self, words: memoryview, row: int, one: Allowance, micros: int) -> None:
        budget, requests = one.limits.monthly_budget_micros, one.limits.monthly_requests
        if budget is not None:
            spent = words[row + KNOWN] + words[row + ALL + MICROS]
            reserved = words[row + ALL + RESERVED]
            if spent >= budget:
                raise OverLimit(f"The monthly budget of {one.whose}", retry_after_s=self._rest_of_month_s())
            if spent + reserved + micros > budget:
                left, most = Money(micros=budget - spent - reserved), Money(micros=micros)
                raise OverLimit(
                    f"The monthly budget of {one.whose}",
                    why=f"has {left} left, and this request may cost {most}; a smaller max_tokens reserves less",
                    retry_after_s=1 if reserved else self._rest_of_month_s(),
                )
        if requests is not None and words[row + KNOWN_REQUESTS] + words[row + ALL + CALLS] >= requests:
            raise OverLimit(f"The {requests} requests a month of {one.whose}", retry_after_s=self._rest_of_month_s())

    def _wait(self, holder: str, period: str, *, requests: int = 0, tokens: int = 0, micros: int = 0) -> None:
        used = Spending(holder=holder, period=period, requests=requests, tokens=tokens, micros=micros)
        with self._lock:
            before = self._waiting.get((holder, period))
            self._waiting[holder, period] = _sum(before, used) if before else used

    def _rest_of_month_s(self) -> float:
        now = self._now().astimezone(UTC)
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return ((first + timedelta(days=32)).replace(day=1) - now).total_seconds()


def person_holder(store: Store, subject: str) -> str:
    return f"person:{store.keys.pseudonym(subject)}"


def has_month(limits: Limits) -> bool:
    return limits.monthly_budget_micros is not None or limits.monthly_requests is not None


def _number(period: str) -> int:
    """`2026-11` as 202611; 0 for no period."""
    return int(period.replace("-", "")) if period else 0


def _sum(one: Spending, other: Spending) -> Spending:
    return replace(
        one,
        requests=one.requests + other.requests,
        tokens=one.tokens + other.tokens,
        micros=one.micros + other.micros,
    )
