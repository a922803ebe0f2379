"""An upstream that speaks the Responses API as OpenAI does: keeps responses, runs them in the background, uses tools.

It repeats what the user said last, word by word in a stream, and tells how many turns it knows of. Asked about the
weather with a function at hand it calls it; a hosted tool is used. Some models go wrong: `overloaded`, `faulty`,
`prompted`, `cut_short`, `filtered`, `first_fails`, `fails`, `broken`; `silent` goes on while somebody listens. Tests
load it into their process.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

ASKED, CACHED, THOUGHT = 20, 8, 4
SEALED = "gAAAAABsealed"
CITY = {"city": "Paris"}
HOSTED = {"web_search": "web_search_call", "code_interpreter": "code_interpreter_call", "mcp": "mcp_call"}
_number = itertools.count(1)


def new_id(prefix: str) -> str:
    return f"{prefix}_{next(_number):016x}68af"


def words(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


class Refused(Exception):
    """What the real API would say to a request that breaks its rules."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        self.status = status
        self.error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        super().__init__(message)


class Kept:
    """What the upstream keeps of every response that it was asked to keep."""

    def __init__(self) -> None:
        self.responses: dict[str, dict[str, Any]] = {}
        self.inputs: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}

    def find(self, id: str, *, param: str | None = None) -> dict[str, Any]:
        found = self.responses.get(id)
        if found is None and param:
            raise Refused(
                f"Previous response with id '{id}' not found.", param=param, code="previous_response_not_found"
            )
        if found is None:
            raise Refused(f"Response with id '{id}' not found.", status=404)
        return found

    def turns(self, id: str | None) -> int:
        """How many responses stand before the next one."""
        count = 0
        while id:
            count, id = count + 1, self.find(id)["previous_response_id"]
        return count


def items_of(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [{"id": new_id("msg"), "type": "message"} | item for item in given]


def text_in(item: dict[str, Any]) -> str:
    content = item.get("output") or item.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def write(body: dict[str, Any], kept: Kept) -> dict[str, Any]:
    """The whole response to a request."""
    previous = body.get("previous_response_id")
    if previous:
        kept.find(previous, param="previous_response_id")
    items = items_of(body["input"]) if body.get("input") else []
    said = text_in(items[-1]) if items else ""
    tools = body.get("tools") or []
    output: list[dict[str, Any]] = []
    if body.get("reasoning"):
        thought = {"id": new_id("rs"), "type": "reasoning", "summary": [], "content": []}
        sealed = "reasoning.encrypted_content" in (body.get("include") or ())
        output.append(thought | ({"encrypted_content": SEALED} if sealed else {}))
    for tool in tools:
        if tool["type"] in HOSTED:
            action = {"type": "search", "query": said}
            output.append({"id": new_id("ws"), "type": HOSTED[tool["type"]], "status": "completed", "action": action})
    functions = [tool for tool in tools if tool["type"] in ("function", "custom")]
    wanted = [one for one in functions if one["name"].startswith("transfer_to") or "weather" in said.lower()]
    if wanted and "celsius" not in said and items[-1].get("type") != "function_call_output":
        tool = wanted[0]
        call = {"id": new_id("fc"), "call_id": new_id("call"), "name": tool["name"], "status": "completed"}
        if tool["type"] == "custom":
            output.append(call | {"type": "custom_tool_call", "input": "print(1)"})
        else:
            told = {} if tool["name"].startswith("transfer_to") else CITY
            output.append(call | {"type": "function_call", "arguments": json.dumps(told)})
    else:
        text = said if not previous else f"{said} (turn {kept.turns(previous) + 1})"
        if (body.get("text") or {}).get("format", {}).get("type") == "json_schema":
            text = json.dumps({"said": said})
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        output.append(
            {"id": new_id("msg"), "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        )
    response = {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "background": bool(body.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": previous,
        "reasoning": {"effort": None, "summary": None},
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": tools,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage_of(output),
        "metadata": body.get("metadata") or {},
        "something_new": {"of": 2027},
    }
    if response["store"]:
        kept.responses[response["id"]] = response
        kept.inputs[response["id"]] = items
    return response


def usage_of(output: list[dict[str, Any]]) -> dict[str, Any]:
    wrote = sum(len(words(text_in(item))) for item in output if item["type"] == "message") + THOUGHT
    return {
        "input_tokens": ASKED,
        "input_tokens_details": {"cached_tokens": CACHED},
        "output_tokens": wrote,
        "output_tokens_details": {"reasoning_tokens": THOUGHT},
        "total_tokens": ASKED + wrote,
    }


def events_of(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of a response, numbered."""
    begun = response | {"status": "in_progress", "output": [], "usage": None}
    numbers = itertools.count()

    def event(kind: str, **more: Any) -> dict[str, Any]:
        return {"type": kind, "sequence_number": next(numbers), **more}

    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, item in enumerate(response["output"]):
        place = {"item_id": item["id"], "output_index": index}
        kind = item["type"]
        opened = (
            item | {"status": "in_progress"} if kind != "message" else item | {"status": "in_progress", "content": []}
        )
        if kind == "function_call":
            opened = opened | {"arguments": ""}
        yield event("response.output_item.added", output_index=index, item=opened)
        if kind == "message":
            part = item["content"][0]
            spot = place | {"content_index": 0}
            yield event("response.content_part.added", **spot, part=part | {"text": ""})
            for word in words(part["text"]):
                yield event("response.output_text.delta", **spot, delta=word, logprobs=[], obfuscation="x7")
            yield event("response.output_text.done", **spot, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **spot, part=part)
        elif kind == "function_call":
            yield event("response.function_call_arguments.delta", **place, delta=item["arguments"])
            yield event(
                "response.function_call_arguments.done", **place, arguments=item["arguments"], name=item["name"]
            )
        elif kind == "web_search_call":
            yield event("response.web_search_call.searching", **place)
            yield event("response.something_of_2027", **place)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response.completed", response=response)


def sse(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


class Handler(BaseHTTPRequestHandler):
    """One connection of the mock."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    @property
    def kept(self) -> Kept:
        return self.server.kept  # type: ignore[attr-defined, no-any-return]

    def do_POST(self) -> None:
        self.answer(self.post)

    def do_GET(self) -> None:
        self.answer(self.get)

    def do_DELETE(self) -> None:
        self.answer(self.delete)

    def answer(self, how: Any) -> None:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        parts = urlsplit(self.path)
        names = parts.path.removeprefix(self.server.base).strip("/").split("/")  # type: ignore[attr-defined]
        body = json.loads(raw) if raw else {}
        self.server.seen.append((f"{self.command} {self.path}", dict(self.headers), body))  # type: ignore[attr-defined]
        self.server.raw.append(raw)  # type: ignore[attr-defined]
        try:
            if self.headers.get("authorization") != "Bearer key":
                raise Refused("Incorrect API key provided", status=401)
            how(names, parse_qs(parts.query), body)
        except Refused as refused:
            self.whole({"error": refused.error}, refused.status)

    def post(self, names: list[str], query: dict[str, list[str]], body: dict[str, Any]) -> None:
        match names:
            case ["responses"]:
                self.create(body)
            case ["responses", "input_tokens"] if self.server.counts:  # type: ignore[attr-defined]
                self.whole({"object": "response.input_tokens", "input_tokens": 42})
            case ["responses", "compact"]:
                if body.get("previous_response_id"):
                    self.kept.find(body["previous_response_id"], param="previous_response_id")
                item = {"id": new_id("cmp"), "type": "compaction", "encrypted_content": SEALED}
                made = {"id": new_id("resp"), "object": "response.compaction", "created_at": 1, "output": [item]}
                self.whole(made | {"usage": usage_of([])})
            case ["responses", id, "cancel"]:
                found = self.kept.find(id)
                if not found["background"]:
                    raise Refused("Cannot cancel a synchronous response.")
                found["status"] = "cancelled"
                self.whole(found)
            case _:
                raise Refused(f"Unknown path {names}", status=404)

    def create(self, body: dict[str, Any]) -> None:
        if body["model"] == "overloaded":
            raise Refused("Overloaded", status=529)
        if body.get("background") and body.get("store") is False:
            raise Refused("Background mode requires store to be true.")
        response = write(body, self.kept)
        if body["model"] == "faulty":
            error = {"code": "server_error", "message": "The model fell over."}
            self.whole(response | {"status": "failed", "error": error, "output": [], "usage": None})
            return
        if body["model"] == "prompted":
            error = {"code": "invalid_prompt", "message": "Not this."}
            self.whole(response | {"status": "failed", "error": error, "output": [], "usage": None})
            return
        if body["model"] == "cut_short":
            response |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        if body["model"] == "filtered":
            response |= {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
        if body.get("background") and not body.get("stream"):
            self.whole(response | {"status": "queued", "output": [], "usage": None})
            return
        if not body.get("stream"):
            self.whole(response)
            return
        self.stream(self.events(body["model"], response))

    def events(self, model: str, response: dict[str, Any]) -> Iterator[bytes]:
        if model == "first_fails":
            yield sse({"type": "error", "code": "server_error", "message": "No room", "sequence_number": 0})
            return
        for number, event in enumerate(events_of(response)):
            if model == "broken" and number == 6:
                self.close_connection = True
                raise ConnectionAbortedError
            if model == "fails" and number == 6:
                error = {"code": "server_error", "message": "The model fell over."}
                failed = response | {"status": "failed", "error": error, "output": []}
                yield sse({"type": "response.failed", "sequence_number": number, "response": failed})
                return
            yield sse(event)
            if model == "silent" and number == 4:
                while not self.server.over.wait(0.05):  # type: ignore[attr-defined]
                    yield b": still there\n\n"

    def get(self, names: list[str], query: dict[str, list[str]], body: dict[str, Any]) -> None:
        match names:
            case ["responses", id]:
                found = self.kept.find(id)
                if query.get("stream") == ["true"]:
                    after = int(query.get("starting_after", ["-1"])[0])
                    self.stream(sse(one) for one in events_of(found) if one["sequence_number"] > after)
                else:
                    self.whole(found)
            case ["responses", id, "input_items"]:
                self.kept.find(id)
                items = self.kept.inputs[id][: int(query.get("limit", ["20"])[0])]
                ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]}
                self.whole({"object": "list", "data": items, "has_more": False, **ends})
            case _:
                raise Refused(f"Unknown path {names}", status=404)

    def delete(self, names: list[str], query: dict[str, list[str]], body: dict[str, Any]) -> None:
        match names:
            case ["responses", id]:
                self.kept.find(id)
                del self.kept.responses[id]
                self.whole({"id": id, "object": "response", "deleted": True})
            case _:
                raise Refused(f"Unknown path {names}", status=404)

    def whole(self, answer: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.server.sent.append(body)  # type: ignore[attr-defined]
        self.wfile.write(body)

    def stream(self, pieces: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        sent = b""
        step = self.server.step  # type: ignore[attr-defined]
        try:
            for piece in pieces:
                sent += piece
                # Cut anywhere, as networks do.
                for at in range(0, len(piece), step or len(piece)):
                    part = piece[at : at + (step or len(piece))]
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                    self.wfile.flush()
                if self.server.pause_s:  # type: ignore[attr-defined]
                    time.sleep(self.server.pause_s)  # type: ignore[attr-defined]
            self.server.sent.append(sent)  # type: ignore[attr-defined]
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionAbortedError:
            return
        except OSError:
            self.close_connection = True
            self.server.left.append(sent)  # type: ignore[attr-defined]


class MockResponses:
    """The upstream in threads of this process; `seen` holds what it was asked, `sent` what it answered.

    `step` cuts streams into pieces of so many bytes; 0 sends an event a piece. `left` holds what clients that left had.
    """

    def __init__(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.over = threading.Event()  # type: ignore[attr-defined]
        self.server.base = "/v1"  # type: ignore[attr-defined]
        self.reset()

    def reset(self) -> None:
        for name in ("seen", "sent", "raw", "left"):
            setattr(self.server, name, [])
        self.server.kept = Kept()  # type: ignore[attr-defined]
        self.server.step, self.server.pause_s, self.server.counts = 0, 0.0, True  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.server, name)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.over.set()  # type: ignore[attr-defined]
        self.server.shutdown()
        self.server.server_close()


if __name__ == "__main__":
    with MockResponses() as mock:
        print(mock.url, flush=True)
        threading.Event().wait()
