"""A server that plays a script: each connection is handled by a function of reader and writer."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from slipway.upstream.client import HttpClient
from slipway.upstream.names import Lookup, look_up


@dataclass
class Scripted:
    """Where the scripted server listens, what it was asked, and what became of its connections."""

    url: str = ""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """Reads one request with a content-length; empty when the client has left."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
            return b""
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        body = await reader.readexactly(length)
        self.requests.append(head + body)
        return head + body


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Scripted]]]:
    """Starts a server that plays `play(scripted, reader, writer)` on each connection."""
    servers: list[asyncio.Server] = []
    tasks: set[asyncio.Task[None]] = set()

    async def start(play: Callable[..., Awaitable[None]]) -> Scripted:
        scripted = Scripted()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            scripted.connections += 1
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await play(scripted, reader, writer)
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**26)
        servers.append(server)
        scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return scripted

    yield start
    for server in servers:
        server.close()
    for task in list(tasks):
        task.cancel()
    await asyncio.sleep(0.01)


def aiohttp_client(
    *, per_host: int = 512, tls: ssl.SSLContext | None = None, lookup: Lookup = look_up, **more: Any
) -> HttpClient:
    """A client whose requests aiohttp carries."""
    module = "slipway.upstream.aiohttp_transport"
    transport = pytest.importorskip(
        module, reason="aiohttp, the extra `aiohttp`, is not installed", exc_type=ImportError
    )
    return HttpClient(transport=transport.AiohttpTransport(per_host=per_host, tls=tls, lookup=lookup, **more))


@pytest.fixture(params=[HttpClient, aiohttp_client], ids=["own", "aiohttp"])
def new_client(request: pytest.FixtureRequest) -> Callable[..., HttpClient]:
    """Makes a client, over each transport."""
    return request.param
