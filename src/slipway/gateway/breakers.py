"""Circuit breakers: an upstream that keeps failing is left alone for a while, then one request looks if it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from slipway.domain.errors import EngineError, EngineRefused, EngineResting, EngineTimeout, EngineUnreachable
from slipway.domain.routing import FailureKind
from slipway.gateway.failures import failure_kind
from slipway.gateway.stand_ins import StandIns
from slipway.watch.upstreams import WORST, BreakerState, UpstreamHealth

OPEN_S = 5.0
LONGEST_OPEN_S = 60.0
WINDOW_S = 30.0
FEWEST_IN_WINDOW = 20
MOST_BREAKERS = 1024
LONGEST_REST_S = 60.0
"""A Retry-After above this is believed no longer than this."""


MOST_OF_ONE = FEWEST_IN_WINDOW // 2 - 1
"""Failures of one caller that count for all others within a window: too few to shut them out."""

Caller = tuple[str, ...]
"""Who asks: the key, then the person, each as far as there is one."""
EVERYBODY: Caller = ()


class Upstream(NamedTuple):
    """One address of an engine, and the model that is asked there; `model` empty is the address as such. `caller` is
    whom it is left alone by."""

    engine: str
    address: str
    model: str
    caller: Caller = EVERYBODY


@dataclass(slots=True)
class Breaker:
    """What is known about one upstream since it last failed."""

    kind: FailureKind = "server_error"
    reason: str = ""
    """Of the last failure; the error itself would hold on to the request that met it."""
    answers: bool = False
    """Whether the last failure was an answer with status 500."""
    in_a_row: int = 0
    asked: int = 0
    failed: int = 0
    window_from: float = 0.0
    open_until: float = 0.0
    open_s: float = 0.0
    """0 while closed; else how long it is left alone this time."""
    opened: int = 0
    probing: bool = False
    cut: int = 0
    """Streams in a row that broke off after they had begun."""
    rest_until: float = 0.0
    in_a_row_of: dict[Caller, int] = field(default_factory=dict)
    """Of the failures in a row, how many each caller brought."""
    failed_of: dict[Caller, int] = field(default_factory=dict)
    """The same within the window."""
    cut_of: dict[Caller, int] = field(default_factory=dict)
    """The same of the streams that broke off."""


class Breakers:
    """The breakers of one worker. Nothing is kept about an upstream that never failed.

    What keeps a connection from being made counts against the address; an error, a timeout or a garbled answer counts
    against the model at that address only, because the others may be well. A breaker opens after `in_a_row` failures in
    a row, or when half of 20 or more calls within 30 s failed, or when `in_a_row` streams in a row broke off. After
    `open_s` (doubled up to a minute each time it fails again) one request is let through: its success closes the
    breaker. Method: M. Nygard, Release It! (2007).

    Some requests fail wherever they are sent. So there is a breaker for each person, for each key and for all, and what
    one alone has brought does not suffice to open that of the next: who asks for such things is left without an engine,
    and nobody else.
    """

    def __init__(
        self, *, in_a_row: int = 5, open_s: float = OPEN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.in_a_row = in_a_row
        self.open_s = open_s
        self._clock = clock
        self._breakers: dict[Upstream, Breaker] = {}
        self.stand_ins = StandIns(clock=clock)

    def __bool__(self) -> bool:
        """Whether anything failed lately; while nothing did, nobody needs to ask."""
        return bool(self._breakers)

    def health(self) -> list[UpstreamHealth]:
        """What /metrics and pages show: of one upstream's breakers one that is open. Safe from another thread."""
        now = self._clock()
        worst: dict[tuple[str, str, str], UpstreamHealth] = {}
        for upstream, breaker in list(self._breakers.items()):
            found = UpstreamHealth(
                engine=upstream.engine,
                address=upstream.address,
                model=upstream.model,
                state=self._state(breaker, now),
                opened=breaker.opened,
                retry_after_s=max(0.0, breaker.open_until - now) if breaker.open_s else 0.0,
                reason=breaker.reason,
            )
            known = worst.get(upstream[:3])
            if known is None or WORST.index(found.state) > WORST.index(known.state):
                worst[upstream[:3]] = found
        return list(worst.values())

    def state(self, upstream: Upstream) -> BreakerState:
        breaker = self._breakers.get(upstream)
        return "closed" if breaker is None else self._state(breaker, self._clock())

    def admit(self, engine: str, address: str, model: str, caller: Caller = EVERYBODY) -> EngineResting | None:
        """Why this upstream must not be asked now; None when it may. Whoever may ask must say what came of it."""
        if self.in_a_row <= 0:
            # They were switched off while some were open: whoever was sent to look would never be heard.
            self._breakers.clear()
            return None
        now = self._clock()
        opened = self._opened(engine, address, model, caller)
        for breaker in opened:
            if now < breaker.open_until or breaker.probing:
                return _resting(engine, address, breaker, max(0.0, breaker.open_until - now))
        for breaker in opened:
            breaker.probing = True
        return None

    def resting(self, engine: str, address: str, model: str) -> EngineResting | None:
        """The refusal whose Retry-After is not over yet: with another way to go, this one is spared."""
        breaker = self._breakers.get(Upstream(engine, address, model))
        left_s = breaker.rest_until - self._clock() if breaker is not None else 0.0
        return _resting(engine, address, breaker, left_s) if breaker is not None and left_s > 0 else None

    def answers(self, engine: str, address: str, model: str, caller: Caller = EVERYBODY) -> bool:
        """Whether this upstream last failed by answering 500. Some servers say that to every request that they do not
        like, so it may be well for all others; with nobody else to go to, they should not wait for it."""
        opened = self._opened(engine, address, model, caller)
        return bool(opened) and all(breaker.answers for breaker in opened)

    def succeeded(self, engine: str, address: str, model: str, caller: Caller = EVERYBODY) -> None:
        for upstream in _all_of(engine, address, model, caller):
            breaker = self._breakers.get(upstream)
            if breaker is not None:
                self._close(upstream, breaker)

    def failed(
        self, engine: str, address: str, model: str, failure: EngineError, *, caller: Caller = EVERYBODY
    ) -> None:
        if self.in_a_row <= 0:
            return
        unconnected = isinstance(failure, EngineTimeout) and failure.phase == "connection"
        if unconnected or isinstance(failure, EngineUnreachable):
            self._count(engine, address, "", caller, failure)
            for level in _levels(caller):
                self._abandon(Upstream(engine, address, model, level))
            return
        for level in _levels(caller):
            whole = Upstream(engine, address, "", level)
            if whole in self._breakers:
                self._close(whole, self._breakers[whole])
        self._count(engine, address, model, caller, failure)

    def streamed(
        self, engine: str, address: str, model: str, failure: EngineError | None, caller: Caller = EVERYBODY
    ) -> None:
        """What became of a stream after its first byte, which `succeeded` has told: None where it came to its end."""
        for level, of in _with_next(_levels(caller)):
            upstream = Upstream(engine, address, model, level)
            if failure is None:
                ended = self._breakers.get(upstream)
                if ended is not None:
                    ended.cut = 0
                    ended.cut_of.clear()
            elif self.in_a_row > 0:
                self._cut(self._breaker(upstream, failure), of=of)

    def _cut(self, breaker: Breaker, *, of: Caller | None) -> None:
        if of is not None and breaker.cut < self.in_a_row:
            brought = breaker.cut_of.get(of, 0)
            if brought >= self._most_of_one:
                return
            breaker.cut_of[of] = brought + 1
        breaker.cut += 1
        if breaker.cut >= self.in_a_row and not breaker.open_s:
            self._open(breaker)

    def limited(
        self,
        engine: str,
        address: str,
        model: str,
        failure: EngineError,
        *,
        rest_s: float,
        caller: Caller = EVERYBODY,
    ) -> None:
        """The upstream works, but wants no more of us for `rest_s` seconds."""
        self.succeeded(engine, address, model, caller)
        if self.in_a_row > 0 and rest_s > 0:
            breaker = self._breaker(Upstream(engine, address, model), failure)
            breaker.rest_until = self._clock() + min(rest_s, LONGEST_REST_S)

    def abandoned(self, engine: str, address: str, model: str, caller: Caller = EVERYBODY) -> None:
        """The request ended before the upstream said anything: a client that left proves nothing."""
        for upstream in _all_of(engine, address, model, caller):
            self._abandon(upstream)

    def _opened(self, engine: str, address: str, model: str, caller: Caller) -> list[Breaker]:
        """Those that stand between this caller and the upstream."""
        found = [self._breakers.get(upstream) for upstream in _all_of(engine, address, model, caller)]
        return [breaker for breaker in found if breaker is not None and breaker.open_s]

    def _state(self, breaker: Breaker, now: float) -> BreakerState:
        if not breaker.open_s:
            return "closed"
        return "open" if now < breaker.open_until else "half-open"

    @property
    def _most_of_one(self) -> int:
        """Failures in a row of one caller that count for all others."""
        return max(1, self.in_a_row - 2)

    def _count(self, engine: str, address: str, model: str, caller: Caller, failure: EngineError) -> None:
        """A failure counts for the one that met it, and within bounds for all who ask the same way."""
        for level, of in _with_next(_levels(caller)):
            self._count_for(Upstream(engine, address, model, level), failure, of=of)

    def _count_for(self, upstream: Upstream, failure: EngineError, *, of: Caller | None) -> None:
        now = self._clock()
        breaker = self._breaker(upstream, failure)
        if breaker.open_s and not breaker.probing:
            return  # asked before it opened
        if now - breaker.window_from > WINDOW_S:
            breaker.window_from, breaker.asked, breaker.failed = now, 0, 0
            breaker.failed_of.clear()
        if of is not None and not breaker.open_s:
            in_a_row, failed = breaker.in_a_row_of.get(of, 0), breaker.failed_of.get(of, 0)
            if in_a_row >= self._most_of_one or failed >= MOST_OF_ONE:
                return
            breaker.in_a_row_of[of], breaker.failed_of[of] = in_a_row + 1, failed + 1
        breaker.in_a_row += 1
        breaker.asked += 1
        breaker.failed += 1
        often = breaker.asked >= FEWEST_IN_WINDOW and breaker.failed * 2 >= breaker.asked
        if breaker.open_s or breaker.in_a_row >= self.in_a_row or often:
            self._open(breaker)

    def _open(self, breaker: Breaker) -> None:
        breaker.probing = False
        breaker.open_s = min(LONGEST_OPEN_S, breaker.open_s * 2) if breaker.open_s else self.open_s
        breaker.open_until = self._clock() + breaker.open_s
        breaker.opened += 1

    def _close(self, upstream: Upstream, breaker: Breaker) -> None:
        now = self._clock()
        breaker.in_a_row = 0
        breaker.in_a_row_of.clear()
        breaker.asked += 1
        if breaker.open_s:
            breaker.open_s, breaker.probing = 0.0, False
            breaker.window_from, breaker.asked, breaker.failed = now, 0, 0
            breaker.failed_of.clear()
        elif now - breaker.window_from > WINDOW_S and now > breaker.rest_until and not breaker.cut:
            del self._breakers[upstream]

    def _abandon(self, upstream: Upstream) -> None:
        breaker = self._breakers.get(upstream)
        if breaker is not None:
            breaker.probing = False

    def _breaker(self, upstream: Upstream, failure: EngineError) -> Breaker:
        breaker = self._breakers.get(upstream)
        if breaker is None:
            if len(self._breakers) >= MOST_BREAKERS:
                # Names of models may come from clients: the one that failed first is forgotten.
                del self._breakers[next(iter(self._breakers))]
            breaker = self._breakers[upstream] = Breaker(window_from=self._clock())
        breaker.kind, breaker.reason = failure_kind(failure), str(failure)
        breaker.answers = isinstance(failure, EngineRefused) and failure.status == 500
        return breaker


def _levels(caller: Caller) -> list[Caller]:
    """Everybody, the key, the person: as many as there are."""
    return [EVERYBODY, *(caller[:end] for end in range(1, len(caller) + 1) if caller[end - 1])]


def _with_next(levels: list[Caller]) -> Iterator[tuple[Caller, Caller | None]]:
    """Each with who brings it a failure; the last with None, because it is the caller itself."""
    return zip(levels, [*levels[1:], None], strict=True)


def _all_of(engine: str, address: str, model: str, caller: Caller) -> list[Upstream]:
    """What can stand between this caller and the upstream: breakers of the address, and of the model there."""
    return [Upstream(engine, address, name, level) for level in _levels(caller) for name in ("", model)]


def _resting(engine: str, address: str, breaker: Breaker, left_s: float) -> EngineResting:
    return EngineResting(engine, address, retry_after_s=left_s, kind=breaker.kind, reason=breaker.reason)
