"""Client connections, byte by byte: slow clients, broken requests, several requests at once."""

import json
import re
import socket
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from slipway.gateway import door

BODY = json.dumps({"model": "plain", "messages": [{"role": "user", "content": "hi"}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
WHOLE = HEAD + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)


def connect(served) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def read_to_end(raw: socket.socket) -> bytes:
    received = b""
    while piece := raw.recv(65536):
        received += piece
    return received


def read_answers(raw: socket.socket, count: int = 1) -> list[tuple[int, bytes]]:
    """Status and body of answers with a content-length."""
    answers = []
    with raw.makefile("rb") as lines:
        for _ in range(count):
            status, length = int(lines.readline().split()[1]), 0
            while (line := lines.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            answers.append((status, lines.read(length)))
    return answers


SLOW = [
    pytest.param(HEAD, "headers", id="headers that do not end"),
    pytest.param(HEAD + b"content-length: 100\r\n\r\n{", "body", id="a body that does not go on"),
]


@pytest.mark.parametrize(("sent", "what"), SLOW)
def test_a_client_that_drips_is_told_and_closed_while_others_are_answered(served, monkeypatch, sent, what):
    monkeypatch.setattr(door, "HEADERS_WITHIN_S", 0.4)
    monkeypatch.setattr(door, "BODY_PIECE_WITHIN_S", 0.4)
    dripping = [connect(served) for _ in range(30)]
    for raw in dripping:
        raw.sendall(sent)
    assert served.chat("plain").status_code == 200
    for raw in dripping:
        with raw:
            answer = read_to_end(raw)
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert f"The {what} of the request came too slowly".encode() in answer


def test_the_deadline_of_the_headers_is_not_moved_by_more_headers(served, monkeypatch):
    monkeypatch.setattr(door, "HEADERS_WITHIN_S", 0.5)
    with connect(served) as raw:
        raw.sendall(HEAD)
        raw.settimeout(0.05)
        answer = b""
        for number in range(1000):
            try:
                raw.sendall(b"x-%d: 1\r\n" % number)
                answer = raw.recv(65536)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")


def drip(raw: socket.socket) -> bytes:
    """Sends a byte now and then until something comes back; returns all of that."""
    raw.settimeout(0.05)
    for _ in range(1000):
        try:
            raw.sendall(b" ")
            answer = raw.recv(65536)
            break
        except TimeoutError:
            continue
    raw.settimeout(60)
    return answer + read_to_end(raw)


def test_a_body_that_drips_has_an_end(served, monkeypatch):
    monkeypatch.setattr(door, "BODY_WITHIN_S", 0.5)
    with connect(served) as raw:
        raw.sendall(HEAD + b"content-length: 100000\r\n\r\n{")
        answer = drip(raw)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"The body of the request came too slowly" in answer


def test_a_body_that_drips_after_its_answer_gets_no_second_one(served, monkeypatch):
    monkeypatch.setattr(door, "BODY_WITHIN_S", 0.5)
    with connect(served) as raw:
        raw.sendall(b"POST /v1/nothing HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100000\r\n\r\n{")
        answer = drip(raw)
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_large_body_may_take_the_longer_the_more_of_it_comes(served, upstream, monkeypatch):
    monkeypatch.setattr(door, "BODY_WITHIN_S", 0.2)
    monkeypatch.setattr(door, "BODY_BYTES_A_SECOND", 1000)
    body = json.dumps({"model": "plain", "messages": [{"role": "user", "content": "x" * 600_000}]}).encode()
    sent = HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    with connect(served) as raw:
        for at in range(0, len(sent), 60_000):
            raw.sendall(sent[at : at + 60_000])
            time.sleep(0.05)
        assert read_answers(raw)[0][0] == 200


def test_a_body_behind_another_has_its_own_time(served):
    half = len(BODY) // 2
    with connect(served) as raw:
        for _ in range(2):
            raw.sendall(WHOLE[:-half])
            time.sleep(0.1)
            raw.sendall(WHOLE[-half:])
            assert read_answers(raw)[0][0] == 200
            for connection in list(served.server.server_state.connections):
                connection._body_until = 0.0


def test_a_slow_answer_is_no_slow_client(served, monkeypatch):
    monkeypatch.setattr(door, "HEADERS_WITHIN_S", 0.2)
    monkeypatch.setattr(door, "BODY_PIECE_WITHIN_S", 0.2)
    answer = served.chat("fast/paced", stream=True)
    assert answer.text.rstrip().endswith("data: [DONE]")


def test_an_idle_connection_is_closed_without_a_word(served):
    for connection in list(served.server.server_state.connections):
        # A transport belongs to the thread of its loop.
        connection.loop.call_soon_threadsafe(connection.transport.close)
    served.server.config.timeout_keep_alive = 0.3
    try:
        with connect(served) as raw:
            raw.sendall(WHOLE)
            assert read_answers(raw)[0][0] == 200
            assert raw.recv(1) == b""
        with connect(served) as raw:
            assert raw.recv(1) == b""
    finally:
        served.server.config.timeout_keep_alive = 5


BROKEN = [
    pytest.param(b"hello\r\n\r\n", 400, id="no HTTP"),
    pytest.param(b"GET /v1/models\r\n\r\n", 400, id="HTTP/0.9: no version"),
    pytest.param(b"GET /healthz HTTP/0.9\r\nhost: x\r\n\r\n", 400, id="HTTP/0.9, by name"),
    pytest.param(WHOLE.replace(b"HTTP/1.1", b"HTTP/2.0"), 400, id="HTTP/2.0"),
    pytest.param(HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400, id="two lengths"),
    pytest.param(
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="length and chunks"
    ),
    pytest.param(HEAD + b"content-length: -1\r\n\r\n", 400, id="negative length"),
    pytest.param(HEAD.replace(b"\r\n", b"\n") + b"content-length: 2\n\n{}", 400, id="bare line feeds"),
    pytest.param(HEAD + b"x y: 1\r\n\r\n", 400, id="a space in a header's name"),
    pytest.param(HEAD + b"x: " + b"a" * 70_000 + b"\r\n\r\n", 400, id="70 KB of one header"),
    pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400, id="a chunk without a size"),
    pytest.param(
        HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="chunks twice"
    ),
    pytest.param(HEAD + b"x: a\0b\r\n\r\n", 400, id="a zero byte in a header"),
    pytest.param(HEAD + b"x: a\r\n b\r\n\r\n", 400, id="a header over two lines"),
    pytest.param(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n", 400, id="a proxy is looked for"),
]


@pytest.mark.parametrize(("sent", "status"), BROKEN)
def test_what_cannot_be_a_request_is_refused_and_closed(served, sent, status):
    with connect(served) as raw:
        raw.sendall(sent)
        answer = read_to_end(raw)
    assert int(answer.split()[1]) == status
    assert b"\r\nconnection: close\r\n" in answer
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["type"] == "invalid_request_error"
    assert served.chat("plain").status_code == 200


def test_several_requests_at_once_are_answered_in_their_order(served):
    missing = WHOLE.replace(b'"plain"', b'"empty"')
    with connect(served) as raw:
        raw.sendall(WHOLE + missing + b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" + WHOLE)
        answers = read_answers(raw, 4)
    assert [status for status, _ in answers] == [200, 404, 200, 200]
    assert answers[2][1] == b'{"status":"ok"}'


def test_what_is_broken_behind_good_requests_is_told_after_their_answers(served):
    streamed = BODY[:-1] + b', "stream": true}'
    slow = BODY.replace(b"plain", b"fast/slow-0.2")
    with connect(served) as raw:
        for body in (slow, streamed):
            raw.sendall(HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        raw.sendall(WHOLE + b"\0 garbage\r\n\r\n")
        received = read_to_end(raw)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", received) == [b"200", b"200", b"200", b"400"]
    assert received.count(b"data: [DONE]") == 1


OFFER = HEAD + b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
OFFERS = [
    pytest.param(OFFER + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY), id="its length is told"),
    pytest.param(
        OFFER + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), id="in chunks"
    ),
]


@pytest.mark.parametrize("sent", OFFERS)
@pytest.mark.parametrize("size", [40, 100_000])
def test_an_offer_of_http_2_is_passed_over_and_the_request_answered(served, upstream, sent, size):
    """Java's client makes one with every request."""
    with connect(served) as raw:
        for more in (sent, sent, WHOLE):
            for at in range(0, len(more), size):
                raw.sendall(more[at : at + size])
                time.sleep(0.005)
            assert read_answers(raw)[0][0] == 200
        raw.sendall(sent + WHOLE + sent)
        assert [status for status, _ in read_answers(raw, 3)] == [200] * 3
    assert [request["messages"] for request in upstream.state.requests] == [json.loads(BODY)["messages"]] * 6


def chunked(trailer: bytes) -> bytes:
    return HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n" % (len(BODY), BODY, trailer)


def test_fields_after_the_body_are_no_headers(served):
    with connect(served) as raw:
        raw.sendall(chunked(b"x-request-id: smuggled\r\nauthorization: Bearer stolen\r\n") + WHOLE)
        with raw.makefile("rb") as lines:
            head = b""
            while (line := lines.readline()) != b"\r\n":
                head += line
    assert head.startswith(b"HTTP/1.1 200")
    assert b"x-request-id: req_" in head


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(chunked(b"x: " + b"a" * 1_000_000), b"400", id="after its body"),
        pytest.param(
            b"POST /v1/nothing HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 60000000\r\n\r\n" + b"a" * 5_000_000,
            b"404",
            id="after its answer",
        ),
    ],
)
def test_a_request_that_goes_on_and_on_is_closed(served, monkeypatch, sent, status):
    monkeypatch.setattr(door, "UNHEARD_LIMIT", 1_000_000)
    monkeypatch.setattr(door, "BODY_PIECE_WITHIN_S", 600.0)
    monkeypatch.setattr(door, "BODY_WITHIN_S", 600.0)
    with connect(served) as raw:
        received = b""
        with suppress(ConnectionError):
            raw.sendall(sent)
        with suppress(ConnectionError):
            while piece := raw.recv(65536):
                received += piece
    assert received[9:12] in (status, b"")  # a reset may take the answer along
    assert served.chat("plain").status_code == 200


async def test_an_answer_for_a_client_that_left_a_moment_ago_is_no_failure():
    class Gone:
        def is_closing(self) -> bool:
            return True

        def write(self, _: bytes) -> None:
            raise RuntimeError("the handler is closed")

    flow = SimpleNamespace(write_paused=False)
    side = SimpleNamespace(flow=flow, transport=Gone(), loop=None, expect_100_continue=False)
    exchange = door.Exchange(side, {}, keep_alive=True)
    await exchange.send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await exchange.send({"type": "http.response.body", "body": b"{}"})
    assert (await exchange.receive())["type"] == "http.disconnect"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("more", [b"", b"connection: close\r\n"], ids=["kept", "closed after it"])
def test_a_client_that_reads_nothing_of_its_answer_is_let_go(served, until, monkeypatch, stream, more):
    monkeypatch.setattr(door, "UNREAD_WITHIN_S", 0.3)
    before = set(served.server.server_state.connections)
    body = json.dumps({"model": "fast/big", "messages": [], "stream": stream}).encode()
    with connect(served) as raw:
        raw.sendall(HEAD + more + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        assert until(lambda: set(served.server.server_state.connections) - before)
        assert until(lambda: not set(served.server.server_state.connections) - before)
        assert until(lambda: served.gateway._counts.in_flight == 0)


def test_a_client_that_reads_slowly_gets_all_of_its_answer(served, monkeypatch):
    monkeypatch.setattr(door, "UNREAD_WITHIN_S", 0.0)
    looked = []
    real = door.Door._look_at_unread

    def look(connection, unread: int) -> None:
        # Between two looks the client reads on, however long that takes.
        looked.append(unread)
        real(connection, unread + 1)

    monkeypatch.setattr(door.Door, "_look_at_unread", look)
    answer = served.chat("fast/big")
    assert len(answer.json()["choices"][0]["message"]["content"]) == 30_000_000
    assert looked


def test_a_body_in_chunks_and_in_drops_is_one_body(served, upstream):
    with connect(served) as raw:
        raw.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(BODY), 7):
            piece = BODY[at : at + 7]
            raw.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        raw.sendall(b"0\r\n\r\n")
        assert read_answers(raw)[0][0] == 200
    assert upstream.state.requests[-1]["messages"] == json.loads(BODY)["messages"]


def test_a_client_that_asks_first_is_told_to_go_on(served):
    with connect(served) as raw:
        raw.sendall(HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(BODY))
        assert raw.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(BODY)
        assert read_answers(raw)[0][0] == 200


def test_a_head_request_gets_no_body(served):
    with connect(served) as raw:
        raw.sendall(b"HEAD /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        head, _, body = read_to_end(raw).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405")
    assert body == b""


def test_http_1_0_is_answered_and_closed(served):
    with connect(served) as raw:
        raw.sendall(WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = read_to_end(raw)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in answer


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'%x;name="value";x\r\n%b\r\n0\r\n\r\n' % (len(BODY), BODY), id="with an extension"),
        pytest.param(b"000%x\r\n%b\r\n000;last\r\n\r\n" % (len(BODY), BODY), id="with zeros before its length"),
        pytest.param(b"%X\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), id="with a length in capitals"),
    ],
)
def test_a_chunk_may_be_written_in_other_ways(served, upstream, body):
    with connect(served) as raw:
        raw.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n" + body + WHOLE)
        answers = read_answers(raw, 2)
    assert [status for status, _ in answers] == [200, 200]
    assert upstream.state.asked["ok"] == 2


def test_a_body_of_no_chunks_is_an_empty_one(served):
    with connect(served) as raw:
        raw.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + WHOLE)
        answers = read_answers(raw, 2)
    assert [status for status, _ in answers] == [400, 200]


@pytest.mark.parametrize("method", [b"OPTIONS", b"GET", b"PUT", b"DELETE", b"PATCH"])
def test_another_method_is_told_which_one_to_take(served, method):
    with connect(served) as raw:
        raw.sendall(WHOLE.replace(b"POST", method, 1) + WHOLE)
        answers = read_answers(raw, 2)
    assert [status for status, _ in answers] == [405, 200]


def test_a_client_that_closes_its_side_has_left(served, upstream, until):
    with connect(served) as raw:
        raw.sendall(
            WHOLE.replace(b'"plain"', b'"fast/hang"').replace(
                b"content-length: %d" % len(BODY), b"content-length: %d" % (len(BODY) + 4)
            )
        )
        assert until(lambda: upstream.state.asked["hang"] == 1)
        raw.shutdown(socket.SHUT_WR)
        assert upstream.wait_cancelled("hang")
        assert raw.recv(100) == b""
