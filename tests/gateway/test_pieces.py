"""Pieces of a stream that go straight from the engine's connection to the client's."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from slipway.upstream.pool import StreamedResponse
from slipway.workspace import open_workspace

BODY = json.dumps({"model": "fast/m", "stream": True, "messages": [{"role": "user", "content": "hi"}]})


def event(text: str | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()


WORDS = [event(f"word {number} ") for number in range(8)]
SAYS_DONE = event("he wrote [DONE]")
LARGE = [event("x" * 200_000) for _ in range(40)]


class Engine(BaseHTTPRequestHandler):
    """Sends what stands in `pieces`, one after the other; a float waits so long, an event until it is set."""

    protocol_version = "HTTP/1.1"
    pieces: tuple[Any, ...] | list[Any] = ()

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in self.pieces:
            if isinstance(piece, float):
                time.sleep(piece)
            elif isinstance(piece, threading.Event):
                piece.wait(30)
            else:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def engine():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def served(tmp_path_factory, tools, engine):
    folder = tools.make_application(
        tmp_path_factory.mktemp("pieces") / "lamps", f"http://127.0.0.1:{engine.server_port}/v1"
    )
    with open_workspace(folder) as workspace, tools.serving(workspace) as served:
        yield served


@pytest.fixture
def straight(monkeypatch):
    """What went the straight way."""
    sent: list[bytes] = []
    hand_over = StreamedResponse.hand_over

    def note(self: StreamedResponse, take: Callable[[bytes], bool]) -> None:
        def noted(piece: bytes) -> bool:
            took = take(piece)
            if took:
                sent.append(piece)
            return took

        hand_over(self, noted)

    monkeypatch.setattr(StreamedResponse, "hand_over", note)
    return sent


def stream(served: Any) -> Any:
    headers = {"content-type": "application/json"}
    return httpx.stream("POST", f"{served.url}/v1/chat/completions", content=BODY, headers=headers, timeout=30)


def test_pieces_in_the_middle_go_straight_and_all_of_them_arrive_in_their_order(served, straight):
    pieces = [*WORDS[:4], SAYS_DONE, *WORDS[4:], event(None, "stop"), b"data: [DONE]\n\n"]
    gates = [threading.Event() for _ in pieces]
    Engine.pieces = [part for pair in zip(pieces, gates, strict=True) for part in pair]
    with stream(served) as answer:
        came = answer.iter_raw()
        for piece, gate in zip(pieces, gates, strict=True):
            assert next(came) == piece
            gate.set()
        assert not b"".join(came)
    assert straight == pieces[1:-1]
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert span.content["reply"] == "".join(f"word {number} " for number in range(4)) + "he wrote [DONE]" + "".join(
        f"word {number} " for number in range(4, 8)
    )
    assert span.finish == "stop"


@pytest.mark.parametrize("cut", range(6, 13))
def test_a_stream_that_says_that_it_is_done_is_on_record_however_its_end_is_cut(served, cut):
    end, held = b"data: [DONE]\n\n", threading.Event()
    Engine.pieces = [WORDS[0], 0.02, WORDS[1], 0.02, event(None, "stop"), 0.02, end[:cut], 0.02, end[cut:], held]
    with stream(served) as answer:
        pieces, came = answer.iter_raw(), b""
        while not came.endswith(b"[DONE]\n\n"):
            came += next(pieces)
        (span,) = served.trace(answer.headers["x-slipway-trace"])
        assert span.content["reply"] == "word 0 word 1 "
        held.set()


def test_a_client_that_reads_slowly_gets_everything_all_the_same(served):
    Engine.pieces = [WORDS[0], 0.05, *LARGE, event(None, "stop"), b"data: [DONE]\n\n"]
    came = 0
    with stream(served) as answer:
        for piece in answer.iter_raw(65536):
            if came < 1_000_000:
                time.sleep(0.02)
            came += len(piece)
    assert came == sum(map(len, Engine.pieces[2:])) + len(WORDS[0])


def test_a_stream_that_breaks_off_while_pieces_go_straight_ends_with_an_error(served, monkeypatch):
    def cut(self: Engine) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in WORDS[:4]:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            time.sleep(0.02)
        self.close_connection = True

    monkeypatch.setattr(Engine, "do_POST", cut)
    with stream(served) as answer:
        came = b"".join(answer.iter_raw())
    assert came.startswith(b"".join(WORDS[:4]))
    assert b'"error"' in came[len(b"".join(WORDS[:4])) :]
    assert b"[DONE]" not in came
    (span,) = served.trace(answer.headers["x-slipway-trace"])
    assert span.status == "error"
    assert span.content["reply"] == "word 0 word 1 word 2 word 3 "
