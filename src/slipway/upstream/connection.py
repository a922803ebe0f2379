"""One keep-alive HTTP/1.1 connection: writes a request, parses the response, watches the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

from slipway.domain.errors import ConnectionBroken, ResponseGarbled, ResponseTooLarge, UpstreamError, UpstreamTimeout
from slipway.upstream.deadlines import Deadlines
from slipway.wire.known_head import KnownHead

PAUSE_ABOVE = 256 * 1024
HEADERS_LIMIT = 64 * 1024
LARGE = 16384
"""Bytes from which a body is written by itself, and may still be on its way when the answer is there."""
FOREVER = float("inf")
GOOD = b"HTTP/1.1 200 "

Header = tuple[bytes, bytes]


class Exchange:
    """One request and what came back so far. Its buffer outlives its place on the connection."""

    __slots__ = (
        "buffer",
        "buffered",
        "connection",
        "done",
        "error",
        "headers",
        "listener",
        "max_bytes",
        "received",
        "sent",
        "started",
        "status",
        "taker",
        "waiter",
    )

    def __init__(self, connection: Connection, max_bytes: int | None) -> None:
        self.connection: Connection | None = connection
        self.max_bytes = max_bytes
        self.status = 0
        self.headers: list[Header] = []
        self.buffer: list[bytes] = []
        self.buffered = 0
        self.received = 0
        self.sent = False
        """Whether the request was handed to the operating system."""
        self.started = False
        self.done = False
        self.error: UpstreamError | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.listener: Callable[[Exchange], None] | None = None
        """Instead of a waiter: called once, when the answer is whole, has failed, or is too much to keep."""
        self.taker: Callable[[bytes], bool] | None = None
        """Where a waiter only passes on what comes, this does it for him: a piece that it takes wakes nobody. It is not
        asked about the last piece."""

    def tell(self) -> None:
        listener = self.listener
        if listener is not None:
            self.listener = None
            listener(self)

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None:
            if self.taker is not None and not self.done and self._taken(self.taker):
                return
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _taken(self, taker: Callable[[bytes], bool]) -> bool:
        buffer = self.buffer
        if not buffer:
            return True
        if len(buffer) > 1:
            buffer[:] = [b"".join(buffer)]
        if not taker(buffer[0]):
            return False
        self.take()
        return True

    async def wait(self) -> None:
        """Until something new is there. One consumer only."""
        self.waiter = asyncio.get_running_loop().create_future()
        await self.waiter

    def take(self) -> bytes:
        """Everything that is buffered, as one piece; lets a paused connection read on."""
        buffer = self.buffer
        piece = buffer[0] if len(buffer) == 1 else b"".join(buffer)
        buffer.clear()
        self.buffered = 0
        if self.connection is not None:
            self.connection.read_on()
        return piece


class Outbox:
    """Requests that are written one after the other when all of a turn of the loop have been prepared: an engine on the
    same machine is woken once for them, instead of once for each."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[Connection, Exchange, bytes]] = []

    def put(self, connection: Connection, exchange: Exchange, request: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._write_all)
        self._waiting.append((connection, exchange, request))

    def _write_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection, exchange, request in waiting:
            connection.write(exchange, request)


class Connection(asyncio.Protocol):
    """A connection of a pool. `on_free` is called when it can carry another request, `on_lost` when it is gone."""

    __slots__ = (
        "_at_end",
        "_deadline",
        "_deadlines",
        "_exchange",
        "_header_bytes",
        "_heading",
        "_known",
        "_large",
        "_loop",
        "_on_free",
        "_on_lost",
        "_outbox",
        "_parser",
        "_paused",
        "_phase",
        "_reads_to_end",
        "_timer",
        "_timer_at",
        "_total_at",
        "_transport",
        "closed",
        "free_since",
        "origin",
        "used",
    )

    def __init__(
        self,
        origin: str,
        *,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        on_free: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self.origin = origin
        self.closed = False
        self.used = 0
        self.free_since = 0.0
        self._loop = loop
        self._outbox = outbox
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._paused = False
        self._reads_to_end = True
        self._at_end = False
        self._header_bytes = 0
        self._heading: list[Header] | None = None
        self._known = KnownHead()
        """The head of the last good answer, if it came whole."""
        self._large = False
        self._deadlines = Deadlines()
        self._phase = "first byte"
        self._deadline = FOREVER
        self._total_at = FOREVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = FOREVER

    # The side of the caller ------------------------------------------------------------------------------------

    def start(self, head: bytes, body: bytes, *, deadlines: Deadlines, max_bytes: int | None) -> Exchange:
        """Writes one request. The connection must be free and open."""
        assert self._transport is not None
        assert self._exchange is None
        exchange = self._exchange = Exchange(self, max_bytes)
        self._heading = exchange.headers
        self.used += 1
        self._reads_to_end = True
        self._header_bytes = 0
        self._deadlines = deadlines
        now = self._loop.time()
        self._total_at = FOREVER if deadlines.total_s is None else now + deadlines.total_s
        self._phase = "first byte"
        self._set_deadline(now, deadlines.first_byte_s)
        self._large = len(body) >= LARGE
        if not self._large:
            self._outbox.put(self, exchange, head + body)
        else:
            self.write(exchange, head, body)
        return exchange

    def write(self, exchange: Exchange, *pieces: bytes) -> None:
        """Writes a request, unless it is over by now."""
        transport = self._transport
        if self._exchange is not exchange or transport is None:
            return
        exchange.sent = True
        try:
            for piece in pieces:
                transport.write(piece)
        except RuntimeError as closed:  # it was closed, and we are told in a moment
            self._fail(ConnectionBroken(self.origin, str(closed), answered=False))

    def put_back(self) -> None:
        """Back to the pool, after nothing was sent; one on which something was is closed."""
        if self._exchange is not None:
            self.give_up()
            return
        self.free_since = self._loop.time()
        self._on_free(self)

    def give_up(self) -> None:
        """Ends the exchange that nobody waits for any more; the connection goes with it."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.connection = None
            exchange.done = True
            if not exchange.started:
                exchange.error = ConnectionBroken(self.origin, "it was given up", answered=False)
                exchange.wake()
        self.abort()

    def read_on(self) -> None:
        if self._paused:
            self._paused = False
            if self._transport is not None and not self.closed:
                self._set_deadline(self._loop.time(), self._deadlines.idle_s)
                self._transport.resume_reading()

    def abort(self) -> None:
        """Closes at once. The other side sees it and can stop its work."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    # The clock -------------------------------------------------------------------------------------------------

    def _set_deadline(self, now: float, wait_s: float | None) -> None:
        # A timer is armed once and looks, when it fires, whether its deadline has moved: a busy connection arms one
        # timer a minute instead of two per request.
        at = self._total_at if wait_s is None else min(now + wait_s, self._total_at)
        self._deadline = at
        if at < self._timer_at or (self._timer is None and at != FOREVER):
            self._arm(at)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = FOREVER
        if self._exchange is None:
            return
        now = self._loop.time()
        deadline = self._total_at if self._paused else self._deadline
        if now < deadline:
            if deadline != FOREVER:
                self._arm(deadline)
            return
        if now >= self._total_at:
            self._fail(UpstreamTimeout(self.origin, "whole answer", self._deadlines.total_s or 0.0))
        else:
            limit = self._deadlines.first_byte_s if self._phase == "first byte" else self._deadlines.idle_s
            self._fail(UpstreamTimeout(self.origin, self._phase, limit or 0.0))

    # asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            # Bytes that nobody asked for: whatever they are, this connection cannot be trusted with another request.
            self.abort()
            return
        if not exchange.sent:
            self._fail(ConnectionBroken(self.origin, "it spoke before it was asked", answered=False))
            return
        first = not exchange.started and not self._header_bytes
        if first and self._come_known(exchange, data):
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(ResponseGarbled(self.origin, "it wants to switch protocols"))
            return
        except httptools.HttpParserError as wrong:
            if self._exchange is exchange:
                self._fail(ResponseGarbled(self.origin, f"not HTTP ({wrong})"))
            else:
                self.abort()
                exchange.tell()
            return
        if self._exchange is exchange:
            if exchange.buffered and self._phase == "first byte":
                self._phase = "next piece"
            if self._phase == "next piece":
                self._set_deadline(self._loop.time(), self._deadlines.idle_s)
            if exchange.buffered > PAUSE_ABOVE and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
                exchange.tell()
        if exchange.done:
            # Hints may come before an answer, with a head that says a length too.
            if first and data.startswith(GOOD) and exchange.error is None:
                self._known.learn(data, exchange.headers)
            exchange.wake()
            exchange.tell()
        elif exchange.started:
            exchange.wake()
        else:
            self._header_bytes += len(data)
            if self._header_bytes > HEADERS_LIMIT:
                self._fail(ResponseGarbled(self.origin, f"headers above {HEADERS_LIMIT // 1024} KB"))

    def _come_known(self, exchange: Exchange, data: bytes) -> bool:
        """As all that the parser tells of a response does; False where the parser has to look at it."""
        read = self._known.read(data)
        if read is None or not read[1] or (exchange.max_bytes is not None and len(read[1]) > exchange.max_bytes):
            return False
        exchange.headers, body = read
        exchange.status, exchange.started = 200, True
        exchange.received = exchange.buffered = len(body)
        exchange.buffer.append(body)
        self._heading = None
        self._reads_to_end = False
        self._finish(keep=True)
        exchange.tell()
        return True

    def eof_received(self) -> bool:
        self._at_end = True
        self.closed = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        exchange = self._exchange
        if exchange is not None:
            if exchange.started and self._reads_to_end and self._at_end and exc is None:
                self._finish()
                exchange.tell()
            else:
                reason = str(exc) if exc else "it closed the connection before the answer was complete"
                self._fail(ConnectionBroken(self.origin, reason, answered=exchange.started))
        self._transport = None
        self._on_lost(self)
        # The parser knows this connection: the two would wait for the collector, which looks seldom.
        self._parser = None

    # Callbacks of the parser -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._exchange is None:
            self.abort()  # a second response that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        heading = self._heading
        if heading is None:
            return  # a field behind a body in chunks: too late to say anything about it
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._reads_to_end = False
        heading.append((name, value))

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        status = self._parser.get_status_code()
        if status >= 200:
            exchange.status = status
            exchange.started = True
            self._heading = None

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        exchange.received += len(body)
        if exchange.max_bytes is not None and exchange.received > exchange.max_bytes:
            self._fail(ResponseTooLarge(self.origin, exchange.max_bytes))
            return
        exchange.buffer.append(body)
        exchange.buffered += len(body)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if not exchange.started:  # 100 Continue and its like
            exchange.headers.clear()
            self._reads_to_end = True
            return
        self._finish()

    # Ends of an exchange ---------------------------------------------------------------------------------------

    def _finish(self, *, keep: bool = False) -> None:
        """`keep`: the parser is not asked whether the connection can carry another request."""
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        exchange.done = True
        exchange.connection = None
        exchange.wake()
        if self._paused:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        if self.closed:
            return
        if (keep or self._parser.should_keep_alive()) and not (self._large and self._unsent()):
            self.free_since = self._loop.time()
            self._on_free(self)
        else:
            self.abort()

    def _unsent(self) -> bool:
        """Whether a server has answered without reading all: the next request would wait behind what it leaves."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _fail(self, error: UpstreamError) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.error = error
            exchange.done = True
            exchange.connection = None
            exchange.wake()
            exchange.tell()
        self.abort()
