"""What every transport makes of servers that break the rules or stretch them: nothing leaks into the next answer."""

import asyncio
import gzip
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from slipway.domain.errors import ConnectionBroken, ResponseGarbled, UpstreamError
from slipway.upstream.client import Deadlines, prepare

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"


def saying(*answers: bytes) -> Any:
    """Answers each request on any connection with the next of these, the last one for ever."""

    async def play(scripted, reader, writer):
        while await scripted.request(reader):
            writer.write(answers[min(len(scripted.requests), len(answers)) - 1])
            await writer.drain()

    return play


async def fetch(client, url, **wishes) -> tuple[int, bytes]:
    response = await client.send("POST", url, body=b"{}", **wishes)
    return response.status, await response.read()


async def test_an_answer_that_comes_late_and_that_nobody_asked_for_is_nobodys(serve, new_client):
    """It arrives on an idle connection: whoever used that next would get what was meant for somebody else."""

    async def play(scripted, reader, writer):
        while await scripted.request(reader):
            writer.write(OK)
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(EVIL)

    server, client = await serve(play), new_client()
    for _ in range(3):
        assert await fetch(client, server.url) == (200, b"hello")
        await asyncio.sleep(0.1)
    assert server.connections == 3


@pytest.mark.parametrize("surplus", [b"x", b"HTTP/1.1 200 OK\r\n", EVIL[:-2], b"\r\n\r\nHTTP/1.1 500 No\r\n\r\n"])
async def test_bytes_beyond_the_length_of_a_body_do_not_reach_the_next_answer(serve, new_client, surplus):
    server, client = await serve(saying(OK + surplus)), new_client()
    for _ in range(3):
        with suppress(ResponseGarbled):  # a word for it that also fits
            assert await fetch(client, server.url) == (200, b"hello")


async def test_redirects_are_not_followed_and_cookies_not_kept(serve, new_client):
    away = b"HTTP/1.1 302 Found\r\nlocation: /other\r\nset-cookie: a=b; Path=/\r\ncontent-length: 0\r\n\r\n"
    server, client = await serve(saying(away)), new_client()
    for _ in range(2):
        assert await fetch(client, server.url + "/v1") == (302, b"")
    assert [request.split(b" ")[1] for request in server.requests] == [b"/v1", b"/v1"]
    assert b"cookie" not in server.requests[1].lower()


async def test_a_compressed_answer_comes_as_it_is(serve, new_client):
    packed = gzip.compress(b'{"a": 1}' * 100)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    server = await serve(saying(head + packed))
    response = await new_client().send("POST", server.url, body=b"{}")
    assert response.header(b"content-encoding") == b"gzip"
    assert await response.read() == packed


async def test_the_way_and_the_headers_go_out_as_they_were_written(serve, new_client):
    server = await serve(saying(OK))
    path = "/v1/a%2Fb/%7Euser//x;y=1?q=a+b%20c&q=%C3%A9&empty="
    headers = [("x-name", "Grüße"), ("x-twice", "1"), ("x-twice", "2"), ("accept-encoding", "identity")]
    response = await new_client().send("POST", server.url + path, headers=headers, body=b"{}")
    assert await response.read() == b"hello"
    lines = server.requests[0].split(b"\r\n\r\n")[0].split(b"\r\n")
    assert lines[0] == f"POST {path} HTTP/1.1".encode()
    for name, value in headers:
        assert f"{name}: {value}".encode() in lines


async def test_a_large_body_arrives_byte_for_byte(serve, new_client):
    body = bytes(range(256)) * 20_000
    server, client = await serve(saying(OK)), new_client()
    for _ in range(2):
        response = await client.send("POST", server.url, body=body)
        assert await response.read() == b"hello"
    assert server.requests[0].endswith(b"\r\n\r\n" + body)
    assert server.requests[1].endswith(b"\r\n\r\n" + body)
    assert server.connections == 1


async def test_an_answer_before_the_body_was_sent_does_not_hold_up_the_next_request(serve, new_client):
    """The server has said what it thinks and reads no more: nobody would ever hear what stands behind that body."""
    done = asyncio.Event()

    async def play(scripted, reader, writer):
        if scripted.connections > 1:
            await saying(OK)(scripted, reader, writer)
            return
        writer.transport.pause_reading()
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await done.wait()

    server, client = await serve(play), new_client()
    response = await client.send("POST", server.url, body=b"x" * 20_000_000)
    assert (response.status, await response.read()) == (413, b"no")
    assert await fetch(client, server.url, deadlines=Deadlines(first_byte_s=30)) == (200, b"hello")
    done.set()


async def test_an_answer_before_the_end_of_the_body_and_then_the_end_of_the_connection(serve, new_client):
    async def play(scripted, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")
        await writer.drain()
        await asyncio.sleep(0.1)

    server = await serve(play)
    response = await new_client().send("POST", server.url, body=b"x" * 20_000_000)
    assert (response.status, await response.read()) == (413, b"no")


@pytest.mark.parametrize(
    "empty",
    [
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n", id="304 with the length of another"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="no chunks"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No\r\n\r\n", id="hints before"),
    ],
)
async def test_an_answer_without_a_body_ends_at_once(serve, new_client, empty):
    server, client = await serve(saying(empty, OK)), new_client()
    response = await client.send("POST", server.url, body=b"{}")
    assert await response.read() == b""
    assert response.complete
    assert await fetch(client, server.url) == (200, b"hello")
    assert server.connections == 1


async def test_chunks_with_extensions_and_fields_behind_them(serve, new_client):
    chunked = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b'3;a=b\r\nhel\r\n2;c="d"\r\nlo\r\n0;last\r\ncontent-encoding: gzip\r\n\r\n'
    )
    server, client = await serve(saying(chunked, OK)), new_client()
    response = await client.send("POST", server.url, body=b"{}")
    assert await response.read() == b"hello"
    assert response.header(b"content-encoding") is None  # it was promised too late to hold for what had come
    assert await fetch(client, server.url) == (200, b"hello")
    assert server.connections == 1


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nconnection: close\r\n", False, id="1.1 that closes"),
        pytest.param(b"HTTP/1.0 200 OK\r\n", False, id="1.0"),
        pytest.param(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n", True, id="1.0 that stays"),
    ],
)
async def test_whether_a_connection_stays_is_up_to_the_server(serve, new_client, head, kept):
    server, client = await serve(saying(head + b"content-length: 5\r\n\r\nhello")), new_client()
    for _ in range(2):
        assert await fetch(client, server.url) == (200, b"hello")
        await asyncio.sleep(0.05)
    assert server.connections == (1 if kept else 2)


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        pytest.param(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", ResponseGarbled, id="101"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            ResponseGarbled,
            id="two lengths",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello", ResponseGarbled, id="a length below zero"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", ConnectionBroken, id="headers and the end"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", ResponseGarbled, id="TLS where none was asked for"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ResponseGarbled,
            id="length and chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello",
            UpstreamError,
            id="endless",
        ),
    ],
)
async def test_an_answer_against_the_rules_is_an_error_and_not_a_body(serve, new_client, sent, error):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(sent)
        await writer.drain()

    server = await serve(play)
    with pytest.raises(error):
        await fetch(new_client(), server.url, deadlines=Deadlines(first_byte_s=30))


async def test_a_wrong_chunk_after_a_good_one_ends_the_answer(serve, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"zz\r\nworld\r\n0\r\n\r\n")
        await reader.read()

    server = await serve(play)
    response = await new_client().send("GET", server.url)
    assert await response.piece() == b"hello"
    with pytest.raises((ResponseGarbled, ConnectionBroken)):
        await response.piece()
    assert not response.complete


async def test_what_came_before_the_cut_is_handed_out_however_late(serve, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await serve(play)
    response = await new_client().send("GET", server.url)
    await asyncio.sleep(0.1)
    assert await response.piece() == b"hello"
    for _ in range(2):
        with pytest.raises(ConnectionBroken) as broken:
            await response.piece()
        assert broken.value.answered


async def test_the_last_piece_is_known_to_be_the_last(serve, new_client):
    server = await serve(saying(OK))
    response = await new_client().send("GET", server.url)
    await asyncio.sleep(0.05)
    assert response.complete
    assert await response.piece() == b"hello"
    assert await response.piece() == b""
    response.close()


async def test_a_deadline_passes_also_while_nobody_reads(serve, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n")
        try:
            for _ in range(500):
                writer.write(b"x" * 100_000)
                await writer.drain()
        finally:
            scripted.left.set()

    server = await serve(play)
    response = await new_client().send("GET", server.url, deadlines=Deadlines(total_s=0.2))
    await asyncio.wait_for(server.left.wait(), 30)
    with pytest.raises(UpstreamError, match="whole answer"):
        await response.read()


async def test_an_address_that_was_looked_up_already_is_asked_under_the_name(serve, new_client):
    async def never(host: str, port: int) -> list[str]:
        raise AssertionError(f"{host} was looked up")

    server = await serve(saying(OK))
    port = server.url.rpartition(":")[2]
    request = replace(prepare("POST", f"http://llm.test:{port}/v1"), address="127.0.0.1")
    response = await new_client(lookup=never).send_prepared(request, extra=b"x-more: 1\r\n", body=b"{}")
    assert await response.read() == b"hello"
    assert f"host: llm.test:{port}".encode() in server.requests[0].lower()
    assert b"\r\nx-more: 1\r\n" in server.requests[0]


async def test_many_answers_at_once_stay_with_those_who_asked(serve, new_client):
    async def play(scripted, reader, writer):
        while request := await scripted.request(reader):
            body = request.partition(b"\r\n\r\n")[2]
            await asyncio.sleep(int(body) % 7 / 1000)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    server, client = await serve(play), new_client(per_host=8)

    async def one(number: int) -> bool:
        body = str(number).encode()
        task = asyncio.ensure_future(client.send("POST", server.url, body=body))
        if number % 5 == 0:
            await asyncio.sleep(0.002)
            task.cancel()
            await asyncio.wait([task])
            return True
        response = await task
        if number % 7 == 0:
            response.close()
            return True
        return await response.read() == body

    assert all(await asyncio.gather(*(one(number) for number in range(200))))
