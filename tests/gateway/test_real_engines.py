"""What real engines and proxies were seen to do, played by a scripted one: see "Tried with" in docs/gateway.md."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from slipway.workspace import open_workspace

NGINX_PAGE = b"""<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>
<center><h1>502 Bad Gateway</h1></center>
<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"""
SQUID_PAGE = b"""<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">
<html><head><style type="text/css"><!-- body { font-family: verdana; } --></style><title>ERROR: Cache Access
Denied</title></head><body><p>Sorry &amp; denied</p></body></html>"""
TOO_LARGE = b'{"error":{"code":500,"message":"input (21002 tokens) is too large to process","type":"server_error"}}'
GOOD = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
ERROR_WITH_USAGE = {"error": {"message": "the worker died", "code": 502}, "usage": GOOD["usage"]}
CHUNK = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}
STREAM = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(CHUNK).encode()


class Engine(socketserver.ThreadingTCPServer):
    """`answers` are given in turn for each model, the last one for ever; a message with the word `poison` gets 500."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.answers: dict[str, list[bytes]] = {}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def says(self, model: str, status: str, body: bytes | dict[str, Any], *, more: str = "") -> str:
        """One more answer of a model."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\n{more}content-length: {len(body)}\r\n\r\n".encode()
        self.answers.setdefault(model, []).append(head + body)
        return f"fast/{model}"


class Handler(socketserver.StreamRequestHandler):
    server: Engine

    def handle(self) -> None:
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = self.rfile.read(length)
            model = json.loads(body)["model"]
            answers = self.server.answers.get(model, [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"])
            if model != "warm":
                self.server.asked.append(model)
            if b"poison" in body:
                head = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: %d\r\n\r\n" % len(TOO_LARGE)
                self.wfile.write(head + TOO_LARGE)
                continue
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.wfile.write(answer)
            if not answer:
                return


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield engine
        engine.shutdown()


@pytest.fixture
def real(tmp_path: Any, tools: Any, engine: Engine) -> Iterator[Any]:
    url = f"http://127.0.0.1:{engine.server_address[1]}/v1"
    pair = f'[engines.two]\nkind = "openai"\nbase_url = "{url}"\nfallback_urls = ["{url}"]\n'
    routing = "[routing]\nbreaker_s = 60.0\nretry_share = 0.2\n"
    folder = tools.make_application(tmp_path / "lamps", url, more=pair + routing)
    with open_workspace(folder) as workspace, tools.serving(workspace) as served:
        yield served


POISON = [{"role": "user", "content": "poison"}]


@pytest.mark.parametrize("name", ["fast", "two"], ids=["one address", "two addresses"])
def test_a_client_whose_requests_get_500_takes_the_engine_from_nobody(real, engine, name):
    """llama.cpp says 500 to an input that is too long, transformers serve to a temperature that is no number."""
    engine.says("ok", "200 OK", GOOD)
    for _ in range(12):
        refused = real.chat(f"{name}/ok", messages=POISON)
        assert refused.status_code == 500
        assert refused.json()["error"]["message"].startswith("input (21002 tokens)")
    assert "slipway_breaker_state" in httpx.get(f"{real.url}/metrics").text
    assert real.chat(f"{name}/ok").status_code == 200


def test_an_engine_that_is_always_broken_is_asked_little_more_than_once_a_request(real, engine):
    engine.says("broken", "500 Internal Server Error", TOO_LARGE)
    for _ in range(30):
        assert real.chat("fast/broken").status_code == 500
    assert 30 <= engine.asked.count("broken") <= 45


def test_an_overloaded_engine_is_still_left_alone(real, engine):
    engine.says("busy", "503 Service Unavailable", {"error": {"message": "overloaded"}})
    for _ in range(30):
        assert real.chat("fast/busy").status_code == 503
    assert engine.asked.count("busy") <= 15


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "page", "said"),
    [
        pytest.param(502, NGINX_PAGE, "502 Bad Gateway nginx/1.22.1", id="nginx without its upstream"),
        pytest.param(413, SQUID_PAGE, "ERROR: Cache Access Denied Sorry & denied", id="a page with styles"),
        pytest.param(500, b"Internal Server Error", "Internal Server Error", id="uvicorn's plain text"),
    ],
)
def test_the_page_of_a_proxy_becomes_an_error_that_clients_can_read(real, engine, status, page, said, stream):
    model = engine.says("page", f"{status} X", page, more="content-type: text/html\r\nretry-after: 7\r\n")
    answer = real.chat(model, stream=stream)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["retry-after"] == "7"
    message = answer.json()["error"]["message"]
    assert said in message
    assert "<" not in message
    assert "verdana" not in message
    (span,) = [one for one in real.trace(answer.headers["x-slipway-trace"]) if one.kind == "chat"][:1]
    assert said in span.error


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("body", [b"<html>moved</html>", b'{"detail": "moved"}', b""], ids=["page", "JSON", "nothing"])
def test_a_redirect_says_where_to_and_what_to_correct(real, engine, body, stream):
    model = engine.says("moved", "307 Temporary Redirect", body, more="location: https://engine.example/v1\r\n")
    answer = real.chat(model, stream=stream)
    assert answer.status_code == 502
    assert "redirects (307) to https://engine.example/v1" in answer.json()["error"]["message"]
    assert "base_url" in answer.json()["error"]["message"]


def test_an_empty_success_is_called_that(real, engine):
    answer = real.chat(engine.says("empty", "204 No Content", b""))
    assert answer.status_code == 502
    assert "it is empty" in answer.json()["error"]["message"]


def test_what_the_engine_said_before_it_died_is_told(real, engine):
    """vLLM answers that its core has died, and exits before it can be asked again."""
    engine.says("dying", "500 Internal Server Error", {"error": {"message": "EngineCore encountered an issue"}})
    engine.answers["dying"].append(b"")
    answer = real.chat("fast/dying")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "EngineCore encountered an issue"


@pytest.mark.parametrize("long_way", [False, True], ids=["short way", "long way"])
def test_an_error_beside_usage_is_an_error_on_both_ways(real, engine, long_way):
    model = engine.says("mixed", "200 OK", ERROR_WITH_USAGE)
    # Bodies of more than 256 KB go the long way.
    more = {"padding": "x" * 300_000} if long_way else {}
    answer = real.chat(model, **more)
    assert answer.status_code == 502
    assert "the worker died" in answer.json()["error"]["message"]
    assert real.traces()[0].status == "error"


def test_a_stream_for_http_1_0_comes_without_chunks(real, engine):
    """nginx speaks it to what stands behind it unless told otherwise; who knows no chunks would read their lengths."""
    engine.says("flow", "200 OK", STREAM, more="content-type: text/event-stream\r\n")
    body = json.dumps({"model": "fast/flow", "messages": [], "stream": True}).encode()
    host, port = real.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as raw:
        head = b"POST /v1/chat/completions HTTP/1.0\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(body)
        raw.sendall(head + body)
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    headers, _, rest = received.partition(b"\r\n\r\n")
    assert b"200 OK" in headers
    assert b"transfer-encoding" not in headers
    assert b"connection: close" in headers
    assert rest == STREAM
