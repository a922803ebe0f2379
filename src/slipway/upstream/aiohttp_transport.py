"""The second transport: aiohttp carries the requests, through a proxy where one is named."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import abc, payload
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from slipway.domain.errors import (
    ConnectFailed,
    ConnectionBroken,
    InputError,
    ResponseGarbled,
    ResponseTooLarge,
    UpstreamError,
    UpstreamTimeout,
)
from slipway.upstream.connection import HEADERS_LIMIT, PAUSE_ABOVE
from slipway.upstream.deadlines import Deadlines
from slipway.upstream.names import Lookup, Names, look_up
from slipway.upstream.pieces import ByPieces
from slipway.upstream.pool import KEEP_IDLE_S, STALE_WITHIN_S, is_address, plain_reason
from slipway.upstream.request import Prepared

OWN_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add by itself."""
MOST_HEADERS = 512
_open: set[AsyncGenerator[None, None]] = set()
"""Holds the sessions of running loops: one that nobody holds any more would close the connections of its answers."""
CUT = "it closed the connection before the answer was complete"


class AiohttpTransport:
    """Satisfies `Transport`, with sessions of its own for each running event loop.

    `proxy` is the address of an HTTP proxy for all hosts but those of `direct`, which are names, or ends of names that
    begin with a dot. The rest is as `HttpClient` takes it.
    """

    def __init__(
        self,
        *,
        per_host: int = 512,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup = look_up,
        proxy: str = "",
        direct: Sequence[str] = (),
    ) -> None:
        self._per_host = per_host
        self._tls = tls
        self._lookup = lookup
        self._proxy = URL(proxy) if proxy else None
        self._direct = tuple(name.lower() for name in direct)
        self._sessions: dict[asyncio.AbstractEventLoop, Sessions] = {}

    async def send(
        self, request: Prepared, *, extra: bytes, body: bytes, deadlines: Deadlines, max_bytes: int | None, fresh: bool
    ) -> AiohttpResponse:
        loop = asyncio.get_running_loop()
        sessions = self._sessions.get(loop)
        if sessions is None:
            for other in [other for other in self._sessions if other.is_closed()]:
                del self._sessions[other]
            sessions = self._sessions[loop] = Sessions(
                loop, per_host=self._per_host, tls=self._tls, names=Names(self._lookup)
            )
            await sessions.close_with_the_loop()
        proxy = None if self._proxy is None or self._goes_direct(request.host) else self._proxy
        moved = False
        while True:
            attempt = Attempt(request.origin, deadlines, loop)
            try:
                response = await sessions.send(
                    request, attempt, extra=extra, body=body, max_bytes=max_bytes, fresh=fresh, proxy=proxy
                )
                if response.status != 408 or fresh or not attempt.just_reused():
                    return response
                # Meant for nobody, said in the very moment in which an idle connection was reused.
                response.close()
                fresh = True
            except ConnectionBroken as error:
                # A server may close an idle connection in the very moment it is reused. It closed before it read us, so
                # asking again on a new connection repeats nothing.
                if fresh or not attempt.just_reused() or error.answered:
                    raise
                fresh = True
            except ConnectFailed:
                if moved or proxy is not None or not await sessions.has_moved(request, deadlines):
                    raise
                moved = True

    def _goes_direct(self, host: str) -> bool:
        host = host.lower()
        return any(host == name or (name[:1] == "." and host.endswith(name)) for name in self._direct)


class Sessions:
    """What one event loop has of aiohttp: a session that keeps its connections, and one that does not."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, per_host: int, tls: ssl.SSLContext | None, names: Names
    ) -> None:
        self._loop = loop
        self._names = names
        self._resolver = Resolver(names, loop)
        self._tls = tls
        self._kept = self._session(limit_per_host=per_host, keepalive_timeout=KEEP_IDLE_S)
        self._fresh: aiohttp.ClientSession | None = None

    def _session(self, **connections: Any) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_queued_start.append(_queued)
        trace.on_connection_queued_end.append(_connecting)
        trace.on_connection_create_start.append(_connecting)
        trace.on_connection_create_end.append(_connected)
        trace.on_connection_reuseconn.append(_reused)
        return aiohttp.ClientSession(
            connector=Connector(
                limit=0,
                ssl=self._tls if self._tls is not None else True,
                resolver=self._resolver,
                use_dns_cache=False,
                **connections,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=OWN_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=PAUSE_ABOVE // 2,
            max_line_size=HEADERS_LIMIT,
            max_field_size=HEADERS_LIMIT,
            max_headers=MOST_HEADERS,
            trace_configs=[trace],
            middlewares=[_only_once],
        )

    async def send(
        self,
        request: Prepared,
        attempt: Attempt,
        *,
        extra: bytes,
        body: bytes,
        max_bytes: int | None,
        fresh: bool,
        proxy: URL | None,
    ) -> AiohttpResponse:
        session = self._kept
        if fresh:
            session = self._fresh = self._fresh or self._session(force_close=True)
        method, url, headers = _read_head(request.head, request.origin)
        if extra:
            headers = headers + _read_lines(extra.decode("utf-8").split("\r\n"))
        if request.address:
            headers = [("host", url.host_port_subcomponent or ""), *headers]
            url = url.with_host(request.address)
        try:
            async with asyncio.timeout(None) as attempt.limit:
                attempt.connecting()
                response = await session.request(
                    method,
                    url,
                    headers=CIMultiDict(headers, **{"content-length": str(len(body))}),
                    data=Body(body) if body else None,
                    allow_redirects=False,
                    proxy=proxy,
                    server_hostname=request.host if request.tls and request.address else None,
                    trace_request_ctx=attempt,
                )
        except TimeoutError:
            raise attempt.too_late() from None
        except Failed as failed:
            raise _before_the_answer(request.origin, failed.why) from failed.why
        except (aiohttp.ClientError, OSError) as wrong:
            raise _before_the_answer(request.origin, wrong) from wrong
        if response.status == 101:
            response.close()
            raise ResponseGarbled(request.origin, "it wants to switch protocols")
        return AiohttpResponse(response, attempt, max_bytes)

    async def has_moved(self, request: Prepared, deadlines: Deadlines) -> bool:
        """Whether a host that does not answer has an address by now that it had not before."""
        if request.address or is_address(request.host):
            return False
        try:
            async with asyncio.timeout(deadlines.connect_s):
                before = await self._names.addresses(request.host, request.port, now=self._loop.time())
                now = await self._names.addresses(request.host, request.port, now=self._loop.time(), anew=True)
        except OSError:  # a TimeoutError is one
            return False
        return not set(now) <= set(before)

    async def close_with_the_loop(self) -> None:
        # asyncio closes open async generators before it closes a loop: the one moment in which a session that nobody
        # closes can still say goodbye to its connections.
        async def closer() -> AsyncGenerator[None, None]:
            try:
                yield
            finally:
                for session in (self._kept, self._fresh):
                    if session is not None:
                        await session.close()
                _open.discard(goodbye)
                await asyncio.sleep(0)

        goodbye = closer()
        _open.add(goodbye)
        await anext(goodbye)


class Attempt:
    """Where one request stands, as aiohttp tells it, and the deadline of that."""

    def __init__(self, origin: str, deadlines: Deadlines, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.deadlines = deadlines
        self._loop = loop
        self._phase = "connection"
        self._wait_s: float | None = None
        self.limit: asyncio.Timeout | None = None
        self.reused = False
        self.sent_at = loop.time()
        self.first_at: float | None = None
        self.total_at: float | None = None

    def queued(self) -> None:
        self._wait("free connection", self.deadlines.first_byte_s)

    def connecting(self) -> None:
        self._wait("connection", self.deadlines.connect_s)

    def connected(self) -> None:
        self.sent_at = self._loop.time()
        self._wait("first byte", self.deadlines.first_byte_s)
        self.first_at = None if self._wait_s is None else self.sent_at + self._wait_s
        self.total_at = None if self.deadlines.total_s is None else self.sent_at + self.deadlines.total_s
        if self.total_at is not None and (self.first_at is None or self.total_at < self.first_at):
            self._wait("whole answer", self.deadlines.total_s)

    def _wait(self, phase: str, wait_s: float | None) -> None:
        self._phase, self._wait_s = phase, wait_s
        assert self.limit is not None
        if not self.limit.expired():
            self.limit.reschedule(None if wait_s is None else self._loop.time() + wait_s)

    def just_reused(self) -> bool:
        """Whether the request went out a moment ago, on a connection that was used before."""
        return self.reused and self._loop.time() - self.sent_at < STALE_WITHIN_S

    def too_late(self) -> UpstreamTimeout:
        return UpstreamTimeout(self.origin, self._phase, self._wait_s or 0.0)


class AiohttpResponse(ByPieces):
    """An answer that aiohttp reads; satisfies `Response`."""

    def __init__(self, response: aiohttp.ClientResponse, attempt: Attempt, max_bytes: int | None) -> None:
        self._response = response
        self._content = response.content
        self._deadlines = attempt.deadlines
        self._origin = attempt.origin
        self._max_bytes = max_bytes
        self._received = 0
        self._first_at = attempt.first_at
        self._total_at = attempt.total_at
        self._late = False
        self._clock: asyncio.TimerHandle | None = None
        self.status = response.status
        self.headers = [(name.lower(), value) for name, value in response.raw_headers]
        self._lost: asyncio.Future[None] | None = None
        if not self._content.is_eof():
            self._watch()

    def _watch(self) -> None:
        """Until the body is whole."""
        if self._total_at is not None:
            self._clock = asyncio.get_running_loop().call_at(self._total_at, self._out_of_time)
        connection = self._response.connection
        if connection is not None and connection.protocol is not None:
            self._lost = connection.protocol.closed
            if self._lost is not None:
                self._lost.add_done_callback(self._was_lost)
                self._lost.remove_done_callback(_heard)  # of the answer before on this connection
                self._lost.add_done_callback(_heard)
        self._content.on_eof(self._unwatch)

    def _unwatch(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        if self._lost is not None:
            self._lost.remove_done_callback(self._was_lost)

    @property
    def complete(self) -> bool:
        """Whether the whole body has arrived, read or not."""
        return self._content.is_eof() and self._content.exception() is None

    async def piece(self) -> bytes:
        try:
            piece = await self._next()
        except asyncio.CancelledError:
            self.close()
            raise
        self._received += len(piece)
        if self._max_bytes is not None and self._received > self._max_bytes:
            self.close()
            raise ResponseTooLarge(self._origin, self._max_bytes)
        return piece

    async def _next(self) -> bytes:
        if self._received == 0:
            phase, wait_s, until = "first byte", self._deadlines.first_byte_s, self._first_at
        else:
            phase, wait_s, until = "next piece", self._deadlines.idle_s, None
            if wait_s is not None:
                until = asyncio.get_running_loop().time() + wait_s
        try:
            async with asyncio.timeout_at(until):
                return await self._content.readany()
        except TimeoutError:
            if kept := self._content._read_nowait(-1):
                return kept  # it came in the same moment
            if self.complete:
                return b""
            self.close()
            raise UpstreamTimeout(self._origin, phase, wait_s or 0.0) from None
        except (aiohttp.ClientError, HttpProcessingError, OSError, RuntimeError) as wrong:
            # The reader of the body holds it, and aiohttp raises one and the same for all that were closed: with the
            # frames that it passed through none of them would ever be freed.
            wrong = wrong.with_traceback(None)
            # A RuntimeError is what `readany` says of a connection that was lost and not told of yet. What came before
            # goes out first; `readany` would keep it to itself.
            if kept := self._content._read_nowait(-1):
                return kept
            self.close()
            if self._late:
                raise UpstreamTimeout(self._origin, "whole answer", self._deadlines.total_s or 0.0) from None
            raise _within_the_answer(self._origin, wrong) from wrong

    def close(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        if not self._response.closed:
            self._response.close()

    def _was_lost(self, lost: asyncio.Future[None]) -> None:
        """Ends the wait for more: after a chunk that is none, aiohttp closes the connection and tells no reader."""
        lost.exception()
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError(CUT))

    def _out_of_time(self) -> None:
        self._late, self._clock = True, None
        self.close()


def _heard(lost: asyncio.Future[None]) -> None:
    """A connection that is reset between two answers is nobody's loss, but asyncio logs an error that nobody reads."""
    if not lost.cancelled():
        lost.exception()


class Connector(aiohttp.TCPConnector):
    """Takes no connection again on which something came that nobody had asked for: the next request would get it."""

    async def connect(self, *given: Any, **named: Any) -> Connection:
        while True:
            connection = await super().connect(*given, **named)
            protocol = connection.protocol
            if protocol is None or not protocol.should_close:
                return connection
            connection.close()


class Resolver(abc.AbstractResolver):
    """Our own knowledge of names, for aiohttp."""

    def __init__(self, names: Names, loop: asyncio.AbstractEventLoop) -> None:
        self._names = names
        self._loop = loop

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[abc.ResolveResult]:
        return [
            abc.ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._names.addresses(host, port, now=self._loop.time())
        ]

    async def close(self) -> None:
        """There is nothing to close."""


class Body(payload.BytesPayload):
    """A body that goes out as it is. The class above warns of bodies above a megabyte, which are prompts here."""

    def __init__(self, content: bytes) -> None:
        payload.Payload.__init__(self, content, content_type="application/octet-stream")
        self._size = len(content)


class Failed(Exception):
    """Carries an error past aiohttp, which would send some requests once more by itself."""

    def __init__(self, why: Exception) -> None:
        self.why = why


async def _only_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as why:
        raise Failed(why) from why


async def _queued(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.queued()


async def _connecting(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.connecting()


async def _connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.connected()


async def _reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.reused = True
    context.trace_request_ctx.connected()


def _before_the_answer(origin: str, wrong: Exception) -> UpstreamError:
    """What it means that no status came back."""
    match wrong:
        case aiohttp.ClientConnectorCertificateError(certificate_error=why):
            reason = why.verify_message if isinstance(why, ssl.SSLCertVerificationError) else str(why)
            return ConnectFailed(origin, f"its certificate does not verify ({reason})")
        case aiohttp.ClientProxyConnectionError():
            return ConnectFailed(origin, f"the proxy does not answer ({plain_reason(wrong.os_error)})")
        case aiohttp.ClientConnectorError():
            return ConnectFailed(origin, plain_reason(wrong.os_error))
        case aiohttp.ClientHttpProxyError():
            return ConnectFailed(origin, f"the proxy answered {wrong.status} {wrong.message}".rstrip())
        case aiohttp.ClientResponseError():
            return ResponseGarbled(origin, f"not HTTP ({_first_line(wrong.message)})")
        case aiohttp.InvalidURL():
            return ConnectFailed(origin, f"the address cannot be used ({wrong})")
        case aiohttp.ServerDisconnectedError():
            return ConnectionBroken(origin, CUT, answered=False)
        case _:
            return ConnectionBroken(origin, _first_line(str(wrong)) or CUT, answered=False)


def _within_the_answer(origin: str, wrong: Exception) -> UpstreamError:
    """What it means that the body did not come to its end."""
    if isinstance(wrong, HttpProcessingError):
        return ResponseGarbled(origin, f"not HTTP ({_first_line(wrong.message)})")
    reason = CUT if isinstance(wrong, aiohttp.ClientPayloadError) else _first_line(str(wrong)) or CUT
    return ConnectionBroken(origin, reason, answered=True)


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0].rstrip(":")


def _read_lines(lines: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines if line)]


@lru_cache(maxsize=256)
def _read_head(head: bytes, origin: str) -> tuple[str, URL, list[tuple[str, str]]]:
    """Method, address and headers of a request that was written out. Raises `InputError`."""
    try:
        line, host, *rest = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        reason = 'is not UTF-8 and cannot be sent by aiohttp. Correct it, or set [upstream] transport = "own".'
        raise InputError(f"A header for {origin} {reason}") from None
    method, target, _ = line.split(" ")
    headers = _read_lines(rest)
    scheme = origin.partition(":")[0]
    # As the target stands in the line, and as the header names the host: nothing of it is quoted once more.
    return method, URL(f"{scheme}://{host.partition(': ')[2]}{target}", encoded=True), headers
