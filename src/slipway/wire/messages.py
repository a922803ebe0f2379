"""Anthropic's Messages API as clients speak it: its requests into chat completions, answers and streams back.

Written from the public API reference, version 2023-06-01. What an engine of that API says is read in `anthropic.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.message import Usage
from slipway.wire import anthropic
from slipway.wire.chat import Facts, arguments_of, file_part, file_part_at, tool_calls_of
from slipway.wire.chat_events import Called, Event, Failed, Finished, Said, Thought, usage_in
from slipway.wire.chat_rewriter import ChatRewriter
from slipway.wire.errors import UNREADABLE, error_text, invalid_body
from slipway.wire.openai import ToolCall, call_shape
from slipway.wire.sse import write_event
from slipway.wire.thoughts import BLOCKS, CREATED, MARK, any_marked, created_in, marked, thoughts_of, without

STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Turn(msgspec.Struct):
    """A turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class Tool(msgspec.Struct):
    """A function that the model may call; tools that run on Anthropic's side have another `type`."""

    name: str = ""
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None
    cache_control: dict[str, Any] | None = None


class MessagesRequest(msgspec.Struct):
    """What a client of the Messages API sends."""

    model: str
    messages: list[Turn]
    max_tokens: int
    system: str | list[dict[str, Any]] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None


NOBODY = Facts("", "", 0)
KNOWN = frozenset(MessagesRequest.__struct_fields__)
_request = msgspec.json.Decoder(MessagesRequest)
_fields = msgspec.json.Decoder(dict[str, Any])


def read_request(body: bytes, *, everything: bool = False) -> dict[str, Any]:
    """A Messages request as a chat completion request. Unknown fields are passed on; `everything` takes along what only
    Anthropic's API knows (`wire/thoughts.py`).

    Raises `RequestInvalid` naming the field that is wrong, or what no chat completion can say.
    """
    try:
        request = _request.decode(body)
        given = _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise invalid_body(wrong) from None
    if not request.messages:
        raise RequestInvalid("'messages' is empty: send at least one message.", param="messages")
    messages: list[dict[str, Any]] = []
    if request.system:
        text: Any = _plain(request.system, "system")
        if not isinstance(request.system, str) and any_marked(request.system):
            text = [marked({"type": "text", "text": str(one.get("text") or "")}, one) for one in request.system]
        messages.append({"role": "system", "content": text})
    for turn in request.messages:
        messages += _messages(turn)
    chat: dict[str, Any] = {"model": request.model, "messages": messages, "max_tokens": request.max_tokens}
    for name in ("temperature", "top_p"):
        if getattr(request, name) is not None:
            chat[name] = getattr(request, name)
    if request.stop_sequences:
        chat["stop"] = request.stop_sequences
    if request.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    if request.tools:
        chat["tools"] = [_tool(tool) for tool in request.tools]
        chat |= _tool_choice(request.tool_choice or {})
    if request.metadata and isinstance(request.metadata.get("user_id"), str):
        chat["user"] = request.metadata["user_id"]
    form = (request.output_config or {}).get("format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        schema = {"name": "answer", "schema": form.get("schema") or {}}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    chat |= {name: value for name, value in given.items() if name not in KNOWN}
    config = {name: value for name, value in (request.output_config or {}).items() if name != "format"}
    if config:
        chat["output_config"] = config
    return chat if everything else without(chat)


class Countable(NamedTuple):
    """What the tokens of a request are counted by."""

    texts: list[str]
    images: int


def countable_in(body: bytes) -> Countable:
    """What a request says, wherever it says it; its `max_tokens` may be missing. Raises `RequestInvalid`."""
    try:
        given = _fields.decode(body)
        request = msgspec.convert(given | {"max_tokens": 1}, MessagesRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise invalid_body(wrong) from None
    texts = [msgspec.json.encode(tool).decode() for tool in request.tools or ()]
    images = 0
    waiting: list[Any] = [request.system, *(turn.content for turn in request.messages)]
    for one in waiting:
        match one:
            case str():
                texts.append(one)
            case list():
                waiting += one
            case {"type": "image"}:
                images += 1
            case {"type": "tool_use", "name": name}:
                texts += [str(name), msgspec.json.encode(one.get("input")).decode()]
            case {"text": text} | {"thinking": text} | {"content": text}:
                waiting.append(text)
            case {"source": {"type": "text", "data": str(text)}}:
                texts.append(text)
            case _:
                pass
    return Countable(texts, images)


def _plain(content: str | Sequence[Mapping[str, Any]], param: str) -> str:
    """The text of blocks that must hold nothing else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise RequestInvalid(f"'{param}' is wrong: expected a text or a list of blocks.", param=param)
    for block in content:
        if block.get("type") != "text":
            raise RequestInvalid(
                f"'{param}' holds a block of type '{block.get('type')}': only text is read.", param=param
            )
    return "\n\n".join(str(block.get("text") or "") for block in content)


def _messages(turn: Turn) -> Iterator[dict[str, Any]]:
    """The messages that one turn becomes: results of tools are messages of their own, and come first."""
    if isinstance(turn.content, str):
        yield {"role": turn.role, "content": turn.content}
        return
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[dict[str, Any]] = []
    for block in turn.content:
        match block.get("type"):
            case "text":
                parts.append(marked({"type": "text", "text": str(block.get("text") or "")}, block))
            case "image" | "document":
                parts.append(marked(_shown(block), block))
            case "tool_use":
                arguments = msgspec.json.encode(block.get("input") or {}).decode()
                call = call_shape(ToolCall(str(block.get("id")), str(block.get("name")), arguments))
                calls.append(marked(call, block))
            case "tool_result":
                text, shown = _result(block.get("content") or "")
                told = {"role": "tool", "tool_call_id": str(block.get("tool_use_id")), "content": text}
                yield marked(told, block)
                parts += shown
            case "thinking" | "redacted_thinking":
                thoughts.append(block)
            case kind:
                raise RequestInvalid(
                    f"A message holds a block of type '{kind}', which cannot be read here.", param="messages"
                )
    if not parts and not calls and not thoughts:
        return
    only_text = all(part["type"] == "text" for part in parts) and not any_marked(parts)
    content: Any = "".join(part["text"] for part in parts) if only_text else parts
    message: dict[str, Any] = {"role": turn.role, "content": content or None}
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message[BLOCKS] = thoughts
    yield message


def _result(content: Any) -> tuple[str, list[dict[str, Any]]]:
    """What a tool gives back: its text, and the pictures and files that it shows, which become words of the user."""
    if not isinstance(content, list):
        return _plain(content, "tool_result"), []
    shown = [block for block in content if isinstance(block, dict) and block.get("type") in ("image", "document")]
    text = _plain([block for block in content if block not in shown], "tool_result")
    return text, [_shown(block) for block in shown]


def _shown(block: Mapping[str, Any]) -> dict[str, Any]:
    source = block.get("source")
    if block.get("type") == "image":
        return {"type": "image_url", "image_url": {"url": _image_url(source)}}
    if isinstance(source, dict) and source.get("type") == "base64":
        return file_part(source.get("media_type"), source.get("data"), block.get("title"))
    if isinstance(source, dict) and source.get("type") == "url":
        return file_part_at(source.get("url"), block.get("title"))
    return {"type": "text", "text": _document(source)}


def _image_url(source: Any) -> str:
    if isinstance(source, dict):
        if source.get("type") == "base64":
            return f"data:{source.get('media_type')};base64,{source.get('data')}"
        if source.get("type") == "url":
            return str(source.get("url"))
    raise RequestInvalid("An image needs a 'source' of type 'base64' or 'url'.", param="messages")


def _document(source: Any) -> str:
    if isinstance(source, dict) and source.get("type") == "text":
        return str(source.get("data") or "")
    raise RequestInvalid(
        "A document needs a 'source' of type 'text', 'base64' or 'url': other files cannot be read here.",
        param="messages",
    )


def _tool(tool: Tool) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise RequestInvalid(f"A tool of type '{tool.type}' is not possible here: only functions are.", param="tools")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema or {"type": "object"}}
    if tool.description:
        function["description"] = tool.description
    return marked({"type": "function", "function": function}, {MARK: tool.cache_control})


def _tool_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    chat: dict[str, Any] = {}
    match choice.get("type"):
        case "auto" | "none":
            chat["tool_choice"] = choice["type"]
        case "any":
            chat["tool_choice"] = "required"
        case "tool":
            chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
        case _:
            pass
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False
    return chat


# Answers -------------------------------------------------------------------------------------------------------------


def write_answer(completion: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """A whole chat completion as a message. Raises `ValueError` where it is none."""
    choices = completion.get("choices")
    if not choices or not isinstance(choices[0].get("message"), dict):
        raise ValueError("it holds no message")
    message = choices[0]["message"]
    content: list[dict[str, Any]] = []
    if thoughts := thoughts_of(message):
        content += thoughts
    elif message.get("reasoning_content"):
        content.append({"type": "thinking", "thinking": message["reasoning_content"], "signature": ""})
    if text := message.get("content") or message.get("refusal"):
        content.append({"type": "text", "text": text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call)}
        for call in tool_calls_of(message)
    ]
    answer = _message(facts, content) | {
        "stop_reason": STOPS.get(str(choices[0].get("finish_reason")), "end_turn"),
        "usage": usage_shape(usage_in(dict(completion)) or Usage(), created=created_in(completion.get("usage"))),
    }
    if completion.get("slipway") is not None:
        answer["slipway"] = completion["slipway"]
    return answer


def _message(facts: Facts, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": facts.id,
        "type": "message",
        "role": "assistant",
        "model": facts.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
    }


def usage_shape(usage: Usage, *, created: int = 0) -> dict[str, int]:
    """`created` of the input tokens were written into a cache."""
    cached = min(usage.cached_tokens, usage.input_tokens)
    created = min(created, usage.input_tokens - cached)
    return {
        "input_tokens": usage.input_tokens - cached - created,
        CREATED: created,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output_tokens,
    }


def write_error(message: str, *, status: int, request_id: str = "") -> bytes:
    """`{"type": "error", "error": {"type", "message"}}`, as every Anthropic client reads it."""
    kind = KINDS.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    answer: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}}
    if request_id:
        answer["request_id"] = request_id
    return msgspec.json.encode(answer)


def translate_error(body: bytes, *, status: int, request_id: str) -> bytes:
    """An error answer in this shape, whatever it had before."""
    if body.startswith(b'{"type":"error"'):
        return body
    return write_error(error_text(body), status=status, request_id=request_id)


def completion_in(body: bytes) -> bytes:
    """A whole message as the chat completion that says the same, for records; `null` values where it is none."""
    try:
        return msgspec.json.encode(anthropic.read_answer(msgspec.json.decode(body), NOBODY))
    except UNREADABLE:
        return b"{}"


def chunks_in(raw: bytes) -> bytes:
    """A Messages stream, as far as it came, as the chunks that say the same, for records."""
    reader = anthropic.StreamReader(NOBODY, include_usage=True)
    try:
        return reader.feed(raw) + reader.close()
    except UNREADABLE:
        return b""


class Passing:
    """A Messages stream that goes on as it is; only the gateway's own errors are put in its shape."""

    def feed(self, piece: bytes) -> bytes:
        error = piece.lstrip(b"\n") if piece[:1] == b"\n" else piece
        if not error.startswith(b'data: {"error"'):
            return piece
        ended = piece[: len(piece) - len(error)]
        return ended + _write("error", {"error": {"type": "api_error", "message": error_text(error[6:])}})

    def close(self) -> bytes:
        return b""


class StreamWriter(ChatRewriter):
    """The chunks of a chat stream as the events of a Messages stream."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts
        self._begun = False
        self._open = ""
        self._index = -1

    def _end(self, finish: Finished, usage: Usage) -> bytes:
        delta = {"stop_reason": STOPS.get(finish.finish, "end_turn"), "stop_sequence": None}
        last: dict[str, Any] = {"delta": delta, "usage": usage_shape(usage, created=self._reader.created)}
        if finish.slipway is not None:
            last["slipway"] = finish.slipway
        return self._begin() + self._end_block() + _write("message_delta", last) + _write("message_stop", {})

    def _fail(self, failed: Failed) -> bytes:
        return _write("error", {"error": {"type": "api_error", "message": failed.message}})

    def _say(self, event: Event) -> bytes:
        match event:
            case Said():
                kind = "thinking" if event.reasoning else "text"
                return self._go_on(kind) + self._delta({"type": f"{kind}_delta", kind: event.text})
            case Thought(block):
                if block["type"] != "thinking":
                    return self._open_block("sealed", block) + self._end_block()
                opened = self._go_on("thinking")
                if block.get("thinking"):
                    opened += self._delta({"type": "thinking_delta", "thinking": block["thinking"]})
                signature = {"type": "signature_delta", "signature": block.get("signature") or ""}
                # Whatever is thought after this is another block, with a signature of its own.
                return opened + self._delta(signature) + self._end_block()
            case Called():
                out = b""
                if event.id or event.name:
                    block = {"type": "tool_use", "id": event.id, "name": event.name, "input": {}}
                    out = self._open_block("tool_use", block)
                if event.arguments:
                    out += self._delta({"type": "input_json_delta", "partial_json": event.arguments})
                return out
            case _:
                return b""

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        message = _message(self._facts, []) | {"usage": usage_shape(Usage())}
        return _write("message_start", {"message": message})

    def _go_on(self, kind: str) -> bytes:
        """Opens a block of text or of thoughts, unless one is open."""
        if self._open == kind:
            return b""
        block = {"type": kind, kind: ""}
        return self._open_block(kind, block | {"signature": ""} if kind == "thinking" else block)

    def _open_block(self, kind: str, block: dict[str, Any]) -> bytes:
        before = self._begin() + self._end_block()
        self._open = kind
        self._index += 1
        return before + _write("content_block_start", {"index": self._index, "content_block": block})

    def _end_block(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _write("content_block_stop", {"index": self._index})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _write("content_block_delta", {"index": self._index, "delta": delta})


def _write(kind: str, fields: Mapping[str, Any]) -> bytes:
    return write_event(msgspec.json.encode({"type": kind, **fields}, enc_hook=str), name=kind)
