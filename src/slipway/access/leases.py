"""What one worker may use of limits without asking the others: blocks, taken from the shared table ahead of need.

Far from its limits a holder who asks often is counted in this process alone, out of blocks that the table counts as
used (requests, tokens) or as reserved (money) already, so that all workers together pass no limit. A block is at most a
256th of what is left (an eighth where there is one worker only), holds for the second of the clock in which it was
taken, and what nobody needed of it goes back. Near a limit, where so small a part would not do, every request asks the
table: there, limits are exact to one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from slipway.access.budgets import Meter, Reservation, has_month
from slipway.access.counters import SECONDS, Counters
from slipway.access.limits import NO_LIMIT, Allowance, RateLimiter, Remaining
from slipway.domain.access import Limits
from slipway.domain.errors import OverLimit

Answer = TypeVar("Answer")
LeftOver = tuple[int, int, int]
"""As `Remaining`, which takes longer to make."""

BLOCK = 256
"""Requests that a block is meant for."""
PART = 256
"""A block is at most one of so many parts of what is left: all workers together hold a small part of it."""
PART_ALONE = 8
"""The same for a worker that shares with no other. A killed one takes what it holds along, for a minute at most."""
AGAIN_S = 1.0
"""How long a holder that is near a limit is not asked about blocks."""
AGAIN_WITHIN_S = 1.5
"""Who asks the table again so soon gets a block: whoever comes less often would only give it back."""
FORGET_S = 60.0
"""After how long a lease that nobody used is made anew when somebody does."""
AT_ONCE = 64
"""Leases that are given back under one lock: other workers wait for it, and this one's requests too."""


class Lease:
    """What this worker holds of one holder's limits. Not for several threads."""

    __slots__ = (
        "again_at",
        "allowance",
        "asked_at",
        "budgeted",
        "holder",
        "late",
        "limited",
        "limits",
        "micros",
        "month",
        "new_requests",
        "new_tokens",
        "requests",
        "requests_left",
        "running",
        "second",
        "spent",
        "tokens",
        "tokens_left",
        "unsaved",
        "unsaved_micros",
        "unsaved_tokens",
        "until",
    )

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self.holder = allowance.holder
        self.limits = allowance.limits
        self.limited = allowance.limited
        self.budgeted = has_month(allowance.limits)
        self.until = 0.0
        """When the blocks end, by the clock; 0 while there are none."""
        self.second = -SECONDS
        """In which requests and tokens of the blocks are counted."""
        self.month = 0
        self.requests = self.tokens = self.micros = 0
        """What is left of the blocks. Below 0: more was used than was set aside."""
        self.requests_left = self.tokens_left = 0
        """What was left of the minute's limits beside the blocks when they were taken."""
        self.spent = 0
        """Money that is still counted as reserved, although it is spent."""
        self.new_requests = self.new_tokens = 0
        """What is to be written down, beside the money."""
        self.unsaved = self.unsaved_tokens = self.unsaved_micros = 0
        """Requests, tokens and money of them that would be lost with this process."""
        self.late: dict[int, int] = {}
        """Tokens to be corrected in other seconds."""
        self.running = 0
        """Requests that money and tokens of the blocks are set aside for."""
        self.again_at = 0.0
        self.asked_at = -AGAIN_WITHIN_S
        """When the table was asked last."""

    @property
    def key(self) -> tuple[str, Limits]:
        return self.holder, self.limits

    @property
    def holds_something(self) -> bool:
        """Whether there is something to tell the table."""
        return bool(self.requests or self.tokens or self.micros or self.spent or self.late or self.new_requests)

    def short_of(self, tokens: int, micros: int, now: float) -> bool:
        """Whether its blocks are too small for one more request like this."""
        return now >= self.until or self.requests < 1 or self.tokens < tokens or self.micros < micros


class Account:
    """The allowances of one request: those of its key, its person and the project; what was set aside for it."""

    __slots__ = (
        "allowances",
        "asked",
        "leases",
        "left",
        "limited",
        "reservation",
        "reserved",
        "settled",
        "taken",
        "taken_at",
    )

    def __init__(self, allowances: tuple[Allowance, ...], leases: tuple[Lease, ...]) -> None:
        self.allowances, self.leases = allowances, leases
        self.limited = False
        for lease in leases:
            if lease.limited:
                self.limited = True
        self.asked = False
        """Whether the table was asked about it."""
        self.left: dict[str, Remaining] = {}
        """What is left of the minute's `requests` and `tokens`, where the table was asked."""
        self.reservation: Reservation | None = None
        """Set where the table was asked."""
        self.reserved = -1
        """Money set aside in blocks; below 0 where there is none, or no more."""
        self.settled = False
        """Whether what was used took the place of what was set aside in blocks."""
        self.taken = 0
        """Tokens counted beforehand, in the second `taken_at`."""
        self.taken_at = 0

    def add(self, allowance: Allowance, lease: Lease) -> None:
        self.allowances, self.leases = (*self.allowances, allowance), (*self.leases, lease)
        self.limited = self.limited or lease.limited

    def remaining(self) -> tuple[LeftOver | None, LeftOver | None]:
        """What is left of the tightest limits of requests and of tokens a minute; None where there is no limit."""
        if self.asked or not self.limited:
            return self.left.get("requests"), self.left.get("tokens")
        requests: LeftOver | None = None
        tokens: LeftOver | None = None
        for lease in self.leases:
            limits = lease.limits
            limit, free = limits.requests_per_minute, lease.requests_left + lease.requests
            if limit is not None and (requests is None or free < requests[1]):
                requests = limit, free, SECONDS
            limit, free = limits.tokens_per_minute, lease.tokens_left + lease.tokens
            if limit is not None and (tokens is None or free < tokens[1]):
                tokens = limit, free if free > 0 else 0, SECONDS
        return requests, tokens


class Leases:
    """The leases of one worker, over the table that all workers share. Not for several threads."""

    def __init__(
        self, limiter: RateLimiter, meter: Meter, counters: Counters, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limiter, self._meter, self._counters, self._clock = limiter, meter, counters, clock
        self._of: dict[tuple[str, Limits], Lease] = {}
        self._open: dict[Lease, None] = {}
        """Those with blocks, in the order in which they took them."""
        self._forgot_at = clock()
        self._unsaved: list[Lease] = []

    def of(self, allowance: Allowance) -> Lease:
        key = allowance.holder, allowance.limits
        lease = self._of.get(key)
        if lease is None:
            lease = self._of[key] = Lease(allowance)
        return lease

    def enter(self, account: Account, allowances: Sequence[Allowance], leases: Sequence[Lease]) -> None:
        """Counts a request under some of its allowances. Raises `OverLimit`; then it is counted nowhere."""
        now = self._clock()
        for lease in leases:
            if lease.requests < 1 or now >= lease.until:
                break
        else:
            for lease in leases:
                lease.requests -= 1
            return
        account.asked = True
        if account.limited:
            self._ask(account, lambda left: self._limiter.take(allowances, requests=1, left=left))

    def reserve(self, account: Account, *, tokens: int, micros: int) -> None:
        """Sets tokens and money aside under all allowances. Raises `OverLimit`; what was set aside until then is given
        back by `release`."""
        now, leases = self._clock(), account.leases
        if not account.asked:
            for lease in leases:
                if now >= lease.until or lease.tokens < tokens or lease.micros < micros:
                    break
            else:
                for lease in leases:
                    lease.tokens -= tokens
                    lease.micros -= micros
                    lease.running += 1
                account.reserved, account.taken, account.taken_at = micros, tokens, int(now)
                return
        account.asked = True
        account.reservation = self._ask(account, lambda _: self._meter.reserve(account.allowances, micros))
        if account.limited:
            take = self._limiter.take
            account.taken_at = self._ask(account, lambda left: take(account.allowances, tokens=tokens, left=left))
            account.taken = tokens
        again = [one for one in leases if now < one.asked_at + AGAIN_WITHIN_S and one.short_of(tokens, micros, now)]
        for lease in leases:
            lease.asked_at = now
        self._take_blocks(again, now, tokens, micros)

    def _ask(self, account: Account, ask: Callable[[dict[str, Remaining]], Answer]) -> Answer:
        """Asks the table. Before it refuses, it gets back what this worker holds."""
        left: dict[str, Remaining] = {}
        try:
            return ask(left)
        except OverLimit:
            holding = [lease for lease in account.leases if lease.holds_something]
            if not holding:
                raise
            self._give_back(holding, self._clock())
            return ask(left)
        finally:
            account.left |= left

    def settle(self, account: Account, *, tokens: int, micros: int) -> None:
        """Replaces what was set aside by what was used. A second time adds to it. `save` makes it last."""
        if account.reserved >= 0:
            self._settle_in_blocks(account, tokens=tokens, micros=micros)
            return
        if account.limited:
            self._limiter.correct(account.allowances, tokens=tokens, taken=account.taken, at=account.taken_at)
            account.taken = 0
        if account.reservation is None:
            account.reservation = Reservation(account.allowances, 0, settled=account.settled)
        self._meter.settle(account.reservation, micros=micros, tokens=tokens)

    def save(self) -> None:
        """Returns when what `settle` counted outlives this process."""
        if self._unsaved:
            for lease in self._unsaved:
                self._save(lease)
            self._unsaved.clear()

    def release(self, account: Account) -> None:
        """Gives back what was set aside for a request that cost nothing; after `settle` it does nothing."""
        if account.reserved >= 0:
            self._settle_in_blocks(account, tokens=0, micros=0)
            self.save()
            return
        reservation = account.reservation
        if reservation is not None and not reservation.settled:
            self._meter.release(reservation)
            if account.limited:
                self._limiter.correct(account.allowances, tokens=0, taken=account.taken, at=account.taken_at)

    def tick(self) -> bool:
        """Gives back what nobody needed of blocks that have ended: once a second or so, and again soon where there is
        more than can be done at once, which is returned."""
        now = self._clock()
        ended: list[Lease] = []
        for lease in self._open:
            if lease.until > now or len(ended) > AT_ONCE:
                break
            ended.append(lease)
        self._give_back(ended[:AT_ONCE], now)
        if now >= self._forgot_at + FORGET_S / 4:
            self._forgot_at = now
            for key, lease in list(self._of.items()):
                if not lease.running and lease.second < now - FORGET_S:
                    del self._of[key]
        return len(ended) > AT_ONCE

    def close(self) -> None:
        """Gives everything back that no request needs."""
        self._give_back(list(self._open), self._clock())

    def _settle_in_blocks(self, account: Account, *, tokens: int, micros: int) -> None:
        at, back, more = account.taken_at, account.reserved - micros, tokens - account.taken
        account.reserved, account.taken, account.settled = -1, 0, True
        for lease in account.leases:
            lease.running -= 1
            lease.micros += back
            lease.spent += micros
            if lease.second == at:
                lease.tokens -= more
            elif more:
                lease.late[at] = lease.late.get(at, 0) + more
            lease.new_requests += 1
            lease.new_tokens += tokens
            if lease.budgeted:
                if not lease.unsaved:
                    self._unsaved.append(lease)
                lease.unsaved += 1
                lease.unsaved_tokens += tokens
                lease.unsaved_micros += micros
            if not lease.until:
                self._give_back([lease], self._clock())

    def _save(self, lease: Lease) -> None:
        if lease.unsaved:
            self._meter.spend(
                lease.holder,
                lease.month,
                requests=lease.unsaved,
                tokens=lease.unsaved_tokens,
                micros=lease.unsaved_micros,
            )
            lease.unsaved = lease.unsaved_tokens = lease.unsaved_micros = 0

    # Blocks ------------------------------------------------------------------------------------------------------

    def _take_blocks(self, leases: Sequence[Lease], now: float, tokens: int, micros: int) -> None:
        """New blocks, for requests like the one that was just counted."""
        leases = [one for one in leases if now >= one.again_at and self._of.setdefault(one.key, one) is one]
        if not leases:
            return
        self._give_back([lease for lease in leases if lease.holds_something], now)
        second, month = int(now), self._meter.month_now()
        until = min(second + 1.0, now + self._meter.rest_of_month_s())
        with self._counters.locked() as words:
            part = PART_ALONE if self._counters.alone else PART
            for lease in leases:
                allowance = lease.allowance
                requests_left, tokens_left = self._limiter.room(words, allowance, second)
                requests, some_tokens = _block(BLOCK, requests_left, part), _block(BLOCK * tokens, tokens_left, part)
                money = _block(BLOCK * micros, self._meter.room(words, allowance, month), part)
                if requests < 1 or some_tokens < tokens or money < micros:
                    lease.again_at = now + AGAIN_S
                    continue
                self._limiter.lend(words, allowance, second, requests=requests, tokens=some_tokens)
                if lease.budgeted:
                    self._meter.lend(words, lease.holder, month, money)
                lease.requests, lease.tokens, lease.micros = requests, some_tokens, money
                lease.requests_left, lease.tokens_left = requests_left - requests, tokens_left - some_tokens
                lease.second, lease.month, lease.until = second, month, until
                self._open.pop(lease, None)
                self._open[lease] = None

    def _give_back(self, leases: Sequence[Lease], now: float) -> None:
        if not leases:
            return
        for lease in leases:
            self._save(lease)
        with self._counters.locked() as words:
            for lease in leases:
                late, lease.late = lease.late, {}
                late[lease.second] = late.get(lease.second, 0) - lease.tokens
                back = {lease.second: -lease.requests}
                self._limiter.take_back(words, lease.allowance, int(now), requests=back, tokens=late)
                if lease.budgeted:
                    self._meter.take_back(words, lease.holder, lease.micros + lease.spent)
        for lease in leases:
            if lease.new_requests:
                self._meter.note(
                    lease.holder,
                    month=lease.month,
                    requests=lease.new_requests,
                    tokens=lease.new_tokens,
                    micros=lease.spent,
                )
            lease.requests = lease.tokens = lease.micros = lease.spent = lease.new_requests = lease.new_tokens = 0
            lease.until = 0.0
            self._open.pop(lease, None)


def _block(wanted: int, left: int, part: int) -> int:
    return NO_LIMIT if left >= NO_LIMIT else min(wanted, left // part)
