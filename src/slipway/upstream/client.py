"""Our own keep-alive HTTP/1.1 client: pooled per event loop, with deadlines, back pressure and honest errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol

from slipway.upstream.connection import Connection
from slipway.upstream.deadlines import Deadlines
from slipway.upstream.names import Lookup, look_up
from slipway.upstream.pool import Pools
from slipway.upstream.request import HeaderPairs, Prepared, prepare

__all__ = ["Deadlines", "HttpClient", "Prepared", "Response", "prepare"]


class Response(Protocol):
    """An answer whose body may still be on its way. Header names are lower case."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...

    @property
    def complete(self) -> bool:
        """Whether the whole body has arrived, read or not."""
        ...

    def header(self, name: bytes) -> bytes | None:
        """First value of a header, by its lower-case name."""
        ...

    async def piece(self) -> bytes:
        """What has arrived since the last call, as soon as there is something; empty at the end of the body."""
        ...

    def chunks(self) -> AsyncIterator[bytes]: ...

    async def read(self) -> bytes: ...

    def close(self) -> None:
        """Gives the answer up: where it is not complete the connection is closed, which cancels the work."""
        ...


class Transport(Protocol):
    """What carries requests. Ours is `Pools`; another one (for proxies, say) implements the same method."""

    async def send(
        self, request: Prepared, *, extra: bytes, body: bytes, deadlines: Deadlines, max_bytes: int | None, fresh: bool
    ) -> Response: ...


class HttpClient:
    """Sends requests and hands out responses whose bodies stream. One pool per running event loop, made when needed.

    Certificates are verified, against `tls` where it is given. `lookup` finds the addresses of a host name. `per_host`
    caps the connections to one host; more requests wait for a free one. A request whose reused connection turns out to
    have been closed in the meantime is sent once more on a new one. Cancelling a task that waits for an answer closes
    its connection.
    """

    def __init__(
        self,
        *,
        per_host: int = 512,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup = look_up,
        transport: Transport | None = None,
    ) -> None:
        self._transport: Transport = transport or Pools(per_host=per_host, tls=tls, lookup=lookup)

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: HeaderPairs = (),
        body: bytes = b"",
        deadlines: Deadlines = Deadlines(),  # noqa: B008 (frozen)
        max_bytes: int | None = None,
    ) -> Response:
        """One request. Returns when the status and headers are there; the body is read from the response.

        `max_bytes` caps the body of the answer. Raises `ConnectFailed`, `UpstreamTimeout`, `ConnectionBroken`,
        `ResponseGarbled`, `ResponseTooLarge`; reading the body raises the same.
        """
        return await self.send_prepared(
            prepare(method, url, headers), body=body, deadlines=deadlines, max_bytes=max_bytes
        )

    def send_prepared(
        self,
        request: Prepared,
        *,
        extra: bytes = b"",
        body: bytes = b"",
        deadlines: Deadlines = Deadlines(),  # noqa: B008 (frozen)
        max_bytes: int | None = None,
        fresh: bool = False,
    ) -> Coroutine[Any, Any, Response]:
        """As `send`, for a request that was prepared. `extra` are further header lines, each ending in CR LF. `fresh`
        asks for a connection that was not used before."""
        return self._transport.send(
            request, extra=extra, body=body, deadlines=deadlines, max_bytes=max_bytes, fresh=fresh
        )

    def free_connection(self, request: Prepared, loop: asyncio.AbstractEventLoop) -> Connection | None:
        """A connection that could carry this request at once, for callers that do without a task; None where there is
        none, or where another transport carries requests. Whoever takes it starts an exchange or puts it back."""
        return self._transport.free_connection(request, loop) if isinstance(self._transport, Pools) else None
