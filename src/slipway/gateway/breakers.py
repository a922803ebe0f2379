"""Circuit breakers: an upstream that keeps failing is left alone for a while, then one request looks if it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from slipway.domain.errors import EngineError, EngineRefused, EngineResting, EngineTimeout, EngineUnreachable
from slipway.domain.routing import FailureKind
from slipway.gateway.failures import failure_kind
from slipway.watch.upstreams import BreakerState, UpstreamHealth

OPEN_S = 5.0
LONGEST_OPEN_S = 60.0
WINDOW_S = 30.0
FEWEST_IN_WINDOW = 20
MOST_BREAKERS = 1024
LONGEST_REST_S = 60.0
"""A Retry-After above this is believed no longer than this."""


class Upstream(NamedTuple):
    """One address of an engine, and the model that is asked there; `model` empty is the address as such."""

    engine: str
    address: str
    model: str


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


class Breakers:
    """The breakers of one worker. Nothing is kept about an upstream that never failed.

    What keeps a connection from being made counts against the address; an error, a timeout or a garbled answer counts
    against the model at that address only, because the others may be well. A breaker opens after `in_a_row` failures in
    a row, or when half of 20 or more calls within 30 s failed, or when `in_a_row` streams in a row broke off. After
    `open_s` (doubled up to a minute each time it fails again) one request is let through: its success closes the
    breaker. Method: M. Nygard, Release It! (2007).
    """

    def __init__(
        self, *, in_a_row: int = 5, open_s: float = OPEN_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.in_a_row = in_a_row
        self.open_s = open_s
        self._clock = clock
        self._breakers: dict[Upstream, Breaker] = {}

    def __bool__(self) -> bool:
        """Whether anything failed lately; while nothing did, nobody needs to ask."""
        return bool(self._breakers)

    def health(self) -> list[UpstreamHealth]:
        """What /metrics and pages show. Safe from another thread."""
        now = self._clock()
        return [
            UpstreamHealth(
                engine=upstream.engine,
                address=upstream.address,
                model=upstream.model,
                state=self._state(breaker, now),
                opened=breaker.opened,
                retry_after_s=max(0.0, breaker.open_until - now) if breaker.open_s else 0.0,
                reason=breaker.reason,
            )
            for upstream, breaker in list(self._breakers.items())
        ]

    def state(self, upstream: Upstream) -> BreakerState:
        breaker = self._breakers.get(upstream)
        return "closed" if breaker is None else self._state(breaker, self._clock())

    def admit(self, engine: str, address: str, model: str) -> EngineResting | None:
        """Why this upstream must not be asked now; None when it may. Whoever may ask must say what came of it."""
        if self.in_a_row <= 0:
            # They were switched off while some were open: whoever was sent to look would never be heard.
            self._breakers.clear()
            return None
        now = self._clock()
        whole, one = self._pair(engine, address, model)
        for breaker in (whole, one):
            if breaker is not None and breaker.open_s and (now < breaker.open_until or breaker.probing):
                return _resting(engine, address, breaker, max(0.0, breaker.open_until - now))
        for breaker in (whole, one):
            if breaker is not None and breaker.open_s:
                breaker.probing = True
        return None

    def resting(self, engine: str, address: str, model: str) -> EngineResting | None:
        """The refusal whose Retry-After is not over yet: with another way to go, this one is spared."""
        breaker = self._breakers.get(Upstream(engine, address, model))
        left_s = breaker.rest_until - self._clock() if breaker is not None else 0.0
        return _resting(engine, address, breaker, left_s) if breaker is not None and left_s > 0 else None

    def answers(self, engine: str, address: str, model: str) -> bool:
        """Whether this upstream last failed by answering 500. Some servers say that to every request that they do not
        like, so it may be well for all others; with nobody else to go to, they should not wait for it."""
        whole, one = self._pair(engine, address, model)
        return one is not None and one.answers and (whole is None or not whole.open_s)

    def succeeded(self, engine: str, address: str, model: str) -> None:
        for upstream in (Upstream(engine, address, ""), Upstream(engine, address, model)):
            breaker = self._breakers.get(upstream)
            if breaker is not None:
                self._close(upstream, breaker)

    def failed(self, engine: str, address: str, model: str, failure: EngineError) -> None:
        if self.in_a_row <= 0:
            return
        whole = Upstream(engine, address, "")
        unconnected = isinstance(failure, EngineTimeout) and failure.phase == "connection"
        if unconnected or isinstance(failure, EngineUnreachable):
            self._count(whole, failure)
            self._abandon(Upstream(engine, address, model))
            return
        if whole in self._breakers:
            self._close(whole, self._breakers[whole])
        self._count(Upstream(engine, address, model), failure)

    def streamed(self, engine: str, address: str, model: str, failure: EngineError | None) -> None:
        """What became of a stream after its first byte, which `succeeded` has told: None where it came to its end."""
        upstream = Upstream(engine, address, model)
        if failure is None:
            breaker = self._breakers.get(upstream)
            if breaker is not None:
                breaker.cut = 0
        elif self.in_a_row > 0:
            breaker = self._breaker(upstream, failure)
            breaker.cut += 1
            if breaker.cut >= self.in_a_row and not breaker.open_s:
                self._open(breaker)

    def limited(self, engine: str, address: str, model: str, failure: EngineError, *, rest_s: float) -> None:
        """The upstream works, but wants no more of us for `rest_s` seconds."""
        upstream = Upstream(engine, address, model)
        self.succeeded(engine, address, model)
        if self.in_a_row > 0 and rest_s > 0:
            breaker = self._breaker(upstream, failure)
            breaker.rest_until = self._clock() + min(rest_s, LONGEST_REST_S)

    def abandoned(self, engine: str, address: str, model: str) -> None:
        """The request ended before the upstream said anything: a client that left proves nothing."""
        self._abandon(Upstream(engine, address, ""))
        self._abandon(Upstream(engine, address, model))

    def _pair(self, engine: str, address: str, model: str) -> tuple[Breaker | None, Breaker | None]:
        return (
            self._breakers.get(Upstream(engine, address, "")),
            self._breakers.get(Upstream(engine, address, model)),
        )

    def _state(self, breaker: Breaker, now: float) -> BreakerState:
        if not breaker.open_s:
            return "closed"
        return "open" if now < breaker.open_until else "half-open"

    def _count(self, upstream: Upstream, failure: EngineError) -> None:
        now = self._clock()
        breaker = self._breaker(upstream, failure)
        if now - breaker.window_from > WINDOW_S:
            breaker.window_from, breaker.asked, breaker.failed = now, 0, 0
        breaker.in_a_row += 1
        breaker.asked += 1
        breaker.failed += 1
        often = breaker.asked >= FEWEST_IN_WINDOW and breaker.failed * 2 >= breaker.asked
        if breaker.open_s and not breaker.probing:
            return  # asked before it opened
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
        breaker.asked += 1
        if breaker.open_s:
            breaker.open_s, breaker.probing = 0.0, False
            breaker.window_from, breaker.asked, breaker.failed = now, 0, 0
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


def _resting(engine: str, address: str, breaker: Breaker, left_s: float) -> EngineResting:
    return EngineResting(engine, address, retry_after_s=left_s, kind=breaker.kind, reason=breaker.reason)
