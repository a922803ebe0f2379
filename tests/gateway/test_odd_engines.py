"""Engines that answer anything at all: never a 500, never a stream without an end, and the gateway goes on."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from slipway.domain.guardrail import Guardrails, RailSpec
from slipway.release.channels import promote
from slipway.workspace import open_workspace

HUGE = 10**30
MESSAGE = {"role": "assistant", "content": "Hello"}
WHOLE: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
}
ODD = [7, "x", [7], {"a": 1}, HUGE, -1, None, True]


def with_message(**more: Any) -> dict[str, Any]:
    return WHOLE | {"choices": [{"index": 0, "message": MESSAGE | more, "finish_reason": "stop"}]}


BODIES = [
    *(WHOLE | {"choices": odd} for odd in ODD),
    *(WHOLE | {"choices": [odd]} for odd in ODD),
    *(WHOLE | {"usage": odd} for odd in ODD),
    *(WHOLE | {"usage": {"prompt_tokens": odd, "completion_tokens": odd}} for odd in ODD),
    *(with_message(content=odd) for odd in ODD),
    *(with_message(tool_calls=odd) for odd in ODD),
    *ODD,
]


def chunk(**delta: Any) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


END = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
CHUNKS = [
    *({"choices": odd} for odd in ODD),
    *({"choices": [odd]} for odd in ODD),
    *({"choices": [{"index": odd, "delta": odd}]} for odd in ODD),
    *(chunk(content=odd) for odd in ODD),
    *(chunk(reasoning_content=odd) for odd in ODD),
    *(chunk(tool_calls=odd) for odd in ODD),
    *(chunk(tool_calls=[{"index": odd, "id": odd, "function": odd}]) for odd in ODD),
    *({"choices": [], "usage": {"prompt_tokens": odd}} for odd in ODD),
    *({"error": odd, "choices": []} for odd in ODD),
    *ODD,
]


class Odd(BaseHTTPRequestHandler):
    """Answers with the body of the number that the model is called by."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number, kind = int(asked["model"]), "application/json"
        body = json.dumps(BODIES[number % len(BODIES)]).encode()
        if asked.get("stream"):
            kind, events = "text/event-stream", [chunk(content="Hello "), CHUNKS[number % len(CHUNKS)], END]
            body = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def odd(tmp_path_factory, tools):
    """A gateway before an engine that answers oddly; `guarded-N` checks what model N says."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    more = "[routing]\nbreaker_failures = 1000000\nretry_share = 0.0\n"
    folder = tools.make_application(
        tmp_path_factory.mktemp("odd") / "lamps", f"http://127.0.0.1:{server.server_port}/v1", more
    )
    rails = Guardrails(after=(RailSpec(name="personal_data", action="redact"),))
    with open_workspace(folder) as workspace:
        for number in (0, 10, 20, 30, 40, 50):
            guarded = tools.plain_release(workspace, model=str(number), guardrails=rails)
            promote(workspace, guarded, f"guarded-{number}", force=True)
        with tools.serving(workspace) as served:
            yield served
    server.shutdown()
    server.server_close()


def ask(served: Any, client: httpx.Client, path: str, model: str, *, stream: bool) -> httpx.Response:
    body: dict[str, Any] = {"model": model, "stream": stream}
    if path == "responses":
        body["input"] = "hi"
    else:
        body |= {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    return client.post(f"{served.url}/v1/{path}", json=body)


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_a_whole_answer_of_any_shape_is_no_error_of_ours(odd, path):
    models = [f"fast/{number}" for number in range(len(BODIES))]
    with httpx.Client(timeout=60) as client:
        for model in [*models, *(f"guarded-{number}" for number in (0, 10, 20, 30, 40, 50))]:
            answer = ask(odd, client, path, model, stream=False)
            assert answer.status_code in (200, 502), (model, answer.text)
            assert "internal_error" not in answer.text, model
            answer.json()


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_a_stream_of_any_shape_has_an_end_or_an_error(odd, path):
    ends = {
        "chat/completions": ("[DONE]", '"error"'),
        "messages": ("message_stop", "event: error"),
        "responses": ("response.completed", "response.failed"),
    }[path]
    models = [f"fast/{number}" for number in range(len(CHUNKS))]
    with httpx.Client(timeout=60) as client:
        for model in [*models, *(f"guarded-{number}" for number in (0, 10, 20, 30, 40, 50))]:
            answer = ask(odd, client, path, model, stream=True)
            # Guardrails may see before the first byte that it cannot be told.
            assert answer.status_code == 200 or (answer.status_code == 502 and "guarded" in model), model
            assert any(end in answer.text for end in (*ends, '"error"')), (model, answer.text)
            assert "internal_error" not in answer.text, model


def test_tokens_beyond_every_model_or_below_zero_are_estimated_instead(odd):
    first = len(ODD) * 3
    for number, tokens in enumerate(ODD, start=first):
        answer = odd.chat(f"fast/{number}")
        assert answer.status_code == 200
        (span,) = odd.trace(answer.headers["x-slipway-trace"])
        assert span.usage_estimated is (tokens != 7), tokens
        assert 0 <= span.input_tokens < 100


def test_after_all_that_counts_are_written_and_settings_read(odd, until):
    seen = odd.gateway._watcher.fresh_at
    assert until(lambda: odd.gateway._watcher.fresh_at > seen)
    assert httpx.get(f"{odd.url}/readyz").json()["ready"]
    assert "slipway_requests_total" in httpx.get(f"{odd.url}/metrics").text


def test_what_fails_once_in_the_thread_that_reads_settings_does_not_end_it(odd, until, monkeypatch):
    watcher = odd.gateway._watcher

    def fails() -> None:
        raise RuntimeError("something nobody thought of")

    with monkeypatch.context() as patched:
        patched.setattr(watcher, "_also", fails)
        assert until(lambda: "nobody thought of" in watcher.problem)
    seen = watcher.fresh_at
    assert until(lambda: watcher.fresh_at > seen)
    assert until(lambda: watcher.problem == "")


def test_a_trace_that_cannot_be_written_costs_no_answer(odd, monkeypatch):
    counts = odd.gateway._counts
    before = counts.traces_lost

    def fails(_: bytes) -> None:
        raise RuntimeError("something nobody thought of")

    number = len(ODD) * 2 + ODD.index(None)
    with monkeypatch.context() as patched:
        patched.setattr(odd.gateway._services.ledger._journal, "append", fails)
        assert odd.chat(f"fast/{number}").status_code == 200
    assert counts.traces_lost == before + 1
