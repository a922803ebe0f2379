"""Who stands in for an engine that failed is asked by a few requests first; the others wait for what these find out.

When an engine fails with many requests under way, all of them turn to its stand-in at the same moment. Where that is
down as well, and hangs, nobody knows until all have asked it in vain.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

FEW = 5
"""Requests that may ask at once, whatever is known."""
SHARE = 0.2
"""Of the requests that want to, those that ask before there was an answer."""
KNOWN_S = 10.0
"""How long an answer shows that the next ones will be answered too."""
LATER_SHARE = 0.4
"""After `LATER_S`, since an answer may take its time. Of 10 requests to two engines that hang that makes 14 calls."""
LATER_S = 3.0
MOST = 1024


class StandIn:
    """One of them, as one worker knows it."""

    __slots__ = ("answered_at", "asking", "failures", "news", "waiting")

    def __init__(self) -> None:
        self.answered_at = float("-inf")
        self.failures = 0
        self.asking = self.waiting = 0
        self.news: asyncio.Event | None = None


class StandIns:
    """All of them. Not for several threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], StandIn] = {}

    async def turn(self, engine: str, model: str, *, first: bool) -> bool:
        """Whether to ask this one, as soon as that is known; at once where it is the `first` one that is asked for a
        request. Whoever may ask must say what came of it."""
        stand_in = self._of(engine, model)
        before = stand_in.failures
        share = SHARE
        until: float | None = asyncio.get_running_loop().time() + LATER_S
        while not first and self._clock() - stand_in.answered_at > KNOWN_S:
            failed = stand_in.failures - before
            if failed >= FEW or (failed and not stand_in.asking):
                return False
            if not failed and stand_in.asking < max(FEW, share * (stand_in.asking + stand_in.waiting + 1)):
                break
            stand_in.news = stand_in.news or asyncio.Event()
            stand_in.waiting += 1
            try:
                async with asyncio.timeout_at(until):
                    await stand_in.news.wait()
            except TimeoutError:
                share, until = LATER_SHARE, None
            finally:
                stand_in.waiting -= 1
        stand_in.asking += 1
        return True

    def came_to(self, engine: str, model: str, answered: bool | None) -> None:
        """What came of a turn; None where nobody knows, because the client left, say."""
        stand_in = self._of(engine, model)
        stand_in.asking -= 1
        if answered is True:
            stand_in.answered_at = self._clock()
        elif answered is False:
            stand_in.failures += 1
        if stand_in.news is not None:
            stand_in.news.set()
            stand_in.news = None

    def _of(self, engine: str, model: str) -> StandIn:
        stand_in = self._known.get((engine, model))
        if stand_in is None:
            if len(self._known) >= MOST:
                self._forget()
            stand_in = self._known[engine, model] = StandIn()
        return stand_in

    def _forget(self) -> None:
        """Names of models may come from clients: those that nobody asks just now are forgotten."""
        self._known = {key: one for key, one in self._known.items() if one.asking or one.waiting}
