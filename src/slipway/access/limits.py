"""Requests and tokens a minute, counted by all workers of a server together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from slipway.access.counters import REQUESTS, SECONDS, TOKENS, Counters
from slipway.domain.access import Limits
from slipway.domain.errors import OverLimit

UNLIMITED = Limits()
NO_LIMIT = 1 << 62
"""What is left where nothing is limited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Somebody's limits: those of a key, a person or the whole project. `holder` is what is counted under."""

    holder: str
    whose: str
    """As messages say it: `key 'shop'`."""
    limits: Limits

    @property
    def limited(self) -> bool:
        return self.limits != UNLIMITED


class Remaining(NamedTuple):
    """How much of a minute's limit is left, and in how many seconds all of it will be."""

    limit: int
    remaining: int
    reset_s: int


class RateLimiter:
    """Lets at most so many requests and tokens pass in any 60 seconds of the clock, however many processes count.

    What was used becomes free again a minute later, second by second.
    """

    def __init__(self, counters: Counters | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._counters = counters or Counters(clock=clock)
        self._clock = clock

    def take(
        self,
        allowances: Sequence[Allowance],
        *,
        requests: int = 0,
        tokens: int = 0,
        left: dict[str, Remaining] | None = None,
    ) -> int:
        """Counts requests and tokens for everybody concerned; returns the second they are counted in.

        More tokens than a whole minute's could never be served: they take the whole minute instead. `left` is told what
        remains of the tightest limits. Raises `OverLimit`; then nothing is counted.
        """
        now = int(self._clock())
        with self._counters.locked() as words:
            wanted: list[tuple[int, int, int, str]] = []
            for one in allowances:
                limits = one.limits
                for what, start, limit, amount in (
                    ("requests", REQUESTS, limits.requests_per_minute, requests),
                    ("tokens", TOKENS, limits.tokens_per_minute, tokens),
                ):
                    if limit is None or not (amount or left is not None):
                        continue
                    window = self._counters.row(one.holder) + start
                    used = _advance(words, window, now)
                    if used + min(amount, limit) > limit:
                        if left is not None:
                            left[what] = Remaining(limit, max(0, limit - used), _newest_s(words, window, now))
                        wait_s = _wait_s(words, window, now, used + min(amount, limit) - limit)
                        raise OverLimit(f"The limit of {limit} {what} a minute of {one.whose}", retry_after_s=wait_s)
                    wanted.append((window, amount, limit, what))
            for window, amount, limit, what in wanted:
                if amount:
                    _add(words, window, now, amount)
                if left is not None:
                    free = max(0, limit - words[window + 1])
                    if what not in left or free < left[what].remaining:
                        left[what] = Remaining(limit, free, SECONDS if amount else _newest_s(words, window, now))
        return now

    def correct(self, allowances: Sequence[Allowance], *, tokens: int, taken: int, at: int) -> None:
        """Replaces the tokens that were `taken` in the second `at` by those that were used."""
        if tokens == taken:
            return
        now = int(self._clock())
        with self._counters.locked() as words:
            for one in allowances:
                if one.limits.tokens_per_minute is None:
                    continue
                row = self._counters.find(one.holder)
                if row is None:
                    continue  # it was given away, and what was counted with it
                _correct(words, row + TOKENS, now, at, tokens - taken)

    # For leases, under the lock of the table ---------------------------------------------------------------------

    def room(self, words: memoryview, allowance: Allowance, now: int) -> tuple[int, int]:
        """Requests and tokens that are left of the minute's limits."""
        left = [NO_LIMIT, NO_LIMIT]
        for place, (start, limit) in enumerate(_windows(allowance.limits)):
            if limit is not None:
                left[place] = limit - _advance(words, self._counters.row(allowance.holder) + start, now)
        return left[0], left[1]

    def lend(self, words: memoryview, allowance: Allowance, now: int, *, requests: int, tokens: int) -> None:
        """Counts requests and tokens that there is room for."""
        for (start, limit), amount in zip(_windows(allowance.limits), (requests, tokens), strict=True):
            if limit is not None:
                _add(words, self._counters.row(allowance.holder) + start, now, amount)

    def take_back(
        self,
        words: memoryview,
        allowance: Allowance,
        now: int,
        *,
        requests: Mapping[int, int],
        tokens: Mapping[int, int],
    ) -> None:
        """Corrects what was counted in some seconds by what is to be added there."""
        row = self._counters.find(allowance.holder)
        if row is None:
            return  # the row was given away, and what was counted with it
        for (start, limit), amounts in zip(_windows(allowance.limits), (requests, tokens), strict=True):
            if limit is None:
                continue
            window = row + start
            for second, amount in amounts.items():
                _correct(words, window, now, second, amount)

    def remaining(self, allowances: Sequence[Allowance]) -> dict[str, Remaining]:
        """What is left of the tightest limits, of `requests` and of `tokens`."""
        left: dict[str, Remaining] = {}
        self.take(allowances, left=left)
        return left


def _windows(limits: Limits) -> tuple[tuple[int, int | None], tuple[int, int | None]]:
    return (REQUESTS, limits.requests_per_minute), (TOKENS, limits.tokens_per_minute)


def _advance(words: memoryview, window: int, now: int) -> int:
    """Forgets what is older than a minute; returns the sum of the rest."""
    last = words[window]
    if last == now:
        return int(words[window + 1])
    if 0 < now - last < SECONDS:
        for second in range(last + 1, now + 1):
            at = window + 2 + second % SECONDS
            words[window + 1] -= words[at]
            words[at] = 0
    elif now < last and last - now < SECONDS:
        return int(words[window + 1])  # another process looked at the clock a moment later
    else:
        for at in range(window + 1, window + 2 + SECONDS):
            words[at] = 0
    words[window] = now
    return int(words[window + 1])


def _correct(words: memoryview, window: int, now: int, second: int, amount: int) -> None:
    """Adds to what was counted in a second, or takes off it; what is to be added to one that is over counts now."""
    _advance(words, window, now)
    if words[window] - second < SECONDS:
        # The row may have been given away and come back: nothing is taken off that was not counted here.
        _add(words, window, second, max(amount, -words[window + 2 + second % SECONDS]))
    elif amount > 0:
        _add(words, window, now, amount)


def _add(words: memoryview, window: int, second: int, amount: int) -> None:
    words[window + 1] += amount
    words[window + 2 + second % SECONDS] += amount


def _newest_s(words: memoryview, window: int, now: int) -> int:
    """Seconds until everything that is counted now has become old."""
    return next(
        (SECONDS - age for age in range(SECONDS) if words[window + 2 + (now - age) % SECONDS]),
        0,
    )


def _wait_s(words: memoryview, window: int, now: int, amount: int) -> int:
    """Seconds until `amount` of what is counted has become old."""
    if amount <= 0:
        return 0
    freed = 0
    for age in range(SECONDS - 1, -1, -1):
        freed += words[window + 2 + (now - age) % SECONDS]
        if freed >= amount:
            return SECONDS - age
    return SECONDS
