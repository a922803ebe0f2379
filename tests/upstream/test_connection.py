"""What only our own connections can be asked: moments between two callbacks of theirs."""

import asyncio

import pytest

from slipway.upstream.client import HttpClient
from slipway.upstream.connection import Connection
from tests.upstream.test_client import always_ok


async def test_a_connection_whose_end_is_not_told_yet_is_replaced_silently(serve, monkeypatch):
    """The transport knows already that it is closed; whoever writes to it hears it before anybody was told."""
    server = await serve(always_ok)
    client = HttpClient()
    assert await (await client.send("GET", server.url)).read() == b"hello"
    begun: list[Connection] = []
    start = Connection.start

    def start_too_late(connection, *given, **named):
        if not begun:
            begun.append(connection)

            class Closed:
                def write(self, _: bytes) -> None:
                    raise RuntimeError("the handler is closed")

                def abort(self) -> None:
                    transport.abort()

            transport, connection._transport = connection._transport, Closed()
        return start(connection, *given, **named)

    monkeypatch.setattr(Connection, "start", start_too_late)
    assert await (await client.send("GET", server.url)).read() == b"hello"
    assert server.connections == 2


async def test_a_task_that_is_cancelled_as_its_answer_comes_leaves_the_next_request_alone(serve, monkeypatch):
    """Between the last byte and the moment in which its task hears of it, the connection may carry another request."""
    server = await serve(always_ok)
    client = HttpClient()
    first = asyncio.create_task(client.send("POST", server.url, body=b"1"))
    second = client.send("POST", server.url, body=b"2")
    finish = Connection._finish
    taken: list[Connection] = []

    def finish_and_take_over(connection: Connection) -> None:
        finish(connection)
        if not taken:
            taken.append(connection)
            first.cancel()
            second.send(None)  # runs until it waits for its answer, on the connection that became free

    monkeypatch.setattr(Connection, "_finish", finish_and_take_over)
    with pytest.raises(asyncio.CancelledError):
        await first
    try:
        assert server.connections == 1
        assert not taken[0].closed
    finally:
        second.close()
