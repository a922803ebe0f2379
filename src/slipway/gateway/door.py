"""The server's side of a client connection: uvicorn's protocol, with a short way for /v1 and deadlines for all.

uvicorn spends on each request what pages need and /v1 does not: a scope in a dozen steps, every header of the answer
searched for forbidden characters, two timers. The short way speaks the same ASGI to the gateway, for half of that.
"""

from __future__ import annotations

import asyncio
import http
from asyncio import TimerHandle
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from slipway.wire.errors import write_error
from slipway.wire.known_head import Headers, KnownHead

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

    from slipway.gateway.crowd import Crowd
    from slipway.gateway.express import Express, Passing

HEADERS_WITHIN_S = 15.0
"""How long a client may take from the first byte of a request to the last one of its headers."""
BODY_PIECE_WITHIN_S = 30.0
"""How long a client may pause within a body."""
BODY_WITHIN_S = 60.0
"""How long a whole body may take, and a second more for every `BODY_BYTES_A_SECOND` of it that came."""
BODY_BYTES_A_SECOND = 4096
"""Slower than any line that people still use: 32 kbit/s."""
HEADERS_LIMIT = 64 * 1024
HEADERS_TOO_LARGE = f"The headers are larger than {HEADERS_LIMIT // 1024} KB."
TURNED_AWAY = "This server has as many connections at work as it can hold. Ask again soon."
TURNED_AWAY_WITHIN_S = 5.0
UNREAD_WITHIN_S = 60.0
"""How long a client may read nothing of an answer that waits for it."""
UNHEARD_LIMIT = 16 * 1024 * 1024
"""Of a body that goes on after its answer."""
WAITED_FOR_LIMIT = 256 * 1024
"""Of a body that is waited for as a whole, because it may go the short way."""
MOST_WAITED_FOR = 32
"""Of such bodies that are longer than what every connection may hold; of more at once, each is read as it is wanted."""
FOREVER = float("inf")
CALLED = (b"/v1/", b"/openai/", b"/v1beta/")
EXPRESS_PATH = b"/v1/chat/completions"
OFFERS = (b"connection", b"upgrade", b"http2-settings")
VERSIONS = ("1.1", "1.0")
"""The parser takes a line without a version for HTTP/0.9, and passes 2.0 too."""
ASGI = {"version": "3.0", "spec_version": "2.3"}
PHRASES = {int(status): status.phrase for status in http.HTTPStatus}
STATUS_LINES = {
    status: f"HTTP/1.1 {status} {PHRASES.get(status, '')}\r\n".encode("ascii") for status in range(100, 600)
}


class Door(HttpToolsProtocol):
    """One client connection. Requests for what `CALLED` names take the short way, all others uvicorn's."""

    waited_for = 0
    """Long bodies that doors wait for just now."""
    crowd: Crowd | None = None
    """All doors of a worker, where their number is bounded."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._clock: TimerHandle | None = None
        self._clock_at = FOREVER
        self._deadline = FOREVER
        self._reading = ""
        self._header_bytes = 0
        self._whole: Exchange | None = None
        """A request that is on its way, and may go the short way when all of it is there."""
        self._waits = False
        """Whether this one is counted among `waited_for`."""
        self._passing: Passing | None = None
        self._express: Express | None = getattr(self.app, "express", None)
        self._express_scope: dict[str, Any] = {}
        self._known = KnownHead()
        """The head of the last request for the short way, if it came whole."""
        self._body_of: object = None
        self._body_until = FOREVER
        self._idle_bytes = 0
        self._refusal = b""
        self._unread_clock: TimerHandle | None = None
        self._read_on = False
        self._turned_away = False

    # The clock -----------------------------------------------------------------------------------------------------

    def _expect(self, what: str, within_s: float) -> None:
        """Sets the one deadline of the connection. Its timer looks, when it fires, whether the deadline has moved, so
        that a busy connection arms one timer a minute instead of two per request."""
        self._reading = what
        at = self._deadline = self.loop.time() + within_s
        if at < self._clock_at:
            if self._clock is not None:
                self._clock.cancel()
            self._clock_at = at
            self._clock = self.loop.call_at(at, self._tick)

    def _expect_more_body(self, came: int) -> None:
        """Of a body that did not come whole the next piece has a deadline, and so has all of it: who sends a byte a
        second keeps a connection for a minute, and no longer."""
        now = self.loop.time()
        if self._body_of is not self.cycle:
            self._body_of, self._body_until = self.cycle, now + BODY_WITHIN_S
        self._body_until += came / BODY_BYTES_A_SECOND
        self._expect("body", min(BODY_PIECE_WITHIN_S, self._body_until - now))

    def _tick(self) -> None:
        self._clock = None
        self._clock_at = FOREVER
        if self.transport.is_closing() or self._deadline == FOREVER:
            return
        if self.loop.time() < self._deadline:
            self._clock_at = self._deadline
            self._clock = self.loop.call_at(self._deadline, self._tick)
        elif self._reading == "nothing":
            self.transport.close()
        elif self.flow.read_paused or (self._reading == "headers" and self._answering):
            # It is we who let the client wait.
            self._body_until = max(self._body_until, self.loop.time() + BODY_PIECE_WITHIN_S)
            self._expect(self._reading, BODY_PIECE_WITHIN_S)
        else:
            self._refuse(408, f"The {self._reading} of the request came too slowly.", "request_too_slow")

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    # asyncio.Protocol ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._express_scope = self._scope(EXPRESS_PATH, b"", b"POST", "1.1")
        self._expect("nothing", self.timeout_keep_alive)
        if self.crowd is not None and not self.crowd.has_room(cast(Any, self.connections), self):
            # It is told so once it asks: before, it would not read an answer.
            self._turned_away = True
            self._expect("nothing", TURNED_AWAY_WITHIN_S)

    @property
    def idle(self) -> bool:
        """Whether nothing of a request came and nobody waits for an answer."""
        return self._reading == "nothing" and not self._answering

    def leave(self) -> None:
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if self._unread_clock is not None:
            self._unread_clock.cancel()
        # uvicorn tells the newest request only; the one that is being answered may stand before it.
        cycle = self._before(self.cycle)
        while cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            cycle = self._before(cycle)
        super().connection_lost(exc)
        self._wait_no_more()
        passing, self._passing = self._passing, None
        if passing is not None:
            passing.left()
        # Requests know their connection; if it knew them on, each would wait for the collector, which looks seldom.
        self.cycle = cast(Any, None)
        self._body_of = self._whole = None
        self.pipeline.clear()

    @staticmethod
    def _before(cycle: Any) -> Any:
        """The request before one that waits for its turn."""
        return getattr(cycle, "before", None)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread_clock is None:
            self._watch_unread()

    def resume_writing(self) -> None:
        self._read_on = True
        super().resume_writing()

    def _watch_unread(self) -> None:
        """Sees to it that a client which stops reading does not hold its answer, and whoever writes it, for ever."""
        self._read_on = False
        unread = self.transport.get_write_buffer_size()
        self._unread_clock = self.loop.call_later(UNREAD_WITHIN_S, self._look_at_unread, unread)

    def _look_at_unread(self, before: int) -> None:
        self._unread_clock = None
        if not self.flow.write_paused:
            return
        if self._read_on or self.transport.get_write_buffer_size() < before:
            self._watch_unread()
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        before = self._reading
        if before == "nothing":
            if self._turned_away:
                self._refuse(503, TURNED_AWAY, "overloaded", kind="server_error", more=b"retry-after: 1\r\n")
                return
            known = self._known.read(data)
            if known is not None and len(known[1]) <= HIGH_WATER_LIMIT:
                self._begin_known(*known)
                return
            self._header_bytes = 0
            self._reading = "headers"
        elif before == "body":
            cycle, held = self.cycle, len(self.cycle.body)
        self._header_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as wrong:
            if not self._headers_too_large():
                self._refuse(400, f"This is not a request of HTTP/1.1: {wrong}.", "request_invalid")
        else:
            self._headers_too_large()
            # Most requests come whole: only what is still missing gets a deadline, the headers one from their start.
            if self._reading == "body":
                if before == "body" and self.cycle is cycle and len(cycle.body) == held:
                    self._expect_a_body_at_last(len(data))
                self._expect_more_body(len(data))
            elif self._reading == "headers" and (before != "headers" or self._deadline == FOREVER):
                self._expect("headers", HEADERS_WITHIN_S)
        # Many clients send headers and body apart, or a body in pieces: one that is not very long is waited for.
        whole = self._whole
        if whole is not None and (not whole.more_body or self.flow.read_paused):
            if before == "nothing" and not whole.more_body and whole.keep_alive:
                self._known.learn(data, whole.scope["headers"])
            self._begin(whole)

    def _begin_known(self, headers: Headers, body: bytes) -> None:
        """As all that the parser tells of a request does."""
        self.expect_100_continue = False
        exchange = Exchange(self, self._express_scope | {"headers": headers}, keep_alive=True)
        exchange.body, exchange.more_body = body, False
        exchange.set()
        self.cycle = cast(Any, exchange)
        self._deadline = FOREVER
        self._reading = "all"
        self._begin(exchange)

    def _begin(self, exchange: Exchange) -> None:
        """Starts to answer: the short way if all of the request is there and may go it."""
        self._whole = None
        self._wait_no_more()
        if not exchange.more_body and self._express is not None and not self.flow.write_paused:
            passing = self._express.take(exchange)
            if passing is not None:
                if not exchange.response_complete:
                    self._passing = passing
                return
        self._start_asgi_task(cast(Any, exchange), self.app)

    def _may_wait(self, size: int) -> bool:
        """Whether the body that is on its way may be kept here until it is whole, although it is long already."""
        if self._whole is not cast(Any, self.cycle) or size > WAITED_FOR_LIMIT or self._express is None:
            return False
        if not self._waits:
            self._waits = Door.waited_for < MOST_WAITED_FOR
            Door.waited_for += self._waits
        return self._waits

    def _wait_no_more(self) -> None:
        if self._waits:
            self._waits = False
            Door.waited_for -= 1

    def _headers_too_large(self) -> bool:
        too_large = self._reading == "headers" and self._header_bytes > HEADERS_LIMIT
        if too_large:
            self._refuse(400, HEADERS_TOO_LARGE, "headers_too_large")
        return too_large

    def _expect_a_body_at_last(self, came: int) -> None:
        """What came was no part of the body: fields after a body in chunks, or what follows the answer."""
        self._idle_bytes += came
        if self._idle_bytes > (UNHEARD_LIMIT if self.cycle.response_complete else HEADERS_LIMIT):
            self._refuse(400, HEADERS_TOO_LARGE, "headers_too_large")

    def _refuse(
        self, status: int, message: str, code: str, *, kind: str = "invalid_request_error", more: bytes = b""
    ) -> None:
        """Answers what cannot become a request, and closes: where the next one would begin is anybody's guess."""
        if self.transport.is_closing():
            return
        body = write_error(message, kind=kind, code=code)
        answer = b"%bcontent-type: application/json\r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
            STATUS_LINES[status],
            more,
            len(body),
            body,
        )
        if self._reading != "body" and self._answering:
            # Those before it are answered first.
            self._refusal, self._reading, self._deadline = answer, "nothing more", FOREVER
            self.flow.pause_reading()
            return
        answered = self._reading == "body" and self.cycle is not None and self.cycle.response_complete
        if not answered and (not self._answering or not self.cycle.response_started):
            self.transport.write(answer)
        self.transport.close()

    # httptools ------------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        if self._reading != "headers":
            self._header_bytes = 0
            self._reading = "headers"

    def on_headers_complete(self) -> None:
        self._reading = "body"
        url, parser = self.url, self.parser
        before = self.cycle
        if (
            url == EXPRESS_PATH
            and (self._header_bytes <= HEADERS_LIMIT or not self._too_many_headers())
            and (before is None or before.response_complete)
            and not self.expect_100_continue
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        ):
            scope = self._express_scope | {"headers": self.headers}
            whole = self._whole = Exchange(self, scope, keep_alive=parser.should_keep_alive())
            self.cycle = cast(Any, whole)
            return
        path, _, query = url.partition(b"?")
        method = parser.get_method()
        version = parser.get_http_version()
        app = self.app
        if version not in VERSIONS:
            app = _refuse_version
        elif self._too_many_headers():
            app = _refuse_large_headers
        elif not path.startswith(CALLED) or b"%" in path or method == b"HEAD" or parser.should_upgrade():
            self._go_the_long_way()
            return
        scope = self._scope(path, query, method, version) | {"headers": self.headers}
        cycle = Exchange(self, scope, keep_alive=version != "1.0" and parser.should_keep_alive())
        self.cycle = cast(Any, cycle)
        if before is None or before.response_complete:
            self._start_asgi_task(cast(Any, cycle), app)
        else:
            # One more request before the answer to the one before it: it waits for its turn.
            cycle.before = before
            self.flow.pause_reading()
            self.pipeline.appendleft((cast(Any, cycle), app))

    def _too_many_headers(self) -> bool:
        """Whether those that are complete now are too large. A long body may have come with them."""
        return self._header_bytes > HEADERS_LIMIT and sum(len(n) + len(v) for n, v in self.headers) > HEADERS_LIMIT

    def _scope(self, path: bytes, query: bytes, method: bytes, version: str) -> dict[str, Any]:
        """The scope of a request without its headers."""
        return {
            "type": "http",
            "asgi": ASGI,
            "http_version": version,
            "method": method.decode("ascii"),
            "scheme": self.scheme,
            "path": path.decode("ascii"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "server": self.server,
            "client": self.client,
        }

    def passed(self) -> None:
        """Nobody is on the short way any more."""
        self._passing = None

    def on_chunk_header(self) -> None:
        # Fields that come after a body in chunks are none of the request's: whoever checked its headers, a proxy say,
        # did not see them.
        self.headers = []

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Reads a request on as if it did not offer to go on in another protocol, as Java's client does with HTTP/2.

        The parser takes what follows the headers for that other protocol.
        """
        cycle: Any = self.cycle
        if not isinstance(cycle, Offer):
            self._unsupported_upgrade_warning()
            return
        self.cycle = cycle.before
        parser, self.parser = self.parser, httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), self.url, parser.get_http_version().encode("ascii"))
        kept = [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] not in OFFERS]
        self.data_received(b"%b%b\r\n%b" % (line, b"".join(kept), rest))

    def _go_the_long_way(self) -> None:
        offered = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if offered and (b"upgrade", b"websocket") not in self.headers:
            self.cycle = cast(Any, Offer(self.cycle))
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: ASGI3Application) -> None:
        if isinstance(cycle, Exchange):
            # It leaves the set by itself: a callback for that would be one more turn of the loop for each request.
            cycle.task = self.loop.create_task(cycle.run_asgi(app))
            self.tasks.add(cycle.task)
        else:
            super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            size = len(cycle.body)
            if size > HIGH_WATER_LIMIT and not self._may_wait(size):
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.cycle.response_complete:
            self._expect("nothing", self.timeout_keep_alive)
            return
        self.cycle.more_body = False
        self.cycle.message_event.set()
        self._deadline = FOREVER
        self._reading = "all"

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            setattr(cycle, "before", None)  # noqa: B010 (uvicorn's cycles have no such attribute)
            self._start_asgi_task(cycle, app)
        elif self._reading == "all":
            self._expect("nothing", self.timeout_keep_alive)
        elif self._reading == "nothing more":
            self.transport.write(self._refusal)
            self.transport.close()


class Offer:
    """In place of a request that offers to go on in another protocol, until it is read again without that."""

    response_started = response_complete = disconnected = False
    more_body = True
    body = b""

    def __init__(self, before: Any) -> None:
        self.before = before
        self.message_event = self

    def set(self) -> None:
        """Nobody waits for it."""


async def _refuse_large_headers(_scope: Any, _receive: Any, send: Callable[..., Awaitable[None]]) -> None:
    """An application for requests whose headers came at once and are too large all the same."""
    await _send_refusal(send, HEADERS_TOO_LARGE, "headers_too_large")


async def _refuse_version(scope: Any, _receive: Any, send: Callable[..., Awaitable[None]]) -> None:
    """An application for requests of another HTTP than 1.0 and 1.1."""
    message = f"This is not a request of HTTP/1.1 but of HTTP/{scope['http_version']}."
    await _send_refusal(send, message, "request_invalid")


async def _send_refusal(send: Callable[..., Awaitable[None]], message: str, code: str) -> None:
    """Answers 400 and closes."""
    body = write_error(message, kind="invalid_request_error", code=code)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Exchange:
    """One request of the short way and its answer, as ASGI: what `RequestResponseCycle` is to uvicorn."""

    # What many requests never change stands on the class, where it costs them nothing.
    task: asyncio.Task[None] | None = None
    before: Any = None
    """The request that is answered first, while this one waits for its turn."""
    disconnected = False
    body = b""
    more_body = True
    response_started = False
    response_complete = False
    _head = b""
    _chunked = False
    _missing = 0
    _news = False
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, door: Door, scope: MutableMapping[str, Any], *, keep_alive: bool) -> None:
        self._door = door
        self._flow: FlowControl = door.flow
        self._transport: asyncio.Transport = door.transport
        self.scope = scope
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = door.expect_100_continue

    # What `asyncio.Event` is to a single waiter ---------------------------------------------------------------------

    @property
    def message_event(self) -> Exchange:
        return self

    def set(self) -> None:
        """There is something new to receive."""
        self._news = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        if not self._news:
            self._waiter = self._door.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._news = False

    # ASGI -----------------------------------------------------------------------------------------------------------

    async def run_asgi(self, app: Callable[..., Any]) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException:
            self._door.logger.exception("a call of /v1 failed")
            self._transport.close()
            return
        finally:
            self._door.tasks.discard(cast("asyncio.Task[None]", self.task))
            self.task = None
        if not self.response_complete and not self.disconnected:
            self._transport.close()

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """The whole answer at once, past ASGI; `headers` are lines that end in CR LF."""
        door = self._door
        door.passed()
        self.response_started = self.response_complete = True
        self.set()
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        if not self._transport.is_closing():
            self._transport.write(b"%b%b%b%b" % (STATUS_LINES[status], headers, end, body))
            if not self.keep_alive:
                self._transport.close()
        door.on_response_complete()

    def go_the_long_way(self, app: Callable[..., Any]) -> None:
        """Leaves the rest to a task."""
        self._door.passed()
        self._door._start_asgi_task(cast(Any, self), app)

    async def receive(self) -> MutableMapping[str, Any]:
        if self.waiting_for_100_continue and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            await self._wait()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._begin(message)
            return
        body = message.get("body", b"")
        last = not message.get("more_body", False)
        if self._chunked:
            out = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if last:
                out += b"0\r\n\r\n"
        else:
            self._missing -= len(body)
            out = self._head + body
            self._head = b""
        if out:
            try:
                self._transport.write(out)
            except RuntimeError:
                if not self._transport.is_closing():
                    raise
                self.disconnected = True  # the client has left; that is told in a moment
                return
        if last:
            self.response_complete = True
            self.set()
            # A body that is shorter than its content-length would leave the client waiting for the rest.
            if not self.keep_alive or self._missing:
                self._transport.close()
            self._door.on_response_complete()

    def send_piece(self, body: bytes) -> bool:
        """Sends a piece of a stream that has begun, without waiting; False where there is something to wait for."""
        transport = self._transport
        if not self._chunked or self._flow.write_paused or self.disconnected or transport.is_closing():
            return False
        try:
            transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        except RuntimeError:
            return False  # it closes just now
        return True

    def _begin(self, message: MutableMapping[str, Any]) -> None:
        """Writes the head of a stream at once; that of a whole answer waits for its body, which follows at once."""
        self.response_started = True
        self.waiting_for_100_continue = False
        status: int = message["status"]
        lines = [STATUS_LINES[status]]
        length = -1
        for name, value in message["headers"]:
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
                continue
            lines += (name, b": ", value, b"\r\n")
        if length >= 0:
            self._missing = length
        elif self.scope["http_version"] != "1.0":  # to which chunks are unknown: its answer ends with the connection
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        head = b"".join(lines)
        if self._chunked:
            self._transport.write(head)
        else:
            self._head = head
