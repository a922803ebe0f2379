"""An upstream that speaks the APIs of Anthropic, Gemini, Bedrock and OpenAI's Responses, and insists on their rules.

It repeats what the user said last, word by word in a stream; asked about the weather with a tool at hand, it calls the
tool. The model `overloaded` is refused with 529, `cut` breaks off in the middle of a stream. Tests load it into their
process.
"""

from __future__ import annotations

import itertools
import json
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote

CALL = {"city": "Paris"}
ASKED, CACHED = 7, 3
COUNTED = 42
"""What Anthropic's side says that any request has of tokens."""
THOUGHTS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "The user wants something.", "signature": "c2lnbmVk"},
    {"type": "redacted_thinking", "data": "c2VhbGVk"},
]
"""What Anthropic's models whose name begins with `thinks` think first."""


class Refused(Exception):
    """What the real API would say to a request that breaks its rules."""


def need(met: bool, why: str) -> None:
    if not met:
        raise Refused(why)


def words(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def sse(kind: str, event: dict[str, Any], *, named: bool = True) -> bytes:
    name = f"event: {kind}\n" if named else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def frame(kind: str, payload: dict[str, Any]) -> bytes:
    """One frame of Amazon's event stream."""
    headers = b""
    for name, value in ((":message-type", "event"), (":event-type", kind)):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    lengths = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    whole = lengths + struct.pack(">I", zlib.crc32(lengths)) + headers + body
    return whole + struct.pack(">I", zlib.crc32(whole))


class AnthropicSide:
    """POST …/messages."""

    stream_type = "text/event-stream"

    def read(self, path: str, headers: Any, body: dict[str, Any]) -> tuple[str, bool, str, bool]:
        need(headers.get("x-api-key") == "key", "x-api-key is wrong")
        need(bool(headers.get("anthropic-version")), "anthropic-version is missing")
        need(isinstance(body.get("max_tokens"), int), "max_tokens: field required")
        turns = body["messages"]
        if body.get("thinking"):
            for turn in turns:
                blocks = turn["content"] if isinstance(turn["content"], list) else []
                called = any(block["type"] == "tool_use" for block in blocks)
                need(not called or blocks[:2] == THOUGHTS, "thinking blocks must be sent again as they were")
        need(all(turn["role"] in ("user", "assistant") for turn in turns), "roles are user and assistant")
        content = turns[-1]["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        last = [block for block in blocks if block["type"] in ("text", "tool_result")]
        said = last[-1].get("text") or last[-1].get("content")
        return body["model"], bool(body.get("stream")), str(said), bool(body.get("tools"))

    def error(self, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}

    def whole(self, model: str, text: str, call: bool) -> dict[str, Any]:
        block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": CALL}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [*self.thoughts(model), block if call else {"type": "text", "text": text}],
            "stop_reason": "tool_use" if call else "end_turn",
            "usage": self.usage(text),
        }

    def thoughts(self, model: str) -> list[dict[str, Any]]:
        return THOUGHTS if model.startswith("thinks") else []

    def usage(self, text: str) -> dict[str, int]:
        return {
            "input_tokens": ASKED - CACHED,
            "cache_read_input_tokens": CACHED,
            "output_tokens": len(words(text)),
        }

    def stream(self, model: str, text: str, call: bool) -> Iterator[bytes]:
        message = self.whole(model, text, call) | {"content": [], "stop_reason": None}
        yield sse("message_start", {"type": "message_start", "message": message})
        start, stop_block = "content_block_start", "content_block_stop"
        thoughts = self.thoughts(model)
        for index, thought in enumerate(thoughts):
            empty = thought | {"thinking": "", "signature": ""} if "thinking" in thought else thought
            yield sse(start, {"type": start, "index": index, "content_block": empty})
            kinds = {"thinking": "thinking_delta", "signature": "signature_delta"}
            for part in (part for part in kinds if part in thought):
                delta = {"type": kinds[part], part: thought[part]}
                yield sse("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta})
            yield sse(stop_block, {"type": stop_block, "index": index})
        block: dict[str, Any] = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": word} for word in words(text)]
        if call:
            block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(CALL)}]
        index = len(thoughts)
        yield sse(start, {"type": start, "index": index, "content_block": block})
        kind = "content_block_delta"
        for delta in deltas:
            yield sse(kind, {"type": kind, "index": index, "delta": delta})
        yield sse(stop_block, {"type": stop_block, "index": index})
        stop = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
        usage = {"output_tokens": len(words(text))}
        yield sse("message_delta", {"type": "message_delta", "delta": stop, "usage": usage})
        yield sse("message_stop", {"type": "message_stop"})


class GeminiSide:
    """POST …/models/MODEL:generateContent."""

    stream_type = "text/event-stream"

    def read(self, path: str, headers: Any, body: dict[str, Any]) -> tuple[str, bool, str, bool]:
        need(headers.get("x-goog-api-key") == "key", "API key not valid")
        name, _, verb = path.rpartition("/models/")[2].partition(":")
        need(verb in ("generateContent", "streamGenerateContent?alt=sse"), f"no such verb: {verb}")
        turns = body["contents"]
        need(all(turn["role"] in ("user", "model") for turn in turns), "roles are user and model")
        need(all(one["role"] != two["role"] for one, two in itertools.pairwise(turns)), "roles alternate")
        part = turns[-1]["parts"][-1]
        said = part.get("text") or json.dumps(part.get("functionResponse"))
        return unquote(name), verb.startswith("stream"), said, bool(body.get("tools"))

    def error(self, message: str) -> dict[str, Any]:
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}

    def whole(self, model: str, text: str, call: bool) -> dict[str, Any]:
        part = {"functionCall": {"name": "weather", "args": CALL}} if call else {"text": text}
        return self._event(model, part) | {"usageMetadata": self.usage(text)}

    def usage(self, text: str) -> dict[str, int]:
        return {
            "promptTokenCount": ASKED,
            "cachedContentTokenCount": CACHED,
            "candidatesTokenCount": len(words(text)),
        }

    def _event(self, model: str, part: dict[str, Any], finish: str = "STOP") -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [part]}}
        if finish:
            candidate["finishReason"] = finish
        return {"candidates": [candidate], "modelVersion": model}

    def stream(self, model: str, text: str, call: bool) -> Iterator[bytes]:
        parts: list[dict[str, Any]] = [{"text": word} for word in words(text)]
        if call:
            parts = [{"functionCall": {"name": "weather", "args": CALL}}]
        for part in parts[:-1]:
            yield sse("", self._event(model, part, ""), named=False)
        yield sse("", self._event(model, parts[-1]) | {"usageMetadata": self.usage(text)}, named=False)


class BedrockSide:
    """POST /model/MODEL/converse."""

    stream_type = "application/vnd.amazon.eventstream"

    def read(self, path: str, headers: Any, body: dict[str, Any]) -> tuple[str, bool, str, bool]:
        signed = headers.get("authorization", "")
        need(signed.startswith("AWS4-HMAC-SHA256 Credential=AKID/"), "the request is not signed")
        need("SignedHeaders=content-type;host;x-amz-date," in signed, "these headers must be signed")
        need("model" not in body and "stream" not in body, "extraneous key")
        _, _, rest = path.partition("/model/")
        model, _, verb = rest.partition("/")
        need("/" not in unquote(model) or "%2F" in model, "the model is not encoded")
        turns = body["messages"]
        need(all(one["role"] != two["role"] for one, two in itertools.pairwise(turns)), "roles alternate")
        block = turns[-1]["content"][-1]
        said = block.get("text") or json.dumps(block.get("toolResult"))
        return unquote(model), verb == "converse-stream", said, bool(body.get("toolConfig"))

    def error(self, message: str) -> dict[str, Any]:
        return {"message": message}

    def whole(self, model: str, text: str, call: bool) -> dict[str, Any]:
        use = {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": CALL}}
        return {
            "output": {"message": {"role": "assistant", "content": [use if call else {"text": text}]}},
            "stopReason": "tool_use" if call else "end_turn",
            "usage": self.usage(text),
        }

    def usage(self, text: str) -> dict[str, int]:
        return {"inputTokens": ASKED - CACHED, "cacheReadInputTokens": CACHED, "outputTokens": len(words(text))}

    def stream(self, model: str, text: str, call: bool) -> Iterator[bytes]:
        yield frame("messageStart", {"role": "assistant"})
        deltas: list[dict[str, Any]] = [{"text": word} for word in words(text)]
        if call:
            start = {"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}}
            yield frame("contentBlockStart", {"contentBlockIndex": 0, "start": start})
            deltas = [{"toolUse": {"input": json.dumps(CALL)}}]
        for delta in deltas:
            yield frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta})
        yield frame("contentBlockStop", {"contentBlockIndex": 0})
        yield frame("messageStop", {"stopReason": "tool_use" if call else "end_turn"})
        yield frame("metadata", {"usage": self.usage(text)})


class ResponsesSide:
    """POST …/responses."""

    stream_type = "text/event-stream"

    def read(self, path: str, headers: Any, body: dict[str, Any]) -> tuple[str, bool, str, bool]:
        need(headers.get("authorization") == "Bearer key", "Incorrect API key provided")
        need(body.get("store") is False, "store must be false here")
        need("messages" not in body, "Unknown parameter: 'messages'")
        item = body["input"][-1]
        said = item.get("output") or item["content"][-1]["text"]
        return body["model"], bool(body.get("stream")), said, bool(body.get("tools"))

    def error(self, message: str) -> dict[str, Any]:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}

    def whole(self, model: str, text: str, call: bool) -> dict[str, Any]:
        item: dict[str, Any] = {"type": "message", "content": [{"type": "output_text", "text": text}]}
        if call:
            item = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": json.dumps(CALL)}
        return {"id": "resp_1", "status": "completed", "model": model, "output": [item], "usage": self.usage(text)}

    def usage(self, text: str) -> dict[str, Any]:
        return {
            "input_tokens": ASKED,
            "input_tokens_details": {"cached_tokens": CACHED},
            "output_tokens": len(words(text)),
        }

    def stream(self, model: str, text: str, call: bool) -> Iterator[bytes]:
        started = {"id": "resp_1", "model": model, "status": "in_progress"}
        yield sse("response.created", {"type": "response.created", "response": started})
        if call:
            item = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": ""}
            yield sse("x", {"type": "response.output_item.added", "item": item})
            yield sse("x", {"type": "response.function_call_arguments.delta", "delta": json.dumps(CALL)})
        else:
            for word in words(text):
                yield sse("x", {"type": "response.output_text.delta", "delta": word})
        yield sse("x", {"type": "response.completed", "response": self.whole(model, text, call)})


def side_of(path: str) -> Any:
    if "/models/" in path:
        return GeminiSide()
    if "/model/" in path:
        return BedrockSide()
    return ResponsesSide() if path.endswith("/responses") else AnthropicSide()


class Handler(BaseHTTPRequestHandler):
    """One connection of the mock."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        side = side_of(self.path)
        self.server.seen.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        if self.path.endswith("/count_tokens"):
            known = body["model"] != "uncounted"
            self.whole(200 if known else 404, {"input_tokens": COUNTED} if known else side.error("Not found"))
            return
        try:
            model, stream, said, tools = side.read(self.path, self.headers, body)
        except (Refused, KeyError, IndexError, TypeError) as wrong:
            self.whole(400, side.error(f"{wrong}"))
            return
        if model == "overloaded":
            self.whole(529, side.error("Overloaded"))
            return
        call = tools and "weather" in said.lower() and "celsius" not in said
        if not stream:
            self.whole(200, side.whole(model, said, call))
            return
        self.send_response(200)
        self.send_header("content-type", side.stream_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, piece in enumerate(side.stream(model, said, call)):
            if model == "cut" and number == 3:
                break
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def whole(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Clients may leave in the middle."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass


class MockDialects:
    """The mock in threads of this process: `with MockDialects() as mock: … mock.url`."""

    def __enter__(self) -> Self:
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.seen = []  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def seen(self) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
        """Path, headers and body of every request, in order."""
        return self._server.seen  # type: ignore[attr-defined,no-any-return]

    def settings(self, kind: str) -> dict[str, Any]:
        """What an engine of this kind needs to be answered."""
        if kind == "bedrock":
            return {"base_url": self.url, "access_key": "AKID", "secret_key": "secret", "region": "eu-west-1"}
        return {"base_url": f"{self.url}/v1", "api_key": "key"}
