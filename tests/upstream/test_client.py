"""What every transport promises, against a server that plays each fault."""

import asyncio
import gc
import http.server
import socket
import ssl
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from slipway.domain.errors import (
    ConnectFailed,
    ConnectionBroken,
    InputError,
    ResponseGarbled,
    ResponseTooLarge,
    UpstreamError,
    UpstreamTimeout,
)
from slipway.upstream import pool
from slipway.upstream.client import Deadlines, HttpClient

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


async def fetch(url: str, client: HttpClient, **wishes) -> bytes:
    response = await client.send("GET", url, **wishes)
    return await response.read()


async def always_ok(scripted, reader, writer):
    while await scripted.request(reader):
        writer.write(OK)
        await writer.drain()


async def test_connections_are_kept_and_reused(serve, new_client):
    server = await serve(always_ok)
    client = new_client()
    for _ in range(5):
        response = await client.send("POST", server.url + "/v1?a=b", headers=[("x-a", "1")], body=b"{}")
        assert (response.status, await response.read()) == (200, b"hello")
    assert server.connections == 1
    line, *headers = server.requests[0].partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert line == b"POST /v1?a=b HTTP/1.1"
    host = b"host: %b" % server.url.removeprefix("http://").encode()
    # Nothing else goes out: no agent, no wish for compression, no type that nobody named.
    assert sorted(header.lower() for header in headers) == sorted([b"content-length: 2", host, b"x-a: 1"])


async def test_no_more_connections_than_the_cap(serve, new_client):
    async def slow(scripted, reader, writer):
        while await scripted.request(reader):
            await asyncio.sleep(0.02)
            writer.write(OK)

    server = await serve(slow)
    client = new_client(per_host=3)

    async def one():
        return await fetch(server.url, client)

    assert await asyncio.gather(*(one() for _ in range(20))) == [b"hello"] * 20
    assert server.connections == 3


async def test_waiting_for_a_place_ends_at_the_deadline_and_the_place_is_not_lost(serve, new_client):
    async def hang_once(scripted, reader, writer):
        while await scripted.request(reader):
            if len(scripted.requests) > 1:
                writer.write(OK)

    server = await serve(hang_once)
    client = new_client(per_host=1)
    first = asyncio.create_task(client.send("GET", server.url))
    await asyncio.sleep(0.05)
    with pytest.raises(UpstreamTimeout, match="free connection"):
        await client.send("GET", server.url, deadlines=Deadlines(first_byte_s=0.1))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    response = await client.send("GET", server.url)
    assert await response.read() == b"hello"


async def test_an_idle_connection_that_the_server_closed_is_replaced_silently(serve, new_client):
    async def one_each(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(OK)

    server = await serve(one_each)
    client = new_client()
    for _ in range(3):
        response = await client.send("POST", server.url, body=b"x")
        assert await response.read() == b"hello"
        await asyncio.sleep(0.02)
    assert server.connections == 3


@pytest.mark.parametrize("new_client", [HttpClient], indirect=True, ids=["own"])
async def test_what_a_burst_left_open_is_closed_although_traffic_goes_on(serve, new_client, monkeypatch):
    monkeypatch.setattr(pool, "KEEP_IDLE_S", 0.2)
    left = 0

    async def slow(scripted, reader, writer):
        nonlocal left
        while await scripted.request(reader):
            await asyncio.sleep(0.02)
            writer.write(OK)
        left += 1

    server, client = await serve(slow), new_client()
    await asyncio.gather(*(fetch(server.url, client) for _ in range(20)))
    assert server.connections == 20
    for _ in range(20):
        await fetch(server.url, client)
    assert server.connections == 20
    assert left == 19


async def test_a_connection_closed_in_the_moment_of_reuse_is_tried_once_more(serve, new_client):
    async def close_on_the_second(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(OK)
        if scripted.connections == 1:
            await reader.read(1)  # the second request has begun to arrive
            writer.transport.abort()

    server = await serve(close_on_the_second)
    client = new_client()
    for _ in range(2):
        response = await client.send("POST", server.url, body=b"x")
        assert await response.read() == b"hello"
    assert server.connections == 2


async def test_a_connection_that_is_reset_between_two_answers_is_nobodys_error(serve, new_client):
    async def reset_after_it(scripted, reader, writer):
        await scripted.request(reader)
        # Not whole at once, so that somebody watches the connection while its answer comes.
        writer.write(OK[:-2])
        await asyncio.sleep(0.02)
        writer.write(OK[-2:])
        await asyncio.sleep(0.02)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    said: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    server, client = await serve(reset_after_it), new_client()
    for _ in range(2):
        assert await fetch(server.url, client) == b"hello"
        await asyncio.sleep(0.06)
    gc.collect()
    await asyncio.sleep(0)
    assert said == []


async def test_a_408_in_the_moment_of_reuse_is_tried_once_more_and_else_passed_on(serve, new_client):
    late = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

    async def close_on_the_second(scripted, reader, writer):
        if scripted.connections == 1:
            await scripted.request(reader)
            writer.write(OK)
            await reader.read(1)  # the second request has begun to arrive
        elif scripted.connections == 2:
            await scripted.request(reader)
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            return
        else:
            await scripted.request(reader)
        writer.write(late)

    server, client = await serve(close_on_the_second), new_client()
    for status in (200, 200, 408):
        response = await client.send("POST", server.url, body=b"x")
        assert response.status == status
        await response.read()
    assert server.connections == 3


async def test_a_server_that_always_hangs_up_is_asked_once_on_a_new_connection(serve, new_client):
    async def hang_up(scripted, reader, writer):
        await scripted.request(reader)

    server = await serve(hang_up)
    with pytest.raises(ConnectionBroken) as broken:
        await new_client().send("POST", server.url, body=b"x")
    assert not broken.value.answered
    assert server.connections == 1


async def test_nobody_listens(new_client):
    with pytest.raises(ConnectFailed, match="Connection refused"):
        await new_client().send("GET", "http://127.0.0.1:1/")


async def test_an_unknown_host(new_client):
    with pytest.raises(ConnectFailed, match="No connection to http://nowhere"):
        await new_client().send("GET", "http://nowhere.invalid/")


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", ResponseGarbled, id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", ConnectionBroken, id="a short body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", ConnectionBroken, id="a cut stream"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n", ResponseGarbled, id="a wrong chunk"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\n", ResponseGarbled, id="endless headers"),
        pytest.param(b"", ConnectionBroken, id="nothing at all"),
        pytest.param(b"HTTP/1.1 200", ConnectionBroken, id="half a status line"),
    ],
)
async def test_broken_answers_are_told_apart(serve, sent, error, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(sent)
        await writer.drain()

    server = await serve(play)
    with pytest.raises(error):
        await fetch(server.url, new_client())


async def test_what_arrived_before_the_cut_is_handed_out_first(serve, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await writer.drain()
        writer.transport.abort()

    server = await serve(play)
    response = await new_client().send("GET", server.url)
    assert await response.piece() == b"hello"
    with pytest.raises(ConnectionBroken) as broken:
        await response.piece()
    assert broken.value.answered


async def test_a_body_without_length_ends_with_the_connection(serve, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nold style")

    server = await serve(play)
    response = await new_client().send("GET", server.url)
    assert await response.read() == b"old style"


async def test_100_continue_is_passed_over(serve, new_client):
    async def play(scripted, reader, writer):
        while await scripted.request(reader):
            writer.write(b"HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\n" + OK)

    server = await serve(play)
    client = new_client()
    for _ in range(2):
        response = await client.send("POST", server.url, body=b"x")
        assert (response.status, await response.read(), response.header(b"x-early")) == (200, b"hello", None)
    assert server.connections == 1


async def test_a_second_answer_that_nobody_asked_for_ends_the_connection(serve, new_client):
    async def play(scripted, reader, writer):
        while await scripted.request(reader):
            writer.write(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")

    server = await serve(play)
    client = new_client()
    for _ in range(2):
        response = await client.send("GET", server.url)
        assert await response.read() == b"hello"
        await asyncio.sleep(0.01)
    assert server.connections == 2


@pytest.mark.parametrize(
    ("first", "deadlines", "phase"),
    [
        pytest.param(b"", Deadlines(first_byte_s=0.1), "first byte", id="a hang"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
            Deadlines(first_byte_s=0.1),
            "first byte",
            id="headers and then a hang",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhel", Deadlines(idle_s=0.1), "next piece", id="a stall"
        ),
        pytest.param(b"drip", Deadlines(idle_s=1, total_s=0.2), "whole answer", id="a dripping body"),
    ],
)
async def test_each_deadline_is_kept_and_named(serve, first, deadlines, phase, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        if first == b"drip":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n")
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.write(first)
        await reader.read()
        scripted.left.set()

    server = await serve(play)
    with pytest.raises(UpstreamTimeout) as late:
        await fetch(server.url, new_client(), deadlines=deadlines)
    assert late.value.phase == phase
    if first != b"drip":
        await asyncio.wait_for(server.left.wait(), 30)


async def test_a_short_deadline_after_a_long_one_on_the_same_connection(serve, new_client):
    async def play(scripted, reader, writer):
        while await scripted.request(reader):
            if len(scripted.requests) == 1:
                writer.write(OK)

    server = await serve(play)
    client = new_client()
    response = await client.send("GET", server.url, deadlines=Deadlines(first_byte_s=60))
    await response.read()
    with pytest.raises(UpstreamTimeout):
        await client.send("GET", server.url, deadlines=Deadlines(first_byte_s=0.1))


async def test_a_cancelled_task_closes_its_connection(serve, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        await reader.read()
        scripted.left.set()

    server = await serve(play)
    task = asyncio.create_task(new_client().send("GET", server.url))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.left.wait(), 30)


async def test_leaving_the_loop_over_chunks_closes_the_connection(serve, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await reader.read()
        scripted.left.set()

    server = await serve(play)
    response = await new_client().send("GET", server.url)
    chunks = response.chunks()
    assert await anext(chunks) == b"hello"
    await chunks.aclose()
    await asyncio.wait_for(server.left.wait(), 30)


async def test_a_reader_that_does_not_read_stops_the_sender(serve, new_client):
    sent = 0

    async def play(scripted, reader, writer):
        nonlocal sent
        await scripted.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n")
        for _ in range(500):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    server = await serve(play)
    response = await new_client().send("GET", server.url, deadlines=Deadlines(idle_s=0.2))
    await asyncio.sleep(0.5)
    assert sent < 20_000_000
    # The sender waited for us and not we for it: the idle deadline does not count that time.
    assert len(await response.read()) == 50_000_000


async def test_an_answer_above_the_limit_is_not_read_to_its_end(serve, new_client):
    async def play(scripted, reader, writer):
        await scripted.request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000)

    server = await serve(play)
    assert len(await fetch(server.url, new_client(), max_bytes=1000)) == 1000
    with pytest.raises(ResponseTooLarge):
        await fetch(server.url, new_client(), max_bytes=999)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("ftp://example.org/", id="another scheme"),
        pytest.param("example.org/v1", id="no scheme"),
        pytest.param("http:///v1", id="no host"),
        pytest.param("http://a:99999/", id="a port that is none"),
    ],
)
async def test_an_address_that_cannot_be_sent_to(url, new_client):
    with pytest.raises(InputError, match="is not an address"):
        await new_client().send("GET", url)


async def test_a_line_break_in_a_header_is_refused(new_client):
    with pytest.raises(InputError, match="line break"):
        await new_client().send("GET", "http://127.0.0.1:1/", headers=[("x-a", "1\r\nx-b: 2")])


def test_each_event_loop_has_its_own_pool_and_leaves_nothing_behind(new_client):
    client = new_client()

    async def ask() -> bytes:
        async def play(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            try:
                await reader.read()
            finally:
                writer.transport.abort()

        async with await asyncio.start_server(play, "127.0.0.1", 0) as server:
            return await fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", client)

    for _ in range(2):  # unclosed transports would be warnings, and warnings are errors here
        assert asyncio.run(ask()) == b"hello"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and self-signed certificate of 127.0.0.1 in one file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    try:
        subprocess.run([*line.split(), "-keyout", str(file), "-out", f"{file}.crt"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.wfile.write(OK)

    def log_message(self, *_: object) -> None:
        pass


class SecureServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # a client that does not trust us hangs up in the handshake


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate, new_client):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with SecureServer(("127.0.0.1", 0), Hello) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}/"
        with pytest.raises(ConnectFailed, match="certificate does not verify"):
            await fetch(url, new_client())
        client = new_client(tls=ssl.create_default_context(cafile=str(certificate)))
        for _ in range(2):
            assert await fetch(url, client) == b"hello"
        server.shutdown()


def test_every_error_says_what_to_do():
    for error in (
        ConnectFailed("http://a", "refused"),
        UpstreamTimeout("http://a", "first byte", 2.0),
        ConnectionBroken("http://a", "reset", answered=False),
        ResponseGarbled("http://a", "not HTTP"),
        ResponseTooLarge("http://a", 10),
    ):
        assert isinstance(error, UpstreamError)
        assert "http://a" in str(error)
        assert str(error).count(". ") >= 1
