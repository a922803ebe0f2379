"""Calls an engine patiently: retries within a budget, with back-off, and never after the first piece of a stream."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from slipway.domain.errors import EngineError, EngineRefused
from slipway.domain.message import Delta, Reply, Request
from slipway.engines.base import Engine, Tools
from slipway.upstream.backoff import wait_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often and how long to try. `deadline_s` caps all tries and waits together."""

    attempts: int = 3
    first_wait_s: float = 0.25
    deadline_s: float = 120.0


class RetryBudget:
    """Lets a share of the calls be repeated, and no more: when everything fails, repeating all of it makes it worse.

    Every call puts `share` of a token in, every repetition takes one out; `burst` is the most that is saved up.
    """

    __slots__ = ("_burst", "_tokens", "share")

    def __init__(self, *, share: float = 0.2, burst: float = 10.0) -> None:
        self.share = share
        self._burst = burst
        self._tokens = burst

    def called(self) -> None:
        self._tokens = min(self._burst, self._tokens + self.share)

    def take(self) -> bool:
        """Whether one more try is allowed; if so, it is counted."""
        if self._tokens < 1 or self.share <= 0:
            return False
        self._tokens -= 1
        return True


PATIENCE = Patience()
IMPATIENT = Patience(attempts=1)
NO_RETRIES = RetryBudget(share=0.0)
_budget = RetryBudget()


async def complete(
    engine: Engine,
    request: Request,
    *,
    tools: Tools,
    patience: Patience = PATIENCE,
    budget: RetryBudget | None = None,
) -> Reply:
    """A reply, after as many tries as patience and budget allow. Raises the last `EngineError`."""
    budget = budget or _budget
    budget.called()
    give_up_at = time.monotonic() + patience.deadline_s
    for attempt in range(patience.attempts):
        try:
            return await engine.complete(request, tools=tools)
        except EngineError as failed:
            await _wait_or_raise(failed, attempt, patience, budget, give_up_at)
    raise AssertionError("the last attempt returns or raises")


async def stream(
    engine: Engine,
    request: Request,
    *,
    tools: Tools,
    patience: Patience = PATIENCE,
    budget: RetryBudget | None = None,
) -> AsyncIterator[Delta]:
    """As `complete`, piece by piece: an error after the first piece is raised at once, since what was said is said."""
    budget = budget or _budget
    budget.called()
    give_up_at = time.monotonic() + patience.deadline_s
    for attempt in range(patience.attempts):
        begun = False
        pieces = engine.stream(request, tools=tools)
        try:
            async for delta in pieces:
                begun = True
                yield delta
            return
        except EngineError as failed:
            if begun:
                raise
            await _wait_or_raise(failed, attempt, patience, budget, give_up_at)
        finally:
            # Whoever leaves in the middle cancels the engine's work now, not when the garbage is collected.
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()


async def _wait_or_raise(
    failed: EngineError, attempt: int, patience: Patience, budget: RetryBudget, give_up_at: float
) -> None:
    asked_for = failed.retry_after_s if isinstance(failed, EngineRefused) else None
    wait = wait_s(attempt, chance=random.random(), asked_for_s=asked_for, first_s=patience.first_wait_s)
    last = attempt == patience.attempts - 1
    if last or not failed.retryable or time.monotonic() + wait >= give_up_at or not budget.take():
        raise failed
    await asyncio.sleep(wait)
