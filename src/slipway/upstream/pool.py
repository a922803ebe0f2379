"""Pools of keep-alive connections, one per event loop, with a cap per host."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from ipaddress import ip_address
from typing import Any

from slipway.domain.errors import ConnectFailed, ConnectionBroken, UpstreamTimeout
from slipway.upstream.connection import Connection, Exchange, Outbox
from slipway.upstream.deadlines import Deadlines
from slipway.upstream.names import Lookup, Names, look_up
from slipway.upstream.pieces import ByPieces
from slipway.upstream.request import Prepared

KEEP_IDLE_S = 55.0
STALE_WITHIN_S = 1.0
_open: set[AsyncGenerator[None, None]] = set()
"""Holds the pools of running loops: one that nobody holds any more would be collected at any moment, and its
connections with it, or after the loop that could have closed them."""


class StreamedResponse(ByPieces):
    """An answer of a pooled connection; satisfies `Response`."""

    __slots__ = ("_exchange", "headers", "status")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.status = exchange.status
        self.headers = exchange.headers

    async def piece(self) -> bytes:
        exchange = self._exchange
        while True:
            if exchange.buffered:
                return exchange.take()
            if exchange.error is not None:
                # Left where it was, it would hold the frames that it passes through, and those it: such circles wait
                # for the collector.
                error, exchange.error = exchange.error, ConnectionBroken("", "its answer broke off", answered=True)
                try:
                    raise error
                finally:
                    del error
            if exchange.done:
                return b""
            try:
                await exchange.wait()
            except asyncio.CancelledError:
                self.close()
                raise

    def hand_over(self, taker: Callable[[bytes], bool]) -> None:
        """From now on `piece` waits for what `taker` does not take, and for the last piece. The others go to it at
        once, without a turn of the loop; it says whether it took the piece, and never raises."""
        self._exchange.taker = taker

    async def read(self) -> bytes:
        if self.complete:
            return self._exchange.take()
        return await super().read()

    @property
    def complete(self) -> bool:
        """Whether the whole body has arrived, read or not."""
        return self._exchange.done and self._exchange.error is None

    def close(self) -> None:
        self._exchange.taker = None
        connection = self._exchange.connection
        if connection is not None:
            connection.give_up()


class Host:
    """Connections to one origin: free ones, the number of all, and who waits for one."""

    __slots__ = ("free", "open", "waiters")

    def __init__(self) -> None:
        self.free: deque[Connection] = deque()
        """In the order in which they became free."""
        self.open = 0
        self.waiters: deque[asyncio.Future[None]] = deque()

    def wake_one(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class Place:
    """A connection's place among the open ones of its host; given back once, however the connection ends."""

    __slots__ = ("_host", "_left")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._left = False
        host.open += 1

    def offer(self, connection: Connection) -> None:
        self._host.free.append(connection)
        self._host.wake_one()

    def leave(self, _: Connection | None = None) -> None:
        if not self._left:
            self._left = True
            self._host.open -= 1
            self._host.wake_one()


class Pool:
    """The connections of one event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, per_host: int, tls: ssl.SSLContext | None, lookup: Lookup
    ) -> None:
        self._loop = loop
        self._outbox = Outbox(loop)
        self._names = Names(lookup)
        self._per_host = per_host
        self._hosts: dict[str, Host] = {}
        self._tls = tls
        self._closes = False

    async def send(
        self, request: Prepared, *, extra: bytes, body: bytes, deadlines: Deadlines, max_bytes: int | None, fresh: bool
    ) -> StreamedResponse:
        if not self._closes:
            await self._close_with_the_loop()
        head = request.with_body(len(body), extra)
        host = self._hosts.get(request.origin)
        if host is None:
            host = self._hosts[request.origin] = Host()
        while True:
            connection = None if fresh else self._free_connection(host)
            if connection is None:
                connection = await self._new_connection(host, request, deadlines)
            reused = connection.used > 0
            sent_at = self._loop.time()
            exchange = connection.start(head, body, deadlines=deadlines, max_bytes=max_bytes)
            try:
                while not exchange.started and exchange.error is None:
                    await exchange.wait()
            except BaseException:
                # Its answer may have come in this very moment: then the connection is somebody else's already.
                if exchange.connection is not None:
                    exchange.connection.give_up()
                raise
            error = exchange.error
            if reused and not fresh and was_closing(exchange) and self._loop.time() - sent_at < STALE_WITHIN_S:
                if exchange.connection is not None:
                    exchange.connection.give_up()
                fresh = True
                continue
            if error is None or exchange.started:
                return StreamedResponse(exchange)
            raise error

    def free_connection(self, request: Prepared) -> Connection | None:
        """One that can carry a request at once; whoever takes it uses it or puts it back."""
        host = self._hosts.get(request.origin)
        return self._free_connection(host) if host is not None and host.free else None

    def _free_connection(self, host: Host) -> Connection | None:
        free, oldest = host.free, self._loop.time() - KEEP_IDLE_S
        # The newest is used first, so that what a burst has left grows old, and goes.
        while free and free[0].free_since < oldest:
            free.popleft().abort()
        while free:
            connection = free.pop()
            if not connection.closed:
                return connection
        return None

    async def _new_connection(self, host: Host, request: Prepared, deadlines: Deadlines) -> Connection:
        if host.open >= self._per_host:
            await self._wait_for_a_place(host, request, deadlines)
            if (connection := self._free_connection(host)) is not None:
                return connection
        place = Place(host)
        try:
            async with asyncio.timeout(deadlines.connect_s) as limit:
                return await self._connect(place, request, limit.when())
        except TimeoutError:
            place.leave()
            raise UpstreamTimeout(request.origin, "connection", deadlines.connect_s or 0.0) from None
        except ssl.SSLCertVerificationError as wrong:
            place.leave()
            reason = f"its certificate does not verify ({wrong.verify_message})"
            raise ConnectFailed(request.origin, reason) from wrong
        except OSError as wrong:
            place.leave()
            raise ConnectFailed(request.origin, plain_reason(wrong)) from wrong
        except BaseException:
            place.leave()
            raise

    async def _connect(self, place: Place, request: Prepared, until: float | None) -> Connection:
        """A connection to the first address of the host that answers. Where none does, and the name was not looked up
        just now, it is: the host may have moved."""
        tried: set[str] = set()
        failure: OSError | None = None
        for anew in (False, True):
            addresses = [request.address] if request.address else await self._addresses(request, anew=anew)
            left = [address for address in addresses if address not in tried]
            for number, address in enumerate(left):
                tried.add(address)
                # One that swallows everything leaves time for those behind it.
                share = None if until is None else (until - self._loop.time()) / (len(left) - number)
                try:
                    async with asyncio.timeout(share if len(left) > number + 1 else None):
                        return await self._connect_to(address, place, request)
                except ssl.SSLError:
                    raise
                except OSError as wrong:  # a TimeoutError is one
                    failure = wrong
                    self._names.failed(address, now=self._loop.time())
            if request.address or is_address(request.host):
                break
        raise failure or OSError("it has no address")

    async def _addresses(self, request: Prepared, *, anew: bool) -> list[str]:
        if is_address(request.host):
            return [request.host]
        return await self._names.addresses(request.host, request.port, now=self._loop.time(), anew=anew)

    async def _connect_to(self, address: str, place: Place, request: Prepared) -> Connection:
        _, connection = await self._loop.create_connection(
            lambda: Connection(
                request.origin, loop=self._loop, outbox=self._outbox, on_free=place.offer, on_lost=place.leave
            ),
            address,
            request.port,
            ssl=self._tls_context() if request.tls else None,
            server_hostname=request.host if request.tls else None,
        )
        return connection

    async def _wait_for_a_place(self, host: Host, request: Prepared, deadlines: Deadlines) -> None:
        try:
            async with asyncio.timeout(deadlines.first_byte_s):
                while host.open >= self._per_host and not host.free:
                    waiter = self._loop.create_future()
                    host.waiters.append(waiter)
                    try:
                        await waiter
                    except asyncio.CancelledError:
                        if waiter.done() and not waiter.cancelled():
                            host.wake_one()  # the place was given to us; pass it on
                        raise
        except TimeoutError:
            raise UpstreamTimeout(request.origin, "free connection", deadlines.first_byte_s or 0.0) from None

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    async def _close_with_the_loop(self) -> None:
        # asyncio closes open async generators before it closes a loop: the one moment in which a pool that nobody
        # closes can still say goodbye to its connections.
        async def closer() -> AsyncGenerator[None, None]:
            try:
                yield
            finally:
                for host in self._hosts.values():
                    for connection in host.free:
                        connection.abort()
                    host.free.clear()
                _open.discard(goodbye)
                await asyncio.sleep(0)

        self._closes = True
        goodbye = closer()
        _open.add(goodbye)
        await anext(goodbye)


class Pools:
    """A pool for each running event loop; satisfies `Transport`."""

    def __init__(self, *, per_host: int, tls: ssl.SSLContext | None, lookup: Lookup = look_up) -> None:
        self._per_host = per_host
        self._lookup = lookup
        self._tls = tls
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}

    def free_connection(self, request: Prepared, loop: asyncio.AbstractEventLoop) -> Connection | None:
        pool = self._pools.get(loop)
        return pool.free_connection(request) if pool is not None else None

    def send(
        self, request: Prepared, *, extra: bytes, body: bytes, deadlines: Deadlines, max_bytes: int | None, fresh: bool
    ) -> Coroutine[Any, Any, StreamedResponse]:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for other in [other for other in self._pools if other.is_closed()]:
                del self._pools[other]
            pool = self._pools[loop] = Pool(loop, per_host=self._per_host, tls=self._tls, lookup=self._lookup)
        return pool.send(request, extra=extra, body=body, deadlines=deadlines, max_bytes=max_bytes, fresh=fresh)


def was_closing(exchange: Exchange) -> bool:
    """Whether the server seems to have closed an idle connection in the very moment we reused it, some with a 408 that
    was meant for nobody. It closed before it read us, so asking again on a new connection repeats nothing."""
    if exchange.started:
        return exchange.status == 408
    return isinstance(exchange.error, ConnectionBroken) and not exchange.error.answered


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def plain_reason(error: OSError) -> str:
    """`Connection refused` instead of `[Errno 111] Connect call failed ('127.0.0.1', 9)`."""
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)
