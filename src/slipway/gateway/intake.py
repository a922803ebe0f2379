"""Gets what other programs send onto the disk before they are told so: one sync of the journal for many requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from slipway.domain.errors import DiskFull
from slipway.domain.trace import Span, SpanEvent
from slipway.store.journal import LARGEST_RECORD, Journal, segments
from slipway.tracing.intake import encode_events
from slipway.tracing.recorder import encode_spans
from slipway.wire.otlp import Decoded

WINDOW_S = 0.005
"""How long the first of several requests waits for others before the disk is asked; a sync costs more than they do."""
AT_ONCE = 200
"""Spans or log records of one journal record."""
INLINE_BYTES = 16 * 1024
"""Larger bodies are read in a thread, one at a time, so that answers go on and memory stays bounded."""


class Intake:
    """One worker's way from a body to the disk."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._turn = asyncio.Semaphore(1)
        self._waiting: asyncio.Future[None] | None = None
        self._syncs: set[asyncio.Task[None]] = set()
        self.syncs = 0
        """How often the disk was asked."""

    def behind_bytes(self) -> int:
        """What the journal holds, read or not: a live segment of up to 16 MiB counts although it may be read."""
        return sum(segment.bytes for segment in segments(self._journal.folder))

    async def take(self, read: Callable[[], Decoded], *, size: int) -> Decoded:
        """Reads a body of `size` bytes and keeps what it holds: on the disk when this returns.

        Raises what `read` raises, `DiskFull` and `OSError`.
        """
        if size <= INLINE_BYTES:
            taken = self._read_and_write(read)
        else:
            async with self._turn:
                taken = await asyncio.to_thread(self._read_and_write, read)
        if taken.spans or taken.events:
            await self._synced()
        return taken

    def _read_and_write(self, read: Callable[[], Decoded]) -> Decoded:
        taken = read()
        for at in range(0, len(taken.spans), AT_ONCE):
            self._append(taken.spans[at : at + AT_ONCE], encode_spans)
        for at in range(0, len(taken.events), AT_ONCE):
            self._append(taken.events[at : at + AT_ONCE], encode_events)
        return taken

    def _append(
        self,
        members: Sequence[Span] | Sequence[SpanEvent],
        encode: Callable[..., bytes],
    ) -> None:
        payload = encode(members)
        if len(payload) > LARGEST_RECORD and len(members) > 1:
            half = len(members) // 2
            self._append(members[:half], encode)
            self._append(members[half:], encode)
            return
        self._journal.append(payload)

    async def _synced(self) -> None:
        """Waits for the sync that follows; all that asked within the window share it."""
        waiting = self._waiting
        if waiting is None:
            loop = asyncio.get_running_loop()
            waiting = self._waiting = loop.create_future()
            # Whoever waited may have left by then.
            waiting.add_done_callback(lambda done: done.exception())
            loop.call_later(WINDOW_S, self._begin_sync)
        await asyncio.shield(waiting)

    def _begin_sync(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            task = asyncio.get_running_loop().create_task(self._sync(waiting))
            self._syncs.add(task)
            task.add_done_callback(self._syncs.discard)

    async def _sync(self, waiting: asyncio.Future[None]) -> None:
        self.syncs += 1
        try:
            await asyncio.to_thread(self._journal.sync)
        except (OSError, DiskFull) as wrong:
            waiting.set_exception(wrong)
        else:
            waiting.set_result(None)
