"""aiohttp on the way through an HTTP proxy: which requests take it, and what its failures are called."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from slipway.domain.errors import ConnectFailed
from slipway.upstream.client import Deadlines
from tests.upstream.conftest import aiohttp_client

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
PASSWORD = base64.b64encode(b"anna:secret")


async def answering(scripted, reader, writer):
    while await scripted.request(reader):
        writer.write(OK)


@pytest.fixture
async def proxy(serve) -> AsyncIterator[object]:
    """A proxy that answers for every host by itself, and joins CONNECT with the host that it names."""

    async def play(scripted, reader, writer):
        with suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            scripted.requests.append(head)
            if PASSWORD not in head:
                writer.write(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")
            elif head.startswith(b"CONNECT"):
                writer.write(b"HTTP/1.1 502 Nobody there\r\ncontent-length: 0\r\n\r\n")
            else:
                writer.write(OK)

    return await serve(play)


def through(proxy, password: str = "secret", **more):
    return aiohttp_client(proxy=proxy.url.replace("http://", f"http://anna:{password}@"), **more)


async def test_a_request_takes_the_proxy_with_its_password_and_without_looking_the_host_up(proxy):
    async def never(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was looked up")

    client = through(proxy, lookup=never)
    response = await client.send(
        "POST", "http://llm.test/v1?a=%2F", headers=[("authorization", "Bearer k")], body=b"{}"
    )
    assert (response.status, await response.read()) == (200, b"hello")
    (request,) = proxy.requests
    assert request.startswith(b"POST http://llm.test/v1?a=%2F HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + PASSWORD in request
    assert b"authorization: Bearer k" in request


async def test_named_hosts_are_asked_past_the_proxy(serve, proxy):
    server = await serve(answering)
    client = through(proxy, direct=["127.0.0.1", ".near.test"], lookup=lambda *_: asyncio.sleep(0, ["127.0.0.1"]))
    port = server.url.rpartition(":")[2]
    for host in ("127.0.0.1", "llm.near.test", "LLM.NEAR.test"):
        response = await client.send("POST", f"http://{host}:{port}/")
        assert await response.read() == b"hello"
    assert len(server.requests) == 3
    assert proxy.requests == []
    for host in ("near.test", "farnear.test"):
        await (await client.send("POST", f"http://{host}:{port}/")).read()
    assert len(proxy.requests) == 2


async def test_what_goes_wrong_at_the_proxy_says_so(proxy):
    with pytest.raises(ConnectFailed, match="the proxy answered 502 Nobody there"):
        await through(proxy).send("GET", "https://llm.test/")
    assert proxy.requests[0].startswith(b"CONNECT llm.test:443 HTTP/1.1\r\n")
    with pytest.raises(ConnectFailed, match="the proxy answered 407"):
        await through(proxy, "wrong").send("GET", "https://llm.test/")
    dead = aiohttp_client(proxy="http://127.0.0.1:1")
    with pytest.raises(ConnectFailed, match=r"http://llm\.test.*the proxy does not answer \(Connection refused\)"):
        await dead.send("GET", "http://llm.test/", deadlines=Deadlines(connect_s=30))


async def test_a_password_of_the_proxy_is_in_no_error(proxy):
    for url in ("https://llm.test/", "http://llm.test:99999999/"):
        with pytest.raises(Exception) as wrong:
            await through(proxy).send("GET", url)
        assert "secret" not in str(wrong.value)
