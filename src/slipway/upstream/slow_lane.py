"""A thread with an event loop of its own, for clients of other makers that would hold up everybody else on ours.

What runs there may take milliseconds of work for each piece; the loop that serves only waits for its results.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from slipway.domain.errors import UpstreamError, UpstreamTimeout
from slipway.upstream.deadlines import Deadlines
from slipway.upstream.pieces import ByPieces

AHEAD = 64
"""Pieces of a stream that are made before they are wanted."""
Result = TypeVar("Result")


class SlowLane:
    """The thread, begun when it is first needed. At most `at_once` calls run on it; more wait."""

    def __init__(self, name: str, *, at_once: int) -> None:
        self._name = name
        self._at_once = at_once
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._places: asyncio.Semaphore | None = None

    def run(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Starts something on the lane; cancelling the future cancels it."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._places = asyncio.Semaphore(self._at_once)
                threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(self._in_place(work), self._loop)

    async def _in_place(self, work: Coroutine[Any, Any, Result]) -> Result:
        assert self._places is not None
        try:
            await self._places.acquire()
        except BaseException:
            work.close()
            raise
        try:
            return await work
        finally:
            self._places.release()


class LaneResponse(ByPieces):
    """What a call on a slow lane answers, as it comes; satisfies `Response`.

    `begin` gives the status, the headers and the pieces of the body, which come with back pressure and raise
    `UpstreamError`.
    """

    def __init__(self, origin: str, deadlines: Deadlines) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._origin = origin
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | UpstreamError | None] = asyncio.Queue(AHEAD)
        self._until = None if deadlines.total_s is None else self._loop.time() + deadlines.total_s
        self._work: Future[None] | None = None
        self._over = False

    async def start(self, lane: SlowLane, begin: Coroutine[Any, Any, Begun]) -> None:
        """Returns when status and headers are there. Raises `UpstreamError`."""
        started = self._loop.create_future()
        work = self._work = lane.run(self._play(begin, started))
        work.add_done_callback(lambda _: self._tell(started, None))
        try:
            begun = await self._wait(started, "first byte", self._deadlines.first_byte_s)
        except BaseException:
            self.close()
            raise
        if isinstance(begun, UpstreamError):
            raise begun
        self.status, self.headers = begun

    async def _play(self, begin: Coroutine[Any, Any, Begun], started: asyncio.Future[Any]) -> None:
        """On the lane."""
        try:
            status, headers, pieces = await begin
        except UpstreamError as error:
            self._tell(started, error)
            return
        self._tell(started, (status, headers))
        last: UpstreamError | None = None
        try:
            async for piece in pieces:
                await self._put(piece)
        except UpstreamError as error:
            last = error
        finally:
            await pieces.aclose()
        await self._put(last)

    def _tell(self, started: asyncio.Future[Any], what: Any) -> None:
        def tell() -> None:
            if not started.done():
                started.set_result(what)

        with suppress(RuntimeError):  # the loop that asked is gone
            self._loop.call_soon_threadsafe(tell)

    async def _put(self, what: bytes | UpstreamError | None) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._queue.put(what), self._loop))

    async def _wait(self, what: Any, phase: str, within_s: float | None) -> Any:
        """Raises `UpstreamTimeout`."""
        left = None if self._until is None else max(0.0, self._until - self._loop.time())
        patience = min((one for one in (within_s, left) if one is not None), default=None)
        try:
            async with asyncio.timeout(patience):
                return await what
        except TimeoutError:
            self.close()
            if patience == left and patience != within_s:
                raise UpstreamTimeout(self._origin, "whole answer", self._deadlines.total_s or 0.0) from None
            raise UpstreamTimeout(self._origin, phase, within_s or 0.0) from None

    # Response ------------------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether everything was handed out."""
        return self._over

    async def piece(self) -> bytes:
        if self._over:
            return b""
        what = await self._wait(self._queue.get(), "next piece", self._deadlines.idle_s)
        if isinstance(what, UpstreamError):
            self.close()
            raise what
        self._over = what is None
        return what or b""

    def close(self) -> None:
        """Gives the answer up: what still runs on the lane for it is cancelled."""
        self._over = True
        if self._work is not None:
            self._work.cancel()


Begun = tuple[int, list[tuple[bytes, bytes]], AsyncGenerator[bytes, None]]
