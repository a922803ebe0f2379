"""An upstream in the shape of the OpenAI API that answers at once, or misbehaves as the model's name says.

Tests load it into their process; the benchmark runs it as a program: python mock_upstream.py --port 0 prints its port.
Models: `ok` and every unknown name answer; `warm` too, and leaves no note in `state`; `slow-…`, `hang`, `late`,
`stall`, `cut`, `short`, `drip`, `trickle`, `garbage`, `error-event`, `reset`, `no-usage`, `zero-usage`, `no-done`,
`big`, `paced`, `filtered`, `thoughtful`, `likely`, `400`, `429`, `500`, `503` do what they are called; `details`
answers as OpenAI does, with cached and reasoning tokens and no null where a list belongs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import httptools

WORDS = [f"word{number}" for number in range(50)]
ANSWER = " ".join(WORDS)
CACHED: dict[tuple[str, bool], bytes] = {}
USAGE: dict[str, Any] = {"prompt_tokens": 120, "completion_tokens": 50, "total_tokens": 170}
DETAILED = USAGE | {
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 10},
}


def completion(model: str, text: str = ANSWER, usage: dict[str, Any] | None = USAGE) -> bytes:
    body: dict[str, Any] = {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1,
        "model": f"{model}-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    if usage:
        body["usage"] = usage
    return json.dumps(body).encode()


def chunk(model: str, delta: dict[str, str], finish: str | None = None) -> bytes:
    body = {
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": f"{model}-2026",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def stream_events(model: str, *, usage: bool) -> list[bytes]:
    """53 events: the role, fifty words, the end, the usage or the [DONE]."""
    events = [chunk(model, {"role": "assistant", "content": ""})]
    events += [chunk(model, {"content": word if number == 0 else f" {word}"}) for number, word in enumerate(WORDS)]
    events.append(chunk(model, {}, "stop"))
    if usage:
        # As vLLM does: choices null beside the usage.
        last = {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1, "model": f"{model}-2026"}
        told = {"choices": [], "usage": DETAILED} if model == "details" else {"choices": None, "usage": USAGE}
        events.append(b"data: " + json.dumps(last | told).encode() + b"\n\n")
    events.append(b"data: [DONE]\n\n")
    return events


RESPONSE: dict[str, Any] = {
    "id": "resp_0000000000000001",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "output": [
        {
            "id": "msg_0000000000000001",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}],
        }
    ],
    "previous_response_id": None,
    "usage": {
        "input_tokens": 120,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 170,
    },
}


def response_events(model: str) -> list[bytes]:
    """A response as a stream: fifty words between its beginning and its end, as OpenAI writes them."""
    whole = RESPONSE | {"model": f"{model}-2026"}
    item = whole["output"][0]
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    spot = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": item | {"content": []}}),
        ("response.content_part.added", {**spot, "part": item["content"][0] | {"text": ""}}),
    ]
    for number, word in enumerate(WORDS):
        delta = word if number == 0 else f" {word}"
        events.append(("response.output_text.delta", {**spot, "delta": delta, "logprobs": []}))
    events += [
        ("response.output_text.done", {**spot, "text": ANSWER, "logprobs": []}),
        ("response.content_part.done", {**spot, "part": item["content"][0]}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": whole}),
    ]
    return [
        f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': number, **event})}\n\n".encode()
        for number, (kind, event) in enumerate(events)
    ]


class State:
    """What the upstream saw, for tests to look at."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.paths: list[str] = []
        self.keep = True
        self.silent = False
        """Whether requests are left unanswered."""
        self.broken: set[str] = set()
        """Models that answer 500 for as long as they are in here."""
        self.half_broken: set[str] = set()
        """Models that answer 500 every second time."""


class Upstream(asyncio.Protocol):
    """One connection of the mock."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.parser = httptools.HttpRequestParser(self)
        self.transport: Any = None
        self.task: asyncio.Task[None] | None = None
        self.model = ""
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.task is not None and not self.task.done():
            self.state.cancelled[self.model] += 1
            self.task.cancel()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self.body: list[bytes] = []
        self.headers: dict[bytes, bytes] = {}

    def on_url(self, url: bytes) -> None:
        self.path = url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state.keep:
            self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        fields = json.loads(b"".join(self.body) or b"{}")
        model = self.model = str(fields.get("model", "ok"))
        state = self.state
        if model != "warm":
            state.asked[model] += 1
        if state.keep and model != "warm":
            state.requests.append(fields)
            state.headers.append(self.headers)
            state.paths.append(self.path)
        if self.path.endswith("/embeddings"):
            self.embeddings(fields)
            return
        stream = bool(fields.get("stream"))
        usage = bool((fields.get("stream_options") or {}).get("include_usage"))
        if state.silent:
            return
        if self.path.endswith("/responses"):
            self.transport.write(self.response(model, stream))
            return
        if model == "ok":
            self.transport.write(self.answer(model, stream, usage))
            return
        self.task = asyncio.get_running_loop().create_task(self.misbehave(model, stream, usage))

    def answer(self, model: str, stream: bool, usage: bool) -> bytes:
        key = (f"{model}{stream}", usage)
        if key not in CACHED:
            if stream:
                pieces = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in stream_events(model, usage=usage))
                CACHED[key] = STREAM_HEAD + pieces + b"0\r\n\r\n"
            else:
                CACHED[key] = whole(200, completion(model, usage=DETAILED if model == "details" else USAGE))
        return CACHED[key]

    def response(self, model: str, stream: bool) -> bytes:
        key = (f"response {model}{stream}", False)
        if key not in CACHED:
            answer = json.dumps(RESPONSE | {"model": f"{model}-2026"}).encode()
            pieces = b"".join(map(piece, response_events(model)))
            CACHED[key] = STREAM_HEAD + pieces + b"0\r\n\r\n" if stream else whole(200, answer)
        return CACHED[key]

    def embeddings(self, fields: dict[str, Any]) -> None:
        given = fields["input"]
        texts = [given] if isinstance(given, str) else given
        rows = [
            {"object": "embedding", "index": number, "embedding": [float(len(text)), 1.0, 2.0, 2.0]}
            for number, text in enumerate(texts)
        ]
        body = {"object": "list", "data": rows[::-1], "model": "mock", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
        self.transport.write(whole(200, json.dumps(body).encode()))

    def refusal(self, status: int, code: str = "") -> bytes:
        retry = b"retry-after: 30\r\n" if status == 429 else b""
        error = {"message": f"mock says {status}", "type": "mock", "param": None, "code": code or f"m{status}"}
        return whole(status, json.dumps({"error": error}).encode(), retry)

    async def misbehave(self, model: str, stream: bool, usage: bool) -> None:
        write = self.transport.write
        if model.startswith("slow"):
            await asyncio.sleep(float(model.partition("-")[2] or 0.2))
            write(self.answer(model, stream, usage))
        elif model in self.state.broken or (model in self.state.half_broken and self.state.asked[model] % 2):
            write(self.refusal(500))
        elif model in FAULTS:
            await FAULTS[model](self, stream)
        elif model.isdigit():
            status = int(model)
            write(self.refusal(status))
        else:
            write(self.answer(model, stream, usage))


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    b"x-upstream: mock\r\n\r\n"
)


def whole(status: int, body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-upstream: mock\r\n%b\r\n%b" % (
        status,
        len(body),
        more,
        body,
    )


def piece(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


async def hang(side: Upstream, stream: bool) -> None:
    await asyncio.sleep(3600)


async def late(side: Upstream, stream: bool) -> None:
    side.transport.write(STREAM_HEAD)
    await asyncio.sleep(3600)


async def begin(side: Upstream, words: int = 5) -> None:
    side.transport.write(STREAM_HEAD + b"".join(map(piece, stream_events(side.model, usage=False)[: words + 1])))
    await asyncio.sleep(0.02)


async def stall(side: Upstream, stream: bool) -> None:
    await begin(side)
    await asyncio.sleep(3600)


async def cut(side: Upstream, stream: bool) -> None:
    await begin(side)
    side.transport.abort()


async def no_done(side: Upstream, stream: bool) -> None:
    """Ends the HTTP body properly in the middle of the answer."""
    await begin(side)
    side.transport.write(b"0\r\n\r\n")


async def error_event(side: Upstream, stream: bool) -> None:
    await begin(side)
    side.transport.write(piece(b'data: {"error":{"message":"mock ran out of memory","code":500}}\n\n') + b"0\r\n\r\n")


async def reset(side: Upstream, stream: bool) -> None:
    side.transport.abort()


async def garbage(side: Upstream, stream: bool) -> None:
    side.transport.write(whole(200, b"<html>It works!</html>"))


async def short(side: Upstream, stream: bool) -> None:
    side.transport.write(whole(200, completion("short"))[:-40])
    side.transport.close()


async def drip(side: Upstream, stream: bool) -> None:
    side.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
    while True:
        side.transport.write(b" ")
        await asyncio.sleep(0.05)


async def trickle(side: Upstream, stream: bool) -> None:
    """An answer of proper words that never ends."""
    await begin(side)
    while True:
        side.transport.write(piece(chunk("trickle", {"content": " more"})))
        await asyncio.sleep(0.05)


async def no_usage(side: Upstream, stream: bool) -> None:
    if stream:
        side.transport.write(side.answer("no-usage", True, False))
    else:
        side.transport.write(whole(200, completion("no-usage", usage=None)))


async def big(side: Upstream, stream: bool) -> None:
    """50 MB, as a stream or as one answer of 30 MB."""
    if not stream:
        side.transport.write(whole(200, completion("big", "x" * 30_000_000)))
        return
    side.transport.write(STREAM_HEAD)
    event = piece(chunk("big", {"content": "x" * 10_000}))
    for _ in range(5_000):
        await side.writable.wait()
        side.transport.write(event)
    side.transport.write(piece(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def paced(side: Upstream, stream: bool) -> None:
    """First token after 100 ms, then one every 20 ms."""
    side.transport.write(STREAM_HEAD)
    await asyncio.sleep(0.1)
    for event in stream_events("paced", usage=False):
        side.transport.write(piece(event))
        await asyncio.sleep(0.02)
    side.transport.write(b"0\r\n\r\n")


async def secret(side: Upstream, stream: bool) -> None:
    """Tells a secret in the middle of an answer, cut into pieces that hide it."""
    words = ["The", " account", " is", " DE89", " 3704", " 0044", " 0532", " 0130", " 00", " thank", " you."]
    if not stream:
        side.transport.write(whole(200, completion("secret", "".join(words))))
        return
    events = [chunk("secret", {"content": word}) for word in words]
    events += [chunk("secret", {}, "stop"), b"data: [DONE]\n\n"]
    side.transport.write(STREAM_HEAD + b"".join(map(piece, events)) + b"0\r\n\r\n")


async def filtered(side: Upstream, stream: bool) -> None:
    """Answers 200 with nothing in it, because of what the text says."""
    body = json.loads(completion("filtered", ""))
    body["choices"][0]["finish_reason"] = "content_filter"
    side.transport.write(whole(200, json.dumps(body).encode()))


async def filtered_400(side: Upstream, stream: bool) -> None:
    side.transport.write(side.refusal(400, "content_filter"))


async def zero_usage(side: Upstream, stream: bool) -> None:
    """Says that it counted nothing."""
    nothing = {"prompt_tokens": 0, "completion_tokens": None, "total_tokens": 0}
    if not stream:
        side.transport.write(whole(200, completion("zero-usage", usage=nothing)))
        return
    events = stream_events("zero-usage", usage=False)
    last = b"data: " + json.dumps({"id": "chatcmpl-mock", "choices": [], "usage": nothing}).encode() + b"\n\n"
    side.transport.write(STREAM_HEAD + b"".join(map(piece, [*events[:-1], last, events[-1]])) + b"0\r\n\r\n")


async def thoughtful(side: Upstream, stream: bool) -> None:
    """Thinks before it answers."""
    body = json.loads(completion("thoughtful", "Said."))
    body["choices"][0]["message"]["reasoning_content"] = "Thought."
    events = [chunk("thoughtful", {"reasoning_content": "Thought."}), chunk("thoughtful", {"content": "Said."})]
    end = [chunk("thoughtful", {}, "stop"), b"data: [DONE]\n\n"]
    whole_stream = STREAM_HEAD + b"".join(map(piece, events + end)) + b"0\r\n\r\n"
    side.transport.write(whole_stream if stream else whole(200, json.dumps(body).encode()))


async def likely(side: Upstream, stream: bool) -> None:
    """Says how likely its words were."""
    told = {"content": [{"token": "Said.", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
    body = json.loads(completion("likely", "Said."))
    body["choices"][0]["logprobs"] = told
    said = json.loads(chunk("likely", {"content": "Said."}).removeprefix(b"data: "))
    said["choices"][0]["logprobs"] = told
    events = [b"data: " + json.dumps(said).encode() + b"\n\n", chunk("likely", {}, "stop"), b"data: [DONE]\n\n"]
    whole_stream = STREAM_HEAD + b"".join(map(piece, events)) + b"0\r\n\r\n"
    side.transport.write(whole_stream if stream else whole(200, json.dumps(body).encode()))


FAULTS: dict[str, Callable[[Upstream, bool], Any]] = {
    "hang": hang,
    "late": late,
    "stall": stall,
    "cut": cut,
    "no-done": no_done,
    "error-event": error_event,
    "reset": reset,
    "garbage": garbage,
    "short": short,
    "drip": drip,
    "trickle": trickle,
    "no-usage": no_usage,
    "zero-usage": zero_usage,
    "big": big,
    "paced": paced,
    "secret": secret,
    "filtered": filtered,
    "filtered-400": filtered_400,
    "thoughtful": thoughtful,
    "likely": likely,
}


class MockUpstream:
    """The mock in a thread of this process: `with MockUpstream() as mock: … mock.url`. Port 0 takes a free one."""

    def __init__(self, port: int = 0) -> None:
        self._wished_port = port
        self.state = State()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def wait_cancelled(self, model: str, *, within_s: float = 30.0) -> bool:
        """Whether the upstream saw a client of this model leave within that time."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if self.state.cancelled[model]:
                return True
            time.sleep(0.02)
        return False

    def close_connections(self) -> None:
        """Closes every connection, as servers do with idle ones; returns when that is done."""
        closed = threading.Event()

        def close() -> None:
            for connection in list(self._connections):
                if connection.transport is not None:
                    connection.transport.close()
                    self._connections.discard(connection)
            self._loop.call_later(0.02, closed.set)

        self._loop.call_soon_threadsafe(close)
        closed.wait(60)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        connections = self._connections = set[Upstream]()

        def connect() -> Upstream:
            connection = Upstream(self.state)
            connections.add(connection)
            return connection

        server = await self._loop.create_server(connect, "127.0.0.1", self._wished_port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for _ in range(3):  # one that was accepted just now becomes a connection only in the next moment
            for connection in connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0.01)


async def run(port: int) -> None:
    state = State()
    state.keep = False
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(state), "127.0.0.1", port, reuse_port=False)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    uvloop.run(run(parser.parse_args().port))
