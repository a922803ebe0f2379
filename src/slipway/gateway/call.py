"""One request on its way through the gateway: its body and headers, who asks, and what goes back."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from slipway.access.leases import Account
from slipway.domain.access import ApiKey
from slipway.domain.errors import BodiesTooMany, RequestInvalid, RequestTooLarge
from slipway.domain.ids import SpanId, SubjectId, TraceId
from slipway.gateway.account import limit_lines, limits_left
from slipway.gateway.bodies import bodies
from slipway.gateway.canaries import Arm
from slipway.gateway.metrics import Line
from slipway.gateway.snapshot import Snapshot
from slipway.wire.forms import Form, is_form
from slipway.wire.openai import read_fields

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
SAFE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
LONGEST_SUBJECT = 256
DRAIN_BYTES = 256 * 1024 * 1024
DRAIN_S = 10.0
SHADOWS = ("shadows",)


AT_ONCE = 64
_ids: list[tuple[TraceId, SpanId]] = []


def _more_ids() -> tuple[TraceId, SpanId]:
    """Ids for a trace and its first span, as `new_trace_id` and `new_span_id` make them. The kernel is asked once for
    many: that costs as much as for one."""
    chance = os.urandom(18 * AT_ONCE).hex()
    now = f"{time.time_ns() // 1_000_000:012x}"
    _ids.extend(
        (TraceId(now + chance[at : at + 20]), SpanId(chance[at + 20 : at + 36])) for at in range(0, len(chance), 36)
    )
    return _ids.pop()


class ClientLeft(Exception):
    """The client closed its connection before its request was whole."""


class Call:
    """One HTTP request. It is begun with one snapshot and keeps it."""

    # What most calls never change stands on the class, where it costs a call nothing.
    task: asyncio.Task[Any] | None = None
    left = False
    finished = False
    responded = False
    watched = False
    read = False
    recorded = False
    outcome = ""
    """Code of the error, or `cancelled`, `blocked`; empty when all went well."""
    status = 0
    first_byte_ns: int | None = None
    key: ApiKey | None = None
    native = False
    """Whether the engine answers in the client's own API."""
    account: Account | None = None
    """Whose limits and budgets the call is counted under, if any."""
    model = ""
    deployment = ""
    """The model, where the path names it; whatever the body says."""
    channel = ""
    release = ""
    for_page: tuple[tuple[bytes, bytes], ...] = ()
    """Headers for the web page of another site that calls, where it may."""
    line: Line | None = None
    arm: Arm | None = None
    """Set where the channel watches a canary: whose outcome this call is."""
    shadow_of = ""
    """The trace of the request that this one is a copy of, where it is one for a shadow."""
    fallback = ""
    """Who answered instead of the release that was routed to."""
    parent: SpanId | None = None
    session = ""
    subject: SubjectId | None = None
    _held = 0
    """Bytes of its body that are counted."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, snapshot: Snapshot) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.snapshot = snapshot
        self.path: str = scope["path"]
        self.started = time.perf_counter()
        self.started_ns = time.time_ns()
        headers = self.headers = dict[bytes, bytes](scope["headers"])
        self.trace, self.span = _ids.pop() if _ids else _more_ids()
        if b"traceparent" in headers:
            self._join_trace(headers[b"traceparent"])
        given = headers.get(b"x-request-id")
        if given is None or SAFE_ID.fullmatch(given) is None:
            given = b"req_" + self.trace.encode("ascii")
        self.request_id: bytes = given
        if b"x-slipway-session" in headers:
            self.session = headers[b"x-slipway-session"].decode("utf-8", "replace")[:LONGEST_SUBJECT]

    def identify(self, user: str | None) -> None:
        """Notes whom the request is about: header x-slipway-subject, or the body's `user`. Raises `RequestInvalid`."""
        header = self.headers.get(b"x-slipway-subject")
        if not header and not user:
            return
        named = header.decode("utf-8", "replace") if header else user or ""
        named = named.strip()
        if len(named) > LONGEST_SUBJECT:
            raise RequestInvalid(f"'user' is longer than {LONGEST_SUBJECT} characters: send a pseudonym.", param="user")
        self.subject = SubjectId(named) if named else None

    def _join_trace(self, given: bytes) -> None:
        """Continues the client's trace, where its W3C traceparent is one."""
        match = TRACEPARENT.fullmatch(given)
        if match is not None and match[1].strip(b"0") and match[2].strip(b"0"):
            self.trace, self.parent = TraceId(match[1].decode("ascii")), SpanId(match[2].decode("ascii"))

    @property
    def caller(self) -> tuple[str, ...]:
        """Who asks, for those who count failures by it: the key and the person, as far as there are such. All copies
        for shadows are one caller: what they trip over must not close the way for those whom they are copies of."""
        if self.shadow_of:
            return SHADOWS
        key = "" if self.key is None else self.key.id
        if self.subject is not None:
            return (key, self.subject)
        return (key,) if key else ()

    @property
    def idempotency_key(self) -> bytes:
        """The same for every call of an engine that this request leads to: the client's own, or its trace and span."""
        given = self.headers.get(b"idempotency-key")
        if given is not None and SAFE_ID.fullmatch(given) is not None:
            return given
        return b"%b-%b" % (self.trace.encode("ascii"), self.span.encode("ascii"))

    def lines_for_engine(self) -> bytes:
        """Headers for the engine that the call is passed on to: its trace, and a key that all attempts share."""
        trace, span = self.trace.encode("ascii"), self.span.encode("ascii")
        if b"idempotency-key" in self.headers:
            return b"traceparent: 00-%b-%b-01\r\nidempotency-key: %b\r\n" % (trace, span, self.idempotency_key)
        return b"traceparent: 00-%b-%b-01\r\nidempotency-key: %b-%b\r\n" % (trace, span, trace, span)

    @property
    def end_ns(self) -> int:
        """Now, counted from the start: a clock that is set meanwhile makes no request last hours, or less than none."""
        return self.started_ns + round(self.seconds * 1e9)

    @property
    def sticky(self) -> str:
        """What decides between the releases of a channel: the person, the session, or else chance."""
        return self.subject or self.session or self.trace

    # In ----------------------------------------------------------------------------------------------------------

    async def body(self) -> bytes:
        """The whole body, with the model that the path names. Raises `RequestTooLarge`, `BodiesTooMany`, `ClientLeft`,
        and `RequestInvalid` where it cannot be named in it."""
        limit = int(self.snapshot.workspace.settings.server.max_body_mb * 1_000_000)
        declared = self.headers.get(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            await self._drain()
            raise RequestTooLarge(limit / 1_000_000)
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientLeft
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            body = await self._rest_of_body(body, limit)
        self.read = True
        return body if not self.deployment else self._naming_model(body)

    def _naming_model(self, body: bytes) -> bytes:
        content_type = self.headers.get(b"content-type", b"")
        if is_form(content_type):
            return Form(body, content_type).naming("model", self.deployment)
        return msgspec.json.encode(read_fields(body) | {"model": self.deployment})

    async def _rest_of_body(self, begin: bytes, limit: int) -> bytes:
        pieces, size, more = [begin], len(begin), True
        most = int(self.snapshot.workspace.settings.server.bodies_mb * 1_000_000)
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientLeft
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit:
                await self._drain()
                raise RequestTooLarge(limit / 1_000_000)
            try:
                bodies.take(len(piece), own=self._held, most=most)
            except BodiesTooMany:
                pieces.clear()
                self._give_back()
                await self._drain()
                raise
            self._held += len(piece)
            pieces.append(piece)
            more = message.get("more_body", False)
        return b"".join(pieces)

    async def _drain(self) -> None:
        """Reads on for a while what nobody keeps: most clients listen only when they have sent all. A client that asked
        first, by `Expect: 100-continue`, is told at once."""
        if b"expect" not in self.headers:
            dropped = 0
            try:
                async with asyncio.timeout(DRAIN_S):
                    while dropped < DRAIN_BYTES:
                        message = await self._receive()
                        if message["type"] != "http.request":
                            raise ClientLeft
                        dropped += len(message.get("body", b""))
                        if not message.get("more_body", False):
                            break
            except TimeoutError:
                pass

    def _give_back(self) -> None:
        bodies.give_back(self._held)
        self._held = 0

    async def wait_until_left(self) -> None:
        """Returns when the client is gone or has its whole answer. Only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # Out ---------------------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Nothing more goes out: what stood between this call and the server knows the call, and would keep both."""
        self._send = _to_nobody
        if self._held:
            self._give_back()

    def send_through(self, outlet: Callable[[Send], Send]) -> None:
        """Puts something between this call and the server, which sees and may change all that goes out."""
        self._send = outlet(self._send)

    def head_lines(self, status: int, content_type: bytes, length: int, more: list[tuple[bytes, bytes]]) -> bytes:
        """The headers of a whole response as lines, for who sends them past ASGI."""
        if not (more or self.fallback) and self.release:
            # As below, and as nearly always, in one go.
            self.status, self.responded = status, True
            limits = b"" if self.account is None else limit_lines(self.account)
            return (
                b"content-type: %b\r\nx-request-id: %b\r\nx-slipway-trace: %b\r\n"
                b"x-slipway-release: %b\r\n%bcontent-length: %d\r\n"
            ) % (content_type, self.request_id, self.trace.encode(), self.release.encode(), limits, length)
        pairs = self._head(status, content_type, [(b"content-length", b"%d" % length), *more])
        return b"".join([b"%b: %b\r\n" % pair for pair in pairs])

    def _head(self, status: int, content_type: bytes, more: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        self.status = status
        self.responded = True
        headers = [
            (b"content-type", content_type),
            (b"x-request-id", self.request_id),
            (b"x-slipway-trace", self.trace.encode("ascii")),
        ]
        if self.release:
            headers.append((b"x-slipway-release", self.release.encode("ascii")))
        if self.account is not None:
            headers += limits_left(self.account)
        if self.fallback:
            headers.append((b"x-slipway-fallback", self.fallback.encode("ascii", "backslashreplace")))
        headers += self.for_page
        headers += more
        return headers

    async def _start(self, status: int, content_type: bytes, more: list[tuple[bytes, bytes]]) -> None:
        headers = self._head(status, content_type, more)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def reply(
        self,
        status: int,
        body: bytes,
        *,
        content_type: bytes = b"application/json",
        more: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """The whole response."""
        headers = [(b"content-length", b"%d" % len(body)), *(more or ())]
        await self._start(status, content_type, headers)
        await self._send({"type": "http.response.body", "body": body})

    def note_first_byte(self) -> None:
        """Notes when the first piece of a stream was there to be sent; only the first call counts."""
        if self.first_byte_ns is None:
            self.first_byte_ns = round(self.seconds * 1e9)

    async def begin_stream(
        self,
        content_type: bytes = b"text/event-stream; charset=utf-8",
        *,
        more: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self.note_first_byte()
        await self._start(200, content_type, [(b"cache-control", b"no-cache"), *(more or ())])

    async def piece(self, body: bytes) -> None:
        """A piece of a stream; waits while the client is slower than we are."""
        at_once = self.send_piece
        if at_once is None or not at_once(body):
            await self._send({"type": "http.response.body", "body": body, "more_body": True})

    @property
    def send_piece(self) -> Callable[[bytes], bool] | None:
        """As `piece`, at once, and False where it would have to wait. None where something stands between this call and
        the server, or the server has no such way."""
        return getattr(getattr(self._send, "__self__", None), "send_piece", None)

    async def end_stream(self, body: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": body})

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


async def _to_nobody(_message: MutableMapping[str, Any]) -> None:
    raise ClientLeft
