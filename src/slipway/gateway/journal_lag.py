"""How far the store is behind the journal, asked without waiting long for a store that hangs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from slipway.domain.errors import SlipwayError
from slipway.store.journal import segments
from slipway.store.store import Store
from slipway.tracing.ingest import Backlog, backlog

WAIT_S = 2.0
"""For the store: who asks for metrics gives up after some seconds, and then knows nothing of the gateway either."""


class Lag(NamedTuple):
    """What waits. Without an answer of the store, all that the journal holds, be it stored or not."""

    waiting: Backlog
    answered: bool


class JournalLag:
    """One store, asked by one thread at a time: while it hangs, further questions wait for the same answer."""

    def __init__(self, store: Store, *, ask: Callable[[Store], Backlog] = backlog, wait_s: float = WAIT_S) -> None:
        self._store, self._ask, self._wait_s = store, ask, wait_s
        self._asked: asyncio.Future[Backlog | None] | None = None
        self._damaged = 0

    async def look(self) -> Lag:
        """Within `wait_s`."""
        asked = self._asked
        if asked is None or asked.done():
            loop = asyncio.get_running_loop()
            asked = self._asked = loop.create_future()
            # Not one of a pool's: those are waited for when the process ends.
            threading.Thread(target=self._answer, args=(loop, asked), name="journal lag", daemon=True).start()
        answered, _ = await asyncio.wait({asked}, timeout=self._wait_s)
        found = asked.result() if answered else None
        if found is not None:
            self._damaged = found.damaged
            return Lag(found, True)
        there = segments(self._store.journal_folder)
        size = sum(segment.bytes for segment in there)
        return Lag(Backlog(segments=len(there), bytes=size, damaged=self._damaged), False)

    def _answer(self, loop: asyncio.AbstractEventLoop, asked: asyncio.Future[Backlog | None]) -> None:
        found = None
        with suppress(SlipwayError, OSError):
            found = self._ask(self._store)
        # By now the server may have ended.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(asked.set_result, found)
