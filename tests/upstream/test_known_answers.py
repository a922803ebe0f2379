"""Answers whose head came before on their connection are what a parser makes of them."""

import asyncio
from typing import Any

import pytest

from slipway.domain.errors import ConnectionBroken, SlipwayError
from slipway.upstream import connection
from slipway.upstream.client import HttpClient, prepare
from slipway.upstream.connection import Connection
from slipway.upstream.deadlines import Deadlines
from slipway.wire import known_head
from slipway.wire.known_head import MOST_IN_VAIN

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %b\r\nX-Engine: one\r\n\r\n"
SAME = HEAD % b"5" + b"hello"
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
LONG_HINTS = SAME.replace(b"200 OK", b"103 Early Hints")
SECOND: dict[str, bytes] = {
    "the same": SAME,
    "longer": HEAD % b"1000" + b"x" * 1000,
    "longer than anybody wants": HEAD % b"70000" + b"x" * 70_000,
    "nothing in it": HEAD % b"0",
    "a length with zeros before it": HEAD % b"0005" + b"hello",
    "a length with many zeros before it": HEAD % b"000000000005" + b"hello",
    "a length with a sign": HEAD % b"+5" + b"hello",
    "a length below nothing": HEAD % b"-5" + b"hello",
    "a length in hex": HEAD % b"0x5" + b"hello",
    "a length without end": HEAD % b"18446744073709551621" + b"hello",
    "two lengths": HEAD % b"5\r\nContent-Length: 5" + b"hello",
    "two lengths that differ": HEAD % b"5\r\nContent-Length: 6" + b"hello",
    "a length and chunks": HEAD % b"5\r\nTransfer-Encoding: chunked" + b"5\r\nhello\r\n0\r\n\r\n",
    "chunks": HEAD.replace(b"Content-Length: %b", b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    "chunks and fields behind them": HEAD.replace(b"Content-Length: %b", b"Transfer-Encoding: chunked")
    + b"5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n",
    "no length": HEAD.replace(b"Content-Length: %b\r\n", b"") + b"hello",
    "another status": SAME.replace(b"200 OK", b"500 No"),
    "no content": SAME.replace(b"200 OK", b"204 No Content"),
    "not modified": SAME.replace(b"200 OK", b"304 Not Modified"),
    "another version": SAME.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "the last of its connection": HEAD % b"5\r\nConnection: close" + b"hello",
    "one more header": HEAD % b"5\r\nX-More: 1" + b"hello",
    "hints before": HINTS + SAME,
    "hints that look the same before": LONG_HINTS + SAME,
    "a word to go on before": b"HTTP/1.1 100 Continue\r\n\r\n" + SAME,
    "other protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "more than it says": SAME + b"x",
    "more by an answer": SAME + SAME,
    "more by half an answer": SAME + SAME[:20],
    "an empty line before": b"\r\n" + SAME,
    "an empty line behind": SAME + b"\r\n",
    "line feeds": SAME.replace(b"\r\n", b"\n"),
    "less than it says": SAME[:-1],
    "half a head": SAME[:40],
    "no HTTP": b"SSH-2.0-x\r\n",
}
CLOSED = ("no length", "less than it says", "half a head", "another version")
"""After which the engine closes."""


async def talk(serve: Any, second: list[bytes], *, closed: bool) -> list[Any]:
    """What four requests get, one after the other, of which the third one is answered by `second`."""

    async def play(scripted, reader, writer):
        while await scripted.request(reader):
            number = len(scripted.requests)
            for piece in second if number == 3 else [SAME]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02 if number == 3 else 0)
            if number == 3 and closed:
                return

    server, client, found = await serve(play), HttpClient(), []
    for _ in range(4):
        try:
            response = await client.send("POST", server.url, body=b"{}", max_bytes=50_000)
            found.append((response.status, response.headers, await response.read()))
        except SlipwayError as wrong:
            found.append((type(wrong), str(wrong).replace(server.url, "")))
        await asyncio.sleep(0.05)
    return [*found, len(server.requests), server.connections]


def cut(whole: bytes) -> list[list[bytes]]:
    at = [1, 12, 40, whole.find(b"\r\n\r\n") + 2, whole.find(b"\r\n\r\n") + 4, len(whole) - 1]
    return [[whole], *([whole[:one], whole[one:]] for one in at if 0 < one < len(whole))]


@pytest.mark.parametrize("name", SECOND)
async def test_an_answer_after_a_known_one_is_what_a_parser_reads(serve, monkeypatch, name):
    known: list[bytes] = []
    real = Connection._come_known
    monkeypatch.setattr(
        Connection, "_come_known", lambda self, *given: real(self, *given) and (known.append(given[1]), True)[1]
    )
    found = []
    for most in (0, MOST_IN_VAIN):
        assert not known
        monkeypatch.setattr(known_head, "MOST_IN_VAIN", most)
        talks = (talk(serve, pieces, closed=name in CLOSED) for pieces in cut(SECOND[name]))
        found.append(await asyncio.gather(*talks))
    assert known
    assert found[0] == found[1]


async def test_hints_are_not_kept_for_an_answer(serve):
    """Their head says a length too, which nobody reads; the next answer may begin with the same bytes."""

    async def play(scripted, reader, writer):
        hints = LONG_HINTS.replace(b"5", b"%d" % len(SAME))[: -len(b"hello")]
        while await scripted.request(reader):
            writer.write(hints + SAME)
            await writer.drain()

    server, client = await serve(play), HttpClient()
    for _ in range(3):
        response = await client.send("POST", server.url, body=b"{}")
        assert (response.status, await response.read()) == (200, b"hello")


# Requests that are written at the end of a turn of the loop ----------------------------------------------------------


async def idle_connection(client: HttpClient, url: str) -> Connection:
    await (await client.send("POST", url, body=b"{}")).read()
    found = client.free_connection(prepare("POST", url), asyncio.get_running_loop())
    assert isinstance(found, Connection)
    return found


def begin(connection: Connection, url: str) -> connection.Exchange:
    head = prepare("POST", url).with_body(2, b"")
    return connection.start(head, b"{}", deadlines=Deadlines(), max_bytes=None)


async def begun(serve):
    """An engine that always says the same, a client, and a request that is begun on a connection that was idle."""

    async def play(scripted, reader, writer):
        while await scripted.request(reader):
            writer.write(SAME)

    server, client = await serve(play), HttpClient()
    idle = await idle_connection(client, server.url)
    exchange = begin(idle, server.url)
    return server, client, idle, exchange


async def test_what_an_engine_says_before_it_was_asked_is_no_answer(serve):
    """It came in the turn in which the request was begun, and before that was written."""
    server, _client, idle, exchange = await begun(serve)
    idle.data_received(SAME)
    await asyncio.sleep(0.05)
    assert isinstance(exchange.error, ConnectionBroken)
    assert not exchange.error.answered
    assert idle.closed
    assert len(server.requests) == 1


@pytest.mark.parametrize("end", ["given up", "lost", "closed by the engine"])
async def test_a_request_that_is_over_before_it_is_written_is_never_written(serve, end):
    server, client, idle, exchange = await begun(serve)
    match end:
        case "given up":
            idle.give_up()
        case "lost":
            idle.connection_lost(ConnectionResetError("gone"))
        case _:
            idle.eof_received()
            idle.connection_lost(None)
    await asyncio.sleep(0.05)
    assert isinstance(exchange.error, ConnectionBroken)
    assert not exchange.error.answered
    assert len(server.requests) == 1
    # Others of the same turn are written all the same.
    response = await client.send("POST", server.url, body=b"{}")
    assert await response.read() == b"hello"
