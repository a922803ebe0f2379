"""Engines that say right things in unusual ways, or wrong things in usual ones: what is passed on and what is kept."""

from __future__ import annotations

import gzip
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.release.channels import promote
from slipway.workspace import open_workspace

RAILS = Guardrails(after=(RailSpec(name="personal_data", action="redact"),))
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def chunk(content: str | None = None, finish: str | None = None, index: int = 0, **delta: Any) -> dict[str, Any]:
    if content is not None:
        delta["content"] = content
    return {"id": "c", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def whole(text: str = "Hello", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices} | more


def events(
    *said: dict[str, Any], end: bytes = b"\n\n", done: bytes = b"data: [DONE]", start: bytes = b"data: "
) -> bytes:
    return b"".join(start + json.dumps(one).encode() + end for one in said) + (done + end if done else b"")


HELLO = (chunk(role="assistant"), chunk("Hel"), chunk("lo"), chunk(finish="stop"))
COUNTED = (*HELLO, {"id": "c", "model": "m", "choices": [], "usage": USAGE})
STREAMS: dict[str, bytes] = {
    "usual": events(*HELLO),
    "counted": events(*COUNTED),
    "lines of CR LF": events(*HELLO, end=b"\r\n\r\n"),
    "no space": events(*HELLO, start=b"data:", done=b"data:[DONE]"),
    "no space, no finish": events(*HELLO[:3], start=b"data:", done=b"data:[DONE]"),
    "CR LF, no finish": events(*HELLO[:3], end=b"\r\n\r\n"),
    "comments": b": one moment\n\n" + events(*HELLO[:2], done=b"") + b": still here\n\n" + events(*HELLO[2:]),
    "fields": events(*HELLO, start=b"event: message\nid: 7\nretry: 10\ndata: "),
    "no empty line at its end": events(*HELLO)[:-2],
    "no [DONE]": events(*HELLO, done=b""),
    "no [DONE] and no empty line": events(*HELLO, done=b"")[:-2],
    "a byte order mark": b"\xef\xbb\xbf" + events(*HELLO),
    "words cut anywhere": events(chunk("Hé"), chunk("llö 🙂"), chunk(finish="stop")),
}
TEXTS = dict.fromkeys(STREAMS, "Hello") | {"words cut anywhere": "Héllö 🙂"}


class Engine(socketserver.ThreadingTCPServer):
    """Answers every request with the raw bytes that stand under the name of its model, `pieces` at a time."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    def says(self, model: str, body: bytes | dict[str, Any], *, kind: str = "application/json", more: str = "") -> str:
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\n\r\n"
        self.answers[model] = head.encode() + body
        return f"fast/{model}"

    def streams(self, model: str, body: bytes, *, more: str = "") -> str:
        return self.says(model, body, kind="text/event-stream", more=more)


class Handler(socketserver.StreamRequestHandler):
    server: Engine

    def handle(self) -> None:
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while line := self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            model = json.loads(self.rfile.read(length))["model"]
            if model == "warm":
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                continue
            self.server.asked.append(model)
            head, _, body = self.server.answers[model].partition(b"\r\n\r\n")
            self.wfile.write(head + b"\r\n\r\n")
            size = 7 if b"event-stream" in head and len(body) < 10_000 else 1 << 16
            for at in range(0, len(body), size):
                self.wfile.write(body[at : at + size])


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield engine
        engine.shutdown()


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, tools: Any, engine: Engine) -> Iterator[Any]:
    """A gateway before it; the channels `gN` check what the model of that name says, `backed` has a fallback."""
    url = f"http://127.0.0.1:{engine.server_address[1]}/v1"
    more = """
[routing]
breaker_failures = 0
retry_share = 0.0
[routing.fallback.backed]
to = ["fast/spare"]
"""
    folder = tools.make_application(tmp_path_factory.mktemp("odd") / "lamps", url, more)
    engine.says("spare", whole("I stand in", usage=USAGE))
    with open_workspace(folder) as workspace:
        for number in range(len(STREAMS)):
            promote(
                workspace,
                tools.plain_release(workspace, model=f"g{number}", guardrails=RAILS),
                f"g{number}",
                force=True,
            )
        promote(workspace, tools.plain_release(workspace, model="backed"), "backed", force=True)
        with tools.serving(workspace) as served:
            yield served


def texts(answer: httpx.Response) -> str:
    """What a strict client reads: events end with an empty line."""
    said = ""
    *whole_events, rest = answer.text.replace("\r\n", "\n").removeprefix("\ufeff").split("\n\n")
    assert rest.strip() in ("", "data: [DONE]", "data:[DONE]") or "data" in rest
    for event in [*whole_events, rest]:
        for line in event.split("\n"):
            data = line.removeprefix("data:").strip()
            if line.startswith("data:") and data != "[DONE]":
                for choice in json.loads(data).get("choices") or ():
                    said += choice["delta"].get("content") or ""
    return said


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_however_it_is_written_comes_as_it_is_and_is_understood(odd, engine, name):
    answer = odd.chat(engine.streams("odd", STREAMS[name]), stream=True)
    assert (answer.status_code, answer.content) == (200, STREAMS[name])
    (span,) = odd.trace(answer.headers["x-slipway-trace"])
    assert (span.status, span.error, span.content["reply"]) == ("ok", "", TEXTS[name])


@pytest.mark.parametrize(("number", "name"), list(enumerate(STREAMS)))
def test_rails_read_a_stream_however_it_is_written(odd, engine, number, name):
    engine.streams(f"g{number}", STREAMS[name])
    answer = odd.chat(f"g{number}", stream=True)
    assert answer.status_code == 200
    assert texts(answer) == TEXTS[name]
    assert ("[DONE]" in answer.text) is ("[DONE]" in STREAMS[name].decode())
    (span,) = odd.trace(answer.headers["x-slipway-trace"])
    assert (span.status, span.error, span.content["reply"]) == ("ok", "", TEXTS[name])


def test_usage_that_only_the_last_event_tells_is_kept(odd, engine):
    answer = odd.chat(engine.streams("odd", events(*COUNTED)), stream=True)
    (span,) = odd.trace(answer.headers["x-slipway-trace"])
    assert (span.input_tokens, span.output_tokens, span.usage_estimated) == (3, 4, False)


LONG = "word " * 400  # 500 tokens by the rule of thumb
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": ""}}
UNCOUNTED = {
    "several answers": [
        chunk(LONG, index=0),
        chunk(LONG, index=1),
        chunk(finish="stop"),
        chunk(finish="stop", index=1),
    ],
    "a call of a tool": [
        chunk(tool_calls=[CALL]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": LONG}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": LONG}}]),
        chunk(finish="tool_calls"),
    ],
    "thoughts": [chunk(reasoning_content=LONG), chunk(LONG), chunk(finish="stop")],
    "thoughts by another name": [chunk(reasoning=LONG), chunk(LONG), chunk(finish="stop")],
}


@pytest.mark.parametrize("name", UNCOUNTED)
def test_whatever_a_model_wrote_is_estimated_where_nobody_counts(odd, engine, name):
    """Else several answers, calls of tools and thoughts would be free of charge for who never asks for usage."""
    answer = odd.chat(engine.streams("odd", events(*UNCOUNTED[name])), stream=True)
    assert answer.status_code == 200
    (span,) = odd.trace(answer.headers["x-slipway-trace"])
    assert span.status == "ok"
    assert span.usage_estimated
    assert 1000 <= span.output_tokens <= 1100


def test_whatever_a_model_wrote_at_once_is_estimated_too(odd, engine):
    message = {"role": "assistant", "content": LONG, "tool_calls": [CALL | {"function": {"arguments": LONG}}]}
    answer = odd.chat(engine.says("odd", whole() | {"choices": [{"index": 0, "message": message}] * 2}))
    assert answer.status_code == 200
    (span,) = odd.trace(answer.headers["x-slipway-trace"])
    assert span.usage_estimated
    assert 2000 <= span.output_tokens <= 2100


def test_probabilities_and_what_else_is_unknown_pass_unchanged(odd, engine):
    said = whole(usage=USAGE, system_fingerprint="f", service_tier=None)
    said["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -1e-7, "bytes": [97], "top_logprobs": []}]}
    answer = odd.chat(engine.says("odd", said))
    assert answer.json() == said


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_an_answer_that_is_packed_although_nobody_asked_is_told_as_that(odd, engine, stream, encoding):
    """Nobody could read it: not the rails, not the client, who was never told that it is packed."""
    body = gzip.compress(events(*HELLO) if stream else json.dumps(whole()).encode())
    kind = "text/event-stream" if stream else "application/json"
    model = engine.says("odd", body, kind=kind, more=f"content-encoding: {encoding}\r\n")
    answer = odd.chat(model, stream=stream)
    assert answer.status_code == 502
    assert f"packed as '{encoding}'" in answer.json()["error"]["message"]
    engine.answers["backed"] = engine.answers["odd"]
    assert b"I stand in" in odd.chat("backed", stream=stream).content


def test_an_encoding_that_changes_nothing_is_none(odd, engine):
    assert odd.chat(engine.says("odd", whole(usage=USAGE), more="content-encoding: identity\r\n")).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_that_calls_itself_a_success_lets_the_fallback_answer(odd, engine, stream):
    """Some routers answer 200 and then say that nobody was there."""
    error = {"error": {"message": "no provider is left", "code": 502}}
    body = events(error, done=b"") if stream else json.dumps(error).encode()
    kind = "text/event-stream" if stream else "application/json"
    engine.says("backed", body, kind=kind)
    answer = odd.chat("backed", stream=stream)
    assert answer.status_code == 200
    assert b"I stand in" in answer.content
    assert answer.headers["x-slipway-fallback"] == "fast/spare"
    spans = odd.trace(answer.headers["x-slipway-trace"])
    assert "no provider is left" in spans[1].error
    alone = odd.chat(engine.says("odd", body, kind=kind), stream=stream)
    assert alone.status_code == 502
    assert "no provider is left" in alone.json()["error"]["message"]


@pytest.mark.parametrize("value", ["1\r\n x-evil: 2", "1\r\n\tx-evil: 2"])
def test_a_header_over_two_lines_adds_none_to_the_answer(odd, engine, value):
    body = json.dumps(whole(usage=USAGE)).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nretry-after: {value}\r\ncontent-length: {len(body)}"
    engine.answers["odd"] = f"{head}\r\n\r\n".encode() + body
    answer = odd.chat("fast/odd")
    assert answer.status_code in (200, 502)
    assert "x-evil" not in answer.headers


def test_a_huge_event_comes_through(odd, engine):
    answer = odd.chat(engine.streams("odd", events(chunk("x" * 300_000), chunk(finish="stop"))), stream=True)
    assert len(texts(answer)) == 300_000


PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": LONG}]},
    {"type": "text", "text": "To anna@example.org"},
]


def test_an_answer_in_parts_is_read_kept_and_counted(odd, engine):
    said = whole(usage=USAGE)
    said["choices"][0]["message"]["content"] = PARTS
    answer = odd.chat(engine.says("odd", said))
    assert answer.json() == said
    (span,) = odd.trace(answer.headers["x-slipway-trace"])
    assert (span.content["reply"], span.output_tokens, span.usage_estimated) == ("To anna@example.org", 4, False)
    del said["usage"]
    answer = odd.chat(engine.says("odd", said))
    (span,) = odd.trace(answer.headers["x-slipway-trace"])
    assert 500 <= span.output_tokens <= 510


def test_rails_read_an_answer_in_parts(odd, engine):
    """Else a model that thinks would say what it likes."""
    said = whole(usage=USAGE)
    said["choices"][0]["message"]["content"] = PARTS
    engine.says("g0", said)
    answer = odd.chat("g0")
    assert answer.status_code == 200
    assert "anna@example.org" not in answer.text
    assert LONG in answer.text
    (span,) = odd.trace(answer.headers["x-slipway-trace"])
    assert "anna" not in span.content["reply"]


def test_rails_read_a_stream_in_parts(odd, engine):
    pieces = [
        chunk(content=[PARTS[0]]),
        *(chunk(content=[{"type": "text", "text": word}]) for word in ("To anna@", "example.org")),
    ]
    for end in ([chunk(finish="stop")], [chunk(content=[{"type": "text", "text": " now"}], finish="stop")], []):
        engine.streams("g0", events(*pieces, *end))
        answer = odd.chat("g0", stream=True)
        assert answer.status_code == 200
        assert "anna@" not in answer.text
        (span,) = odd.trace(answer.headers["x-slipway-trace"])
        assert span.status == "ok"
        assert span.content["reply"].startswith("To ")
        assert "example.org" not in span.content["reply"]
