"""Host names whose addresses change, fail to be looked up, or do not answer."""

import asyncio
import socket
from contextlib import ExitStack, asynccontextmanager

import pytest

from slipway.domain.errors import ConnectFailed
from slipway.upstream import names
from slipway.upstream.client import Deadlines, HttpClient

OLD, NEW = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind((OLD, 0))
        return free.getsockname()[1]


@asynccontextmanager
async def answering(address: str, port: int):
    """A server that answers each request with its own address and closes."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\n%b" % address.encode())
        writer.close()

    async with await asyncio.start_server(answer, address, port):
        yield


class Nameserver:
    """Says of every host what it was told last."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self.addresses


async def ask(client: HttpClient, port: int, **deadlines: float) -> str:
    response = await client.send("GET", f"http://llm.test:{port}/", deadlines=Deadlines(**deadlines))
    return (await response.read()).decode()


async def test_a_host_that_moved_is_found_although_it_was_looked_up_a_moment_ago(port, new_client):
    nameserver = Nameserver(OLD)
    client = new_client(lookup=nameserver)
    async with answering(OLD, port):
        assert [await ask(client, port) for _ in range(3)] == [OLD] * 3
    assert nameserver.asked == 1
    nameserver.addresses = [NEW]
    async with answering(NEW, port):
        assert await ask(client, port) == NEW


async def test_a_lookup_that_fails_leaves_the_addresses_that_were_known(port, monkeypatch, new_client):
    monkeypatch.setattr(names, "FRESH_S", 0.0)
    nameserver = Nameserver(OLD)
    client = new_client(lookup=nameserver)
    async with answering(OLD, port):
        assert await ask(client, port) == OLD
        nameserver.addresses = []
        assert await ask(client, port) == OLD
    assert nameserver.asked == 2


async def test_a_name_that_was_never_found_is_told_as_that(port, new_client):
    with pytest.raises(ConnectFailed, match="Temporary failure in name resolution"):
        await ask(new_client(lookup=Nameserver()), port)


async def test_of_several_addresses_a_dead_one_costs_nothing_and_goes_last_for_a_while(port):
    client = HttpClient(lookup=Nameserver(OLD, NEW))
    async with answering(NEW, port):
        assert await ask(client, port) == NEW
        async with answering(OLD, port):
            assert await ask(client, port) == NEW


async def test_an_address_that_swallows_everything_leaves_time_for_the_next(port, new_client):
    with ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind((OLD, port))
        silent.listen(0)
        for _ in range(3):  # its queue is full: whoever comes now gets no answer at all
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((OLD, port))
        async with answering(NEW, port):
            assert await ask(new_client(lookup=Nameserver(OLD, NEW)), port, connect_s=2.0) == NEW


async def test_an_address_in_numbers_is_not_looked_up(port, new_client):
    nameserver = Nameserver(NEW)
    async with answering(OLD, port):
        response = await new_client(lookup=nameserver).send("GET", f"http://{OLD}:{port}/")
        assert await response.read() == OLD.encode()
    assert nameserver.asked == 0
