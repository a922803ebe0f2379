"""Completions, moderations, reranking, pictures and sound: passed on byte for byte, with limits, rails and traces."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import openai
import pytest

from slipway.access.keys import create_key
from slipway.domain.access import Limits
from slipway.gateway.operating import OPERATED
from slipway.guard.parts import guardrails_from_settings
from slipway.release.channels import promote
from slipway.workspace import open_workspace

SOUND = bytes(range(256)) * 1200
IBAN = "DE89 3704 0044 0532 0130 00"
KEY = "sk-proj-Q2hlY2sgdGhpcyBrZXkgb3V0IG5vdyBwbGVhc2Uhmm4"
WORDS = ["One", " two", " three."]
PRICED = "[prices.all]\ninput = 1000.0\noutput = 1000.0\n"


def asked_of(body: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a request, of a form those that are no files."""
    if content_type.startswith("application/json"):
        return json.loads(body)
    found = re.findall(rb'name="([^"]+)"\r\n\r\n(.*?)\r\n--', body, re.DOTALL)
    return {name.decode(): value.decode() for name, value in found}


class Engine(BaseHTTPRequestHandler):
    """Answers every call of the OpenAI API as its makers write it; a model named `secret` tells an IBAN."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        asked = asked_of(body, self.headers["content-type"])
        self.server.seen.append((self.path, self.headers, body))
        model = asked["model"]
        if model == "500":
            self.whole({"error": {"message": "out of memory", "type": "server_error"}}, status=500)
            return
        text = f"My IBAN is {IBAN}." if model == "secret" else "".join(WORDS)
        getattr(self, self.path.removeprefix("/v1/").replace("/", "_"))(asked, model, text)

    def whole(self, answer: Any, *, status: int = 200, content_type: str = "application/json") -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pieces(self, pieces: list[bytes], *, content_type: str = "text/event-stream", cut: bool = False) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.flush()
            if len(piece) > 600:
                time.sleep(0.05)  # so that what follows comes by itself
        if cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def events(self, events: list[Any], *, done: bool = False) -> None:
        written = [b"data: %b\n\n" % json.dumps(event).encode() for event in events]
        self.pieces([*written, *([b"data: [DONE]\n\n"] if done else [])])

    def completions(self, asked: dict[str, Any], model: str, text: str) -> None:
        prompts = asked["prompt"] if isinstance(asked["prompt"], list) else [asked["prompt"]]
        count = (1 if isinstance(prompts[0], int) else len(prompts)) * asked.get("n", 1)
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": f"{model}-1"}
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        if not asked.get("stream"):
            echo = prompts[0] if asked.get("echo") else ""
            choices = [
                {"text": echo + text, "index": index, "logprobs": None, "finish_reason": "length"}
                for index in range(count)
            ]
            self.whole({**head, "choices": choices, "usage": usage})
            return
        words = [text[:5], text[5:20], text[20:]] if model == "secret" else WORDS
        if asked.get("suffix") == "late":
            words = ["Some words. " * 50, *words]
        chunks = [
            {**head, "choices": [{"text": word, "index": index, "logprobs": None, "finish_reason": None}]}
            for word in words
            for index in range(count)
        ]
        last = [
            {**head, "choices": [{"text": "", "index": index, "logprobs": None, "finish_reason": "stop"}]}
            for index in range(count)
        ]
        told = [{**head, "choices": [], "usage": usage}] if asked.get("stream_options") else []
        self.events([*chunks, *last, *told], done=True)

    def moderations(self, asked: dict[str, Any], model: str, text: str) -> None:
        result = {"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.9}}
        self.whole({"id": "modr-1", "model": model, "results": [result]})

    def fim_completions(self, asked: dict[str, Any], model: str, text: str) -> None:
        head = {"id": "fim-1", "object": "chat.completion", "created": 1, "model": f"{model}-1"}
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": text, "tool_calls": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.whole({**head, "choices": [choice], "usage": usage})
            return
        words = [text[:5], text[5:20], text[20:]] if model == "secret" else WORDS
        chunks = [
            {**head, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in words
        ]
        last = {**head, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}], "usage": usage}
        self.events([*chunks, last], done=True)

    def rerank(self, asked: dict[str, Any], model: str, text: str) -> None:
        if "texts" in asked:  # as text-embeddings-inference has it
            self.whole([{"index": 0, "score": 0.9, "text": text}, {"index": 1, "score": 0.1}])
            return
        results = [
            {"index": index, "relevance_score": 1.0 - index / 10, "document": {"text": document}}
            for index, document in enumerate(asked["documents"])
        ]
        self.whole({"id": "rr-1", "model": model, "results": results, "usage": {"total_tokens": 9}})

    def score(self, asked: dict[str, Any], model: str, text: str) -> None:
        data = [{"index": 0, "object": "score", "score": 0.7}]
        self.whole({"id": "s-1", "object": "list", "model": model, "data": data, "usage": {"prompt_tokens": 4}})

    def images_generations(self, asked: dict[str, Any], model: str, text: str) -> None:
        usage = {"input_tokens": 6, "output_tokens": 100, "total_tokens": 106}
        if asked.get("stream"):
            self.events(
                [
                    {"type": "image_generation.partial_image", "b64_json": "QUJD", "partial_image_index": 0},
                    {"type": "image_generation.completed", "b64_json": "QUJD" * 1000, "usage": usage},
                ]
            )
            return
        picture = {"b64_json": "QUJD" * 1000, "revised_prompt": text}
        self.whole({"created": 1, "data": [picture], "usage": usage})

    def images_edits(self, asked: dict[str, Any], model: str, text: str) -> None:
        self.whole({"created": 1, "data": [{"b64_json": "QUJD"}]})

    images_variations = images_edits

    def audio_speech(self, asked: dict[str, Any], model: str, text: str) -> None:
        pieces = [SOUND[at : at + 50_000] for at in range(0, len(SOUND), 50_000)]
        if asked.get("stream_format") == "sse":
            usage = {"input_tokens": 3, "output_tokens": 30, "total_tokens": 33}
            self.events(
                [{"type": "speech.audio.delta", "audio": "QUJD"}, {"type": "speech.audio.done", "usage": usage}]
            )
            return
        self.pieces(pieces[:2] if model == "cut" else pieces, content_type="audio/mpeg", cut=model == "cut")

    def audio_transcriptions(self, asked: dict[str, Any], model: str, text: str) -> None:
        usage = {"type": "tokens", "input_tokens": 10, "output_tokens": 4, "total_tokens": 14}
        if asked.get("stream") == "true":
            self.events(
                [
                    {"type": "transcript.text.delta", "delta": text},
                    {"type": "transcript.text.done", "text": text, "usage": usage},
                ]
            )
        elif asked.get("response_format") in ("text", "srt"):
            self.whole(text.encode(), content_type="text/plain; charset=utf-8")
        else:
            self.whole({"text": text, "usage": usage})

    audio_translations = audio_transcriptions


@contextmanager
def an_engine() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    server.daemon_threads = True
    server.seen = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    with an_engine() as server:
        yield server


@pytest.fixture(scope="module")
def passing(tmp_path_factory, engine, mock, tools):
    """Channels `plain`, `redacting`, `blocking` (each also with `-leaky`, whose engine tells an IBAN), `lamps`, and
    `foreign` on an engine of another API."""
    url = f"http://127.0.0.1:{engine.server_address[1]}/v1"
    more = f"""
{PRICED}
[engines.all]
kind = "openai"
base_url = "{url}"
connect_s = 5
first_byte_s = 5
idle_s = 5
total_s = 20
[routing.fallback.dead]
to = ["all/stand-in"]
"""
    folder = tools.make_application(tmp_path_factory.mktemp("passing") / "lamps", mock.url, more)
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, engine="all"), "plain", force=True)
        promote(workspace, tools.plain_release(workspace, engine="script"), "foreign", force=True)
        promote(workspace, tools.documents_release(workspace), force=True)
        for name, guard in tools.RAILS.items():
            rails = guardrails_from_settings(tools.with_guard(workspace, guard).settings)
            for channel, model in ((name, "ok"), (f"{name}-leaky", "secret")):
                release = tools.plain_release(workspace, engine="all", model=model, guardrails=rails)
                promote(workspace, release, channel, force=True)
        with tools.serving(workspace) as served:
            yield served


def last_seen(engine) -> tuple[dict[str, Any], Any]:
    _, headers, body = engine.seen[-1]
    return asked_of(body, headers["content-type"]), headers


def span_of(served, answer):
    return served.trace(answer.headers["x-slipway-trace"])[0]


# Byte for byte -------------------------------------------------------------------------------------------------------

PROMPTS = {
    "one text": "Once",
    "several texts": ["Once", "Twice"],
    "token ids": [1, 2, 3],
    "lists of token ids": [[1, 2], [3]],
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_completion_comes_through_byte_for_byte(passing, engine, prompt, stream):
    asked = {"prompt": prompt, "suffix": "end", "n": 2, "logprobs": 3, "stream": stream, "best_of": 2, "x": [1.50]}
    through = passing.post("/v1/completions", {"model": "plain", **asked})
    sent, headers = last_seen(engine)
    assert sent == {"model": "ok", **asked}
    assert headers["traceparent"]
    url = f"http://127.0.0.1:{engine.server_address[1]}/v1/completions"
    direct = httpx.post(url, json={"model": "ok", **asked})
    assert (through.status_code, through.content) == (200, direct.content)
    assert through.headers["content-type"].startswith(direct.headers["content-type"])
    span = span_of(passing, through)
    assert (span.kind, span.status, span.channel) == ("chat", "ok", "plain")
    assert span.content["reply"] == "One two three."
    asked_texts = [message["text"] for message in span.content["messages"]]
    assert asked_texts[-1] == "end"
    assert asked_texts[0] in ("Once", "[3 tokens]")
    if not stream:
        assert (span.input_tokens, span.output_tokens, span.cost_micros) == (5, 7, 12_000)


def test_the_client_completes_texts(passing):
    client = passing.client
    whole = client.completions.create(model="plain", prompt="Once", echo=True, max_tokens=5)
    assert whole.choices[0].text == "OnceOne two three."
    assert whole.usage.total_tokens == 12
    stream = client.completions.create(
        model="plain", prompt="Once", stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "One two three."
    assert chunks[-1].usage.completion_tokens == 7


def test_the_client_moderates(passing):
    raw = passing.client.moderations.with_raw_response.create(model="plain", input=["I want to hit it", "hello"])
    assert raw.parse().results[0].categories.violence
    span = span_of(passing, raw)
    assert span.name == "moderations ok"
    assert [message["text"] for message in span.content["messages"]] == ["I want to hit it", "hello"]
    assert json.loads(span.content["reply"])["results"][0]["flagged"] is True
    assert span.cost_micros == 0


def test_documents_are_reranked_and_scored(passing):
    asked = {"model": "plain", "query": "lamps?", "documents": ["about lamps", "about tea"], "top_n": 2}
    answer = passing.post("/v1/rerank", asked)
    assert answer.json()["results"][1]["document"]["text"] == "about tea"
    span = span_of(passing, answer)
    assert (span.kind, span.input_tokens, span.cost_micros) == ("rerank", 9, 9_000)
    assert [message["text"] for message in span.content["messages"]] == ["lamps?", "about lamps", "about tea"]
    scored = passing.post("/v1/score", {"model": "plain", "text_1": "lamps", "text_2": ["tea"]})
    assert scored.json()["data"][0]["score"] == 0.7
    assert span_of(passing, scored).input_tokens == 4


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank", "/openai/deployments/plain/rerank"])
def test_documents_are_reranked_wherever_others_have_it(passing, engine, path):
    named = {} if "plain" in path else {"model": "plain"}
    answer = passing.post(path, {**named, "query": "lamps?", "documents": ["about lamps", {"text": "about tea"}]})
    assert [result["index"] for result in answer.json()["results"]] == [0, 1]
    assert engine.seen[-1][0] == "/v1/rerank"
    assert last_seen(engine)[0]["model"] == "ok"
    span = span_of(passing, answer)
    assert [message["text"] for message in span.content["messages"]] == ["lamps?", "about lamps", "about tea"]


def test_texts_are_reranked_as_text_embeddings_inference_has_it(passing):
    asked = {"query": "lamps?", "texts": ["about lamps", f"IBAN {IBAN}"], "return_text": True}
    answer = passing.post("/openai/deployments/plain/rerank", asked)
    assert [result["score"] for result in answer.json()] == [0.9, 0.1]
    assert [message["text"] for message in span_of(passing, answer).content["messages"]] == ["lamps?", *asked["texts"]]
    leaky = passing.post("/openai/deployments/redacting-leaky/rerank", asked | {"query": KEY})
    assert IBAN not in leaky.text
    assert KEY not in json.dumps(span_of(passing, leaky).content)
    assert passing.post("/openai/deployments/blocking-leaky/rerank", asked).status_code == 400
    nameless = passing.post("/rerank", asked)
    assert (nameless.status_code, nameless.json()["error"]["param"]) == (400, "model")


def test_code_is_filled_in_as_mistral_has_it(passing):
    asked = {"prompt": "def add(a, b):", "suffix": "return total"}
    for stream in (False, True):
        through = passing.post("/v1/fim/completions", {"model": "plain", **asked, "stream": stream})
        assert "One" in through.text
        span = span_of(passing, through)
        assert (span.kind, span.input_tokens, span.output_tokens) == ("chat", 5, 7)
        assert span.content["reply"] == "One two three."
        assert [message["text"] for message in span.content["messages"]] == list(asked.values())
        leaky = passing.post("/v1/fim/completions", {"model": "redacting-leaky", **asked, "stream": stream})
        assert leaky.status_code == 200
        assert "0532 0130" not in leaky.text
        blocked = passing.post("/v1/fim/completions", {"model": "blocking-leaky", **asked, "stream": stream})
        assert (blocked.status_code, blocked.json()["error"]["code"]) == (400, "content_filter")


def test_the_client_makes_pictures(passing):
    raw = passing.client.images.with_raw_response.generate(model="plain", prompt="A lamp", n=1)
    assert raw.parse().data[0].revised_prompt == "One two three."
    span = span_of(passing, raw)
    assert (span.input_tokens, span.output_tokens) == (6, 100)
    assert "QUJDQUJD" not in json.dumps(span.content)
    events = list(passing.client.images.generate(model="plain", prompt="A lamp", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert events[-1].usage.total_tokens == 106
    edited = passing.client.images.edit(model="plain", image=("a.png", b"\x89PNG", "image/png"), prompt="Brighter")
    assert edited.data[0].b64_json == "QUJD"
    picture = {"image": ("a.png", b"\x89PNG", "image/png")}
    varied = httpx.post(f"{passing.url}/v1/images/variations", data={"model": "plain", "n": "2"}, files=picture)
    assert varied.json()["data"][0]["b64_json"] == "QUJD"
    assert span_of(passing, varied).content["files"][0]["field"] == "image"


def test_the_client_hears_a_text_read_out(passing):
    asked = {"model": "plain", "voice": "alloy", "input": "Good evening."}
    with passing.client.audio.speech.with_streaming_response.create(**asked) as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        assert b"".join(answer.iter_bytes()) == SOUND
        span = span_of(passing, answer)
    assert span.name == "audio/speech ok"
    assert span.content["answered"] == {"type": "audio/mpeg", "bytes": len(SOUND)}
    assert span.content["messages"][0]["text"] == "Good evening."
    events = passing.post("/v1/audio/speech", {**asked, "stream_format": "sse"})
    assert events.headers["content-type"] == "text/event-stream"
    assert span_of(passing, events).output_tokens == 30


def test_the_client_has_a_recording_written_down(passing, engine):
    recording = ("talk.mp3", SOUND, "audio/mpeg")
    raw = passing.client.audio.transcriptions.with_raw_response.create(
        model="plain", file=recording, prompt="lamps", language="en", temperature=0.2
    )
    assert raw.parse().text == "One two three."
    path, headers, body = engine.seen[-1]
    assert path == "/v1/audio/transcriptions"
    assert SOUND in body
    assert asked_of(body, headers["content-type"]) | {"model": "ok", "prompt": "lamps"} == asked_of(
        body, headers["content-type"]
    )
    span = span_of(passing, raw)
    assert (span.input_tokens, span.output_tokens, span.cost_micros) == (10, 4, 14_000)
    assert span.content["files"] == [{"field": "file", "type": "audio/mpeg", "bytes": len(SOUND)}]
    assert span.content["reply"] == "One two three."
    text = passing.client.audio.transcriptions.create(model="plain", file=recording, response_format="text")
    assert text == "One two three."
    events = list(passing.client.audio.transcriptions.create(model="plain", file=recording, stream=True))
    assert events[-1].text == "One two three."
    url = f"{passing.url}/v1/audio/translations"
    assert httpx.post(url, data={"model": "plain"}, files={"file": recording}).json()["text"] == "One two three."


def test_a_form_differs_in_the_name_of_the_model_only(passing, engine):
    boundary = b"--x\"'y"
    form = (
        b'--%b\r\nContent-Type: text/plain\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n'
        b' \r\n--\r\n \r\n--%b  \r\nContent-Disposition: form-data; filename="a b.mp3"; name=file\r\n\r\n\r\n--%b\r\n'
        b'Content-Disposition: form-data; name="model"\r\n\r\nplain\r\n--%b--\r\nmore'
    ).replace(b"%b", boundary.replace(b'"', b""))
    content_type = "multipart/form-data; charset=utf-8; boundary=" + boundary.replace(b'"', b"").decode()
    answer = passing.post("/v1/audio/transcriptions", form, headers={"content-type": content_type})
    assert answer.status_code == 200, answer.text
    _, headers, body = engine.seen[-1]
    assert body == form.replace(b"\r\n\r\nplain\r\n", b"\r\n\r\nok\r\n")
    assert headers["content-type"] == content_type


# What is wrong -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path, one in OPERATED.items() if not one.form])
def test_a_release_with_its_own_prompt_says_what_to_call_instead(passing, path):
    for model, why in (("lamps", "its own prompt"), ("foreign", "does not speak the OpenAI API")):
        answer = passing.post(path, {"model": model, "prompt": "x", "input": "x"})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, "model")
        assert why in error["message"]
        assert "/v1/chat/completions" in error["message"]


FORMS = {
    "JSON": (b"{}", "application/json", "multipart/form-data"),
    "no boundary": (b"", "multipart/form-data", "multipart/form-data"),
    "another boundary": (b"--a\r\n", "multipart/form-data; boundary=b", "does not begin"),
    "no end": (b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nplain', "", "no end"),
    "no model": (b"--b--", "", "'model' is missing"),
    "twice": (b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nplain\r\n' * 2 + b"--b--", "", "twice"),
    "no name": (b"--b\r\ncontent-disposition: form-data\r\n\r\nplain\r\n--b--", "", "no name"),
    "packed": (
        b'--b\r\ncontent-disposition: form-data; name="prompt"\r\ncontent-transfer-encoding: base64\r\n\r\n'
        b"eA==\r\n--b--",
        "",
        "encoded",
    ),
    "another charset": (
        b'--b\r\ncontent-disposition: form-data; name="prompt"\r\ncontent-type: text/plain; charset=utf-16\r\n\r\n'
        b"x\r\n--b--",
        "",
        "encoded",
    ),
    "no UTF-8": (b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--b--', "", "UTF-8"),
    "a wrong stream": (
        b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nplain\r\n'
        b'--b\r\ncontent-disposition: form-data; name="stream"\r\n\r\nperhaps\r\n--b--',
        "",
        "'stream' is wrong",
    ),
}


@pytest.mark.parametrize(("body", "content_type", "reason"), FORMS.values(), ids=FORMS)
def test_what_is_wrong_with_a_form_is_told(passing, body, content_type, reason):
    headers = {"content-type": content_type or "multipart/form-data; boundary=b"}
    answer = passing.post("/v1/audio/transcriptions", body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert reason in answer.json()["error"]["message"]


def test_errors_of_the_engine_and_stand_ins(passing, engine):
    answer = passing.post("/v1/completions", {"model": "all/500", "prompt": "x"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "out of memory")
    assert span_of(passing, answer).status == "error"
    files = {"file": ("a.mp3", b"abc", "audio/mpeg")}
    for path, how in (
        ("/v1/completions", {"json": {"model": "dead/x", "prompt": "x"}}),
        ("/v1/audio/speech", {"json": {"model": "dead/x", "input": "x"}}),
        ("/v1/audio/transcriptions", {"data": {"model": "dead/x"}, "files": files}),
    ):
        instead = httpx.post(f"{passing.url}{path}", **how)
        assert (instead.status_code, instead.headers["x-slipway-fallback"]) == (200, "all/stand-in")
        assert last_seen(engine)[0]["model"] == "stand-in"


def test_sound_that_breaks_off_is_not_taken_for_a_whole(passing):
    broken = []
    with (
        suppress(httpx.RemoteProtocolError),
        httpx.stream("POST", f"{passing.url}/v1/audio/speech", json={"model": "all/cut", "input": "x"}) as answer,
    ):
        trace = answer.headers["x-slipway-trace"]
        broken = [*answer.iter_raw()]
        pytest.fail(f"{sum(map(len, broken))} bytes came as a whole answer")
    (span,) = passing.trace(trace)
    assert span.status == "error"
    assert "in the middle" in span.error


def test_an_unknown_path_lists_what_there_is(passing):
    answer = passing.post("/v1/assistants", {})
    assert answer.status_code == 404
    assert all(path in answer.json()["error"]["message"] for path in OPERATED)
    assert httpx.get(f"{passing.url}/v1/moderations").status_code == 405


# Guardrails ----------------------------------------------------------------------------------------------------------

LONG = "x" * 600
BLOCKED = {
    "a prompt": ("/v1/completions", {"prompt": LONG}),
    "one of several prompts": ("/v1/completions", {"prompt": ["short", LONG]}),
    "a suffix": ("/v1/completions", {"prompt": "x", "suffix": LONG}),
    "what is moderated": ("/v1/moderations", {"input": [{"type": "text", "text": LONG}]}),
    "a query": ("/v1/rerank", {"query": LONG, "documents": ["x"]}),
    "a document": ("/v1/rerank", {"query": "x", "documents": ["x", {"title": LONG}]}),
    "a text to compare": ("/v1/score", {"text_1": "x", "text_2": ["x", LONG]}),
    "a picture": ("/v1/images/generations", {"prompt": LONG}),
    "a speech": ("/v1/audio/speech", {"input": LONG}),
    "how to speak": ("/v1/audio/speech", {"input": "x", "instructions": LONG}),
    "what the rails on answers read of a speech": ("/v1/audio/speech", {"input": f"it is {IBAN}"}),
    "a text to embed": ("/v1/embeddings", {"input": ["x", LONG]}),
}


@pytest.mark.parametrize(("path", "asked"), BLOCKED.values(), ids=BLOCKED)
def test_no_text_reaches_the_engine_unread(passing, engine, path, asked):
    before = len(engine.seen)
    answer = passing.post(path, {"model": "blocking", **asked})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "content_filter")
    assert len(engine.seen) == before
    assert span_of(passing, answer).status == "blocked"


UNREADABLE = {
    "token ids": ("/v1/completions", {"prompt": [1, 2, 3]}, "prompt"),
    "lists of token ids": ("/v1/completions", {"prompt": [[1, 2], [3]]}, "prompt"),
    "embeddings of a prompt": ("/v1/completions", {"prompt": "x", "prompt_embeds": "AAAA"}, "prompt_embeds"),
    "tokens one by one": ("/v1/completions", {"prompt": "x", "logprobs": 0}, "logprobs"),
    "ids of tokens in the answer": ("/v1/completions", {"prompt": "x", "return_token_ids": True}, "return_token_ids"),
    "token ids to embed": ("/v1/embeddings", {"input": [[1, 2]]}, "input"),
    "pictures in pieces": ("/v1/images/generations", {"prompt": "x", "stream": True}, "stream"),
}


@pytest.mark.parametrize(("path", "asked", "param"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_rails_cannot_read_is_refused_by_name(passing, engine, path, asked, param):
    before = len(engine.seen)
    answer = passing.post(path, {"model": "blocking", **asked})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert "guardrails of lamps@" in error["message"]
    assert len(engine.seen) == before


@pytest.mark.parametrize("more", [{"response_format": "srt"}, {"response_format": "verbose_json"}, {"stream": "true"}])
def test_a_transcript_in_a_form_that_rails_cannot_read_is_refused(passing, more):
    files = {"file": ("a.mp3", b"abc", "audio/mpeg")}
    answer = httpx.post(f"{passing.url}/v1/audio/transcriptions", data={"model": "redacting", **more}, files=files)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(more)))


def test_what_rails_take_out_of_a_request_stays_here(passing, engine):
    said = f"my key is {KEY}"
    for path, asked in (
        ("/v1/completions", {"prompt": [said, "x"], "suffix": said}),
        ("/v1/moderations", {"input": said}),
        ("/v1/rerank", {"query": "x", "documents": [{"text": said}]}),
        ("/v1/audio/speech", {"input": said}),
        ("/v1/embeddings", {"input": said}),
    ):
        with suppress(httpx.HTTPError):
            passing.post(path, {"model": "redacting", **asked})
        assert engine.seen[-1][0] == path
        assert KEY.encode() not in engine.seen[-1][2]
    files = {"file": ("a.mp3", SOUND, "audio/mpeg")}
    answer = httpx.post(
        f"{passing.url}/v1/audio/transcriptions", data={"prompt": said, "model": "redacting"}, files=files
    )
    assert answer.status_code == 200
    sent, _ = last_seen(engine)
    assert sent["prompt"].startswith("my key is [")
    assert SOUND in engine.seen[-1][2]
    span = span_of(passing, answer)
    assert KEY not in json.dumps(span.content)
    assert span.verdicts["secrets"] == "redact"


def test_what_rails_take_out_of_an_answer_stays_here(passing):
    client, files = passing.client, {"file": ("a.mp3", b"abc", "audio/mpeg")}
    said = client.completions.create(model="redacting-leaky", prompt="x").choices[0].text
    assert said == "My IBAN is [IBAN]."
    stream = client.completions.create(model="redacting-leaky", prompt=["x", "y"], stream=True, n=1)
    texts = ["", ""]
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [said, said]
    picture = client.images.generate(model="redacting-leaky", prompt="x")
    assert picture.data[0].revised_prompt == said
    for form in ("json", "text"):
        raw = client.audio.transcriptions.with_raw_response.create(
            model="redacting-leaky", response_format=form, **files
        )
        assert said in raw.text
        span = span_of(passing, raw)
        assert IBAN not in json.dumps(span.content)
        assert span.verdicts["personal_data"] == "redact"


def test_an_answer_that_a_rail_stops(passing):
    with pytest.raises(openai.BadRequestError) as blocked:
        passing.client.completions.create(model="blocking-leaky", prompt="x")
    assert blocked.value.code == "content_filter"
    with pytest.raises(openai.BadRequestError):
        passing.client.completions.create(model="blocking-leaky", prompt="x", stream=True)
    chunks = [*passing.client.completions.create(model="blocking-leaky", prompt="x", suffix="late", stream=True)]
    assert len(chunks) > 1
    assert "IBAN is" not in "".join(chunk.choices[0].text for chunk in chunks)
    last = chunks[-1]
    assert (last.object, last.choices[0].finish_reason) == ("text_completion", "content_filter")
    assert last.model_extra["slipway"]["blocked"] == "personal_data"


# Keys, limits, budgets -----------------------------------------------------------------------------------------------


def test_keys_limits_and_budgets_hold(tmp_path, engine, mock, tools):
    more = f'{PRICED}\n[engines.all]\nkind = "openai"\nbase_url = "http://127.0.0.1:{engine.server_address[1]}/v1"\n'
    folder = tools.make_application(tmp_path / "lamps", mock.url, more)
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace, engine="all"), "plain", force=True)
        store = workspace.store
        rated = create_key(store, "rated", limits=Limits(requests_per_minute=2))[1]
        poor = create_key(store, "poor", limits=Limits(monthly_budget_micros=100_000))[1]
        elsewhere = create_key(store, "elsewhere", models=["other"])[1]
        tracing = create_key(store, "tracing", scopes=["traces"])[1]
        with tools.serving(workspace, keys_required=True) as served:

            def ask(path: str, key: str, **asked: Any) -> httpx.Response:
                return served.post(path, {"model": "plain", **asked}, headers={"authorization": f"Bearer {key}"})

            assert served.post("/v1/moderations", {"model": "plain", "input": "x"}).status_code == 401
            assert ask("/v1/moderations", tracing, input="x").status_code == 403
            for path in ("/v1/moderations", "/v1/responses/input_tokens"):
                assert ask(path, elsewhere, input="x").json()["error"]["code"] == "model_not_allowed"
            statuses = [ask("/v1/audio/speech", rated, input="x").status_code for _ in range(3)]
            assert statuses == [200, 200, 429]
            # A cent is ten tokens here: the prompts count each, and so does every answer that is made.
            assert ask("/v1/completions", poor, prompt="x", max_tokens=90).status_code == 429
            assert ask("/v1/completions", poor, prompt=["x"] * 9, max_tokens=10).status_code == 429
            assert ask("/v1/completions", poor, prompt="x", max_tokens=10, best_of=9).status_code == 429
            assert ask("/v1/completions", poor, prompt="x", max_tokens=10).status_code == 200
            assert ask("/v1/completions", poor, prompt="x", max_tokens=10, stream=True).status_code == 200
            assert ask("/v1/rerank", poor, query="x", documents=["y"]).status_code == 200
