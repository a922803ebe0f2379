"""Budgets a month: reserved before a request, settled after it, exact over all workers, written down later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
    Batch,
    Counters,
    Left,
)
from slipway.access.keys import utc_now
from slipway.access.limits import NO_LIMIT, Allowance
from slipway.domain.access import Limits, Spending
from slipway.domain.errors import OverLimit
from slipway.domain.money import Money
from slipway.store.spending import Used
from slipway.store.store import Store

CACHE_HOLDER = "cache"
"""Who saves: requests that the cache answered, and what they would have cost."""


NOTHING = (0, 0, 0)


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
        self._month = 0
        self._read_to = 0
        """How far the store's sums of the month were read."""
        self._waiting: dict[tuple[str, int], list[int]] = {}
        """Requests, tokens and money of each holder and month that are not written down yet."""
        self._writing: dict[tuple[str, int], list[int]] = {}
        """The same of what is being written down now, or of what could not be: `_batch`."""
        self._batch: Batch | None = None
        self._flushed_at = float("-inf")

    def reserve(self, allowances: Sequence[Allowance], micros: int) -> Reservation:
        """Counts a request and sets money aside for it (its price at most), for everybody concerned.

        Raises `OverLimit` when a month's budget is used up or too little is left of it; then nothing is counted.
        """
        limited = [one for one in allowances if has_month(one.limits)]
        month = self.month_now()
        if limited:
            self.catch_up()
            with self._counters.locked() as words:
                rows = [self._row(words, one.holder, month) for one in limited]
                for one, row in zip(limited, rows, strict=True):
                    self._refuse(words, row, one, micros)
                for row in rows:
                    self._counters.add(row, RESERVED, micros)
                    self._counters.add(row, CALLS, 1)
        for one in allowances:
            self._wait(one.holder, month, requests=1)
        return Reservation(allowances, micros)

    def settle(self, reservation: Reservation, *, micros: int, tokens: int = 0) -> None:
        """Replaces what was set aside by what the request really cost. A second time adds to it."""
        reserved = 0 if reservation.settled else reservation.micros
        reservation.settled = True
        month = self.month_now()
        for one in reservation.allowances:
            if has_month(one.limits):
                with self._counters.locked() as words:
                    row = self._row(words, one.holder, month)
                    self._counters.add(row, RESERVED, -reserved)
                    self._counters.add(row, MICROS, micros)
                    self._counters.add(row, TOKENS_USED, tokens)
            self._wait(one.holder, month, tokens=tokens, micros=micros)

    def release(self, reservation: Reservation) -> None:
        """Gives back what was set aside for a request that cost nothing. After `settle` it does nothing."""
        if not reservation.settled:
            self.settle(reservation, micros=0)

    def note(self, holder: str, *, requests: int, micros: int, tokens: int = 0, month: int = 0) -> None:
        """Writes down, with the next `flush`, what nobody is limited in, or what `spend` has counted."""
        self._wait(holder, month or self.month_now(), requests=requests, tokens=tokens, micros=micros)

    def holder_of(self, subject: str) -> str:
        """What a person is counted under: a pseudonym, so that the sums name nobody."""
        return person_holder(self.store, subject)

    def used(self, holder: str) -> Spending:
        """This month's use by one holder: what the store knows, and what this process has not written down."""
        self.catch_up()
        month = self.month_now()
        with self._lock:
            known = self._known.get(holder) if self._month == month else None
            waiting = self._waiting.get((holder, month), NOTHING)
            writing = self._writing.get((holder, month), NOTHING)
        return _plus(_plus(known or Spending(holder=holder, period=name_of(month)), writing), waiting)

    def catch_up(self) -> None:
        """Writes down and reads again when `flush_s` have passed or the month has changed.

        Where `flush_s` is without end somebody else calls `flush`, the first time before anybody reserves: then a
        request does not wait for the database, not even at the turn of a month.
        """
        turned = self._month != self.month_now() and (self._month == 0 or self.flush_s < float("inf"))
        late = turned or self._clock() - self._flushed_at >= self.flush_s
        if late and self._flushing.acquire(blocking=False):
            try:
                self._flush()
            finally:
                self._flushing.release()

    def flush(self) -> None:
        """Writes down what was used here and by workers that died, and reads what all have used. Call it once more
        before the end."""
        with self._flushing:
            self._flush()

    def _flush(self) -> None:
        self._take_over()
        # A batch that could not be written down goes first, under its own number: it may be in the store after all.
        kept = self._batch is not None
        self._write_down()
        if kept:
            self._write_down()

    def _write_down(self) -> None:
        month = self.month_now()
        if self._batch is None:
            with self._lock:
                if not self._writing:
                    self._writing, self._waiting = self._waiting, {}
            if self._writing:
                self._batch = self._counters.begin_batch(_parts(self._writing))
        rows = [_plus(Spending(holder=who, period=name_of(when)), sums) for (who, when), sums in self._writing.items()]
        if self._batch is None:
            news = self._news(month)
        else:
            with self.store.transaction():
                self.store.spending.add(rows, self._batch)
                news = self._news(month)
        concerned = {one.holder for one in rows}
        with self._lock:
            self._learn(news, month)
            self._writing = {}
            self._flushed_at = self._clock()
        self._tell(news.holders, month, self._counters.worker, concerned)
        if self._batch is not None:
            self._counters.end_batch(self._counters.worker, self._batch)
            self._batch = None

    def _news(self, month: int) -> Used:
        """What the store knows of a month that this process has not read."""
        return self.store.spending.since(name_of(month), self._read_to if self._month == month else None)

    def _learn(self, news: Used, month: int) -> None:
        if self._month != month:
            self._known = {}
        self._known.update(news.holders)
        self._month, self._read_to = month, news.to

    def _take_over(self) -> None:
        """What workers that died had not written down, or nobody knows whether they had."""
        self._wait_for(self._counters.beat())
        month = self.month_now()
        for orphan in self._counters.orphans():
            rows = [
                Spending(
                    holder=part.holder,
                    period=name_of(part.period),
                    requests=part.requests,
                    tokens=part.tokens,
                    micros=part.micros,
                )
                for part in orphan.parts
            ]
            with self.store.transaction():
                self.store.spending.add(rows, orphan.batch)
                news = self._news(month)
            with self._lock:
                self._learn(news, month)
            self._tell(news.holders, month, orphan.place, {part.holder for part in orphan.parts})
            self._wait_for(self._counters.end_batch(orphan.place, orphan.batch))

    def _wait_for(self, parts: Iterable[Left]) -> None:
        for part in parts:
            if part.period:
                self._wait(part.holder, part.period, requests=part.requests, tokens=part.tokens, micros=part.micros)

    # For leases ------------------------------------------------------------------------------------------------

    def room(self, words: memoryview, allowance: Allowance, month: int) -> int:
        """Money that is left of a month's budget; less than nothing where requests are counted one by one. Under the
        lock of the table, as the next two."""
        limits = allowance.limits
        if limits.monthly_requests is not None:
            return -1
        if limits.monthly_budget_micros is None:
            return NO_LIMIT
        row = self._row(words, allowance.holder, month)
        used = words[row + KNOWN] + words[row + ALL + MICROS] + words[row + ALL + RESERVED]
        return max(0, limits.monthly_budget_micros - used)

    def lend(self, words: memoryview, holder: str, month: int, micros: int) -> None:
        """Reserves money that there is room for."""
        self._counters.add(self._row(words, holder, month), RESERVED, micros)

    def take_back(self, words: memoryview, holder: str, micros: int) -> None:
        """Ends the reservation of money, be it that it was spent or that it was not. What was spent counts for all."""
        if self._counters.find(holder) is None:
            return  # the row was given away, and the reservation with it
        row = self._row(words, holder, self.month_now())
        self._counters.add(row, RESERVED, -micros)
        self._counters.sum_up(row)

    def spend(self, holder: str, month: int, *, requests: int, tokens: int, micros: int) -> None:
        """Counts requests whose money was lent, among what this worker has not settled: it outlives the worker. Until
        the money is taken back, it stands for what was spent of it. `note` writes it down."""
        counters = self._counters
        words = counters.words
        with counters.own:
            row = counters.known_row(holder)
            if row is not None and words[row + PERIOD] == month:
                own = row + EACH + counters.worker * UNSETTLED
                words[own + MICROS] += micros
                words[own + CALLS] += requests
                words[own + TOKENS_USED] += tokens
                return
        with counters.locked() as words:
            row = self._row(words, holder, self.month_now())
            if words[row + PERIOD] != month:
                return  # no budget of this month is used up by what belongs to the last one
            for which, amount in ((MICROS, micros), (CALLS, requests), (TOKENS_USED, tokens)):
                counters.add(row, which, amount)

    # Rows --------------------------------------------------------------------------------------------------------

    def _tell(self, news: Mapping[str, Spending], month: int, place: int, written: Collection[str]) -> None:
        """What a worker wrote down moves, for all workers, from what is unsettled to what the store knows; and so does
        what others wrote. Who has no row is nobody's concern here."""
        counters = self._counters
        for holder in {*written, *news}:
            total = news.get(holder)
            with counters.locked() as words:
                if counters.find(holder) is None:
                    continue
                row = self._row(words, holder, month)
                if total is not None:
                    # Another worker may have read a newer figure before us.
                    words[row + KNOWN] = max(words[row + KNOWN], total.micros)
                    words[row + KNOWN_REQUESTS] = max(words[row + KNOWN_REQUESTS], total.requests)
                if holder in written:
                    counters.settle(row, place)

    def _row(self, words: memoryview, holder: str, month: int) -> int:
        """The row of a holder, begun anew where the month is a new one."""
        row = self._counters.row(holder)
        before = words[row + PERIOD]
        if before == month:
            return row
        words[row + PERIOD] = month
        known = self._known.get(holder) if self._month == month else None
        words[row + KNOWN] = known.micros if known else 0
        words[row + KNOWN_REQUESTS] = known.requests if known else 0
        if before not in (0, -month):
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
                raise OverLimit(f"The monthly budget of {one.whose}", retry_after_s=self.rest_of_month_s())
            if spent + reserved + micros > budget:
                left, most = Money(micros=budget - spent - reserved), Money(micros=micros)
                raise OverLimit(
                    f"The monthly budget of {one.whose}",
                    why=f"has {left} left, and this request may cost {most}; a smaller max_tokens reserves less",
                    retry_after_s=1 if reserved else self.rest_of_month_s(),
                )
        if requests is not None and words[row + KNOWN_REQUESTS] + words[row + ALL + CALLS] >= requests:
            raise OverLimit(f"The {requests} requests a month of {one.whose}", retry_after_s=self.rest_of_month_s())

    def _wait(self, holder: str, month: int, *, requests: int = 0, tokens: int = 0, micros: int = 0) -> None:
        with self._lock:
            sums = self._waiting.get((holder, month))
            if sums is None:
                sums = self._waiting[holder, month] = [0, 0, 0]
            sums[0] += requests
            sums[1] += tokens
            sums[2] += micros

    def month_now(self) -> int:
        now = self._now()
        if now.tzinfo is not UTC:
            now = now.astimezone(UTC)
        return now.year * 100 + now.month

    def rest_of_month_s(self) -> float:
        now = self._now().astimezone(UTC)
        first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return ((first + timedelta(days=32)).replace(day=1) - now).total_seconds()


def person_holder(store: Store, subject: str) -> str:
    return f"person:{store.keys.pseudonym(subject)}"


def has_month(limits: Limits) -> bool:
    return limits.monthly_budget_micros is not None or limits.monthly_requests is not None


def name_of(month: int) -> str:
    """202611 as `2026-11`."""
    return f"{month // 100}-{month % 100:02d}"


def _parts(waiting: Mapping[tuple[str, int], Sequence[int]]) -> Iterator[Left]:
    for (holder, month), (requests, tokens, micros) in waiting.items():
        yield Left(holder, month, micros, requests, tokens)


def _plus(known: Spending, waiting: Sequence[int]) -> Spending:
    requests, tokens, micros = waiting
    return replace(
        known, requests=known.requests + requests, tokens=known.tokens + tokens, micros=known.micros + micros
    )
