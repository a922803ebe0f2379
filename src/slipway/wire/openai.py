"""Chat completions in the shape of the OpenAI API, whole and streamed, and our nouns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from slipway.domain.decoding import Decoding
from slipway.domain.errors import RequestInvalid
from slipway.domain.message import FinishReason, Message, Reply, Request, Role, Usage
from slipway.wire.errors import invalid_body, message_in, write_error
from slipway.wire.sse import DONE, EventReader, EventTooLong

FINISHES: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
DONE_LINES = (b"data: [DONE]", b"data:[DONE]")
"""How a stream ends; the space is a habit, not a rule."""
FEW_CHUNKS = 8
"""Streams of so many chunks may hold text and calls of tools in one of them."""
CALL_PARTS = ("name", "arguments")
ABSENT = msgspec.Raw(b"")
ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}

# What clients send ---------------------------------------------------------------------------------------------------


class ContentPart(msgspec.Struct):
    """A part of a message: text, or something that only a model can take (an image, audio)."""

    type: str
    text: str = ""
    refusal: str = ""


class ChatMessage(msgspec.Struct):
    """One turn as a client wrote it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None


class StreamOptions(msgspec.Struct):
    """What a client wants of a stream."""

    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct):
    """The form that a client wants the reply in."""

    type: str


class ChatRequest(msgspec.Struct):
    """A chat completion request: the fields that a release may have to look at; others pass through unread."""

    model: str
    messages: list[ChatMessage]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    tools: list[Any] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    response_format: ResponseFormat | None = None


_chat = msgspec.json.Decoder(ChatRequest)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_fields(body: bytes) -> dict[str, msgspec.Raw]:
    """The top level of a JSON object, its values unread. Raises `RequestInvalid`."""
    try:
        return _fields.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise invalid_body(wrong) from None


def read_chat(body: bytes) -> ChatRequest:
    """A chat completion request. Raises `RequestInvalid` naming the field that is wrong."""
    try:
        chat = _chat.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise invalid_body(wrong) from None
    if not chat.messages:
        raise RequestInvalid("'messages' is empty: send at least one message.", param="messages")
    return chat


def message_text(message: ChatMessage) -> str:
    """The text of a message. Raises `RequestInvalid` where it holds something that is not text."""
    content = message.content
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    for part in content:
        if part.type not in ("text", "input_text", "output_text", "refusal"):
            raise RequestInvalid(
                f"A message holds a part of type '{part.type}'; this model reads text only.", param="messages"
            )
    return "".join(part.text or part.refusal for part in content)


def visible_text(message: ChatMessage) -> str:
    """As `message_text`, for records: other parts are named in brackets."""
    if isinstance(message.content, list):
        return "".join(part.text or part.refusal or f"[{part.type}]" for part in message.content)
    return message.content or ""


def read_messages(messages: Iterable[ChatMessage]) -> tuple[Message, ...]:
    return tuple(Message(role=ROLES[message.role], text=message_text(message)) for message in messages)


def read_decoding(chat: ChatRequest) -> Decoding:
    """What the client asked for; what it left open stays open."""
    stop = chat.stop or ()
    return Decoding(
        temperature=chat.temperature,
        top_p=chat.top_p,
        max_tokens=chat.max_completion_tokens or chat.max_tokens,
        seed=chat.seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


# What an endpoint replies --------------------------------------------------------------------------------------------


Tokens = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000_000)]
"""A count that is none (below zero, or beyond every model) is not believed: it would be paid for, and summed up."""


class TokenDetails(msgspec.Struct, gc=False):
    """Which of the tokens were cached, which were spent on reasoning."""

    cached_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None


class WireUsage(msgspec.Struct, gc=False):
    """Token counts under the names of chat completions and of responses."""

    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None


class ChoiceMessage(msgspec.Struct, gc=False):
    """The message of a choice, or its delta. What is seldom read stays as it was written."""

    content: str | list[Any] | None = None
    """A text, or as some write it that think, parts."""
    refusal: str | None = None
    reasoning_content: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    tool_calls: msgspec.Raw = ABSENT


class Choice(msgspec.Struct, gc=False):
    """One of the alternatives that were asked for."""

    index: int = 0
    message: ChoiceMessage | None = None
    delta: ChoiceMessage | None = None
    finish_reason: str | None = None


class Completion(msgspec.Struct, gc=False):
    """A chat completion or a chunk of its stream. vLLM sends `choices: null` beside the usage."""

    choices: list[Choice] | None = None
    usage: WireUsage | None = None
    model: str | None = None
    error: Any = None


class Piece(NamedTuple):
    """What one event of a chat stream says."""

    text: str
    finish: FinishReason | None
    usage: Usage | None
    error: str


class Streamed(NamedTuple):
    """What a whole chat stream said."""

    text: str
    finish: FinishReason | None
    usage: Usage | None
    error: str
    model: str
    done: bool
    """Whether it ended with `[DONE]`."""
    written_bytes: int
    """Of all that the model wrote, in each answer of several; 0 where the usage was told, which is better to know."""


_completion = msgspec.json.Decoder(Completion)
_completions = msgspec.json.Decoder(list[Completion])


def read_completion(body: bytes) -> Completion:
    """A completion or a chunk. Raises `msgspec.DecodeError` (a `ValueError`)."""
    return _completion.decode(body)


def read_reply(body: bytes, *, model: str) -> Reply:
    """A whole chat completion. Raises `ValueError` with the reason where there is no message in it."""
    completion = read_completion(body)
    if completion.error is not None:
        raise ValueError(message_in(completion.error))
    if not completion.choices or completion.choices[0].message is None:
        raise ValueError("it holds no message")
    choice = completion.choices[0]
    message = choice.message
    assert message is not None
    return Reply(
        text=said_by(message),
        model=completion.model or model,
        usage=read_usage(completion.usage) or Usage(estimated=True),
        finish=FINISHES.get(choice.finish_reason or "stop", "stop"),
    )


def read_piece(data: bytes) -> Piece:
    """One event of a chat stream (not `[DONE]`). Raises `msgspec.DecodeError`."""
    completion = read_completion(data)
    error = "" if completion.error is None else message_in(completion.error)
    text, finish = "", None
    for choice in completion.choices or ():
        if choice.index == 0:
            text += said_by(choice.delta)
            if choice.finish_reason is not None:
                finish = FINISHES.get(choice.finish_reason, "stop")
    return Piece(text, finish, read_usage(completion.usage), error)


def read_stream(raw: bytes) -> Streamed:
    """A whole chat stream at once, as far as it came; what cannot be read in it is passed over."""
    done = raw.rstrip().endswith(DONE_LINES)
    # As nearly everyone writes it, a stream becomes one JSON list by replacing what stands between its events.
    plain = raw.removesuffix(b"\n\n").removesuffix(b"\n\ndata: [DONE]")
    try:
        chunks = _completions.decode(b"[%b]" % plain.removeprefix(b"data: ").replace(b"\n\ndata: ", b","))
    except (ValueError, RecursionError):
        chunks = list(_readable(raw))
    texts: list[str] = []
    finish: FinishReason | None = None
    usage: WireUsage | None = None
    model = error = ""
    alone = True
    for chunk in chunks:
        for choice in chunk.choices or ():
            if choice.index == 0:
                delta = choice.delta
                if delta is not None:
                    content = delta.content
                    if type(content) is str and content:
                        texts.append(content)
                    else:
                        texts.append(said_by(delta))
                        if content or delta.tool_calls or delta.reasoning_content or delta.reasoning:
                            alone = False
                if choice.finish_reason is not None:
                    finish = FINISHES.get(choice.finish_reason, "stop")
            else:
                alone = False
        usage, model = chunk.usage or usage, chunk.model or model
        if chunk.error is not None:
            error = message_in(chunk.error)
    text = "".join(texts)
    written = 0
    if usage is None:
        # Nearly always one answer and nothing but text, which is counted already.
        only_text = alone and len(chunks) > FEW_CHUNKS
        written = len(text.encode("utf-8", "replace")) if only_text else sum(map(written_bytes, chunks))
    return Streamed(text, finish, read_usage(usage), error, model, done, written)


def written_bytes(completion: Completion) -> int:
    """How much a model wrote in a completion or a chunk: texts, thoughts and calls of tools of all its choices."""
    written = 0
    for choice in completion.choices or ():
        for message in (choice.message, choice.delta):
            if message is None:
                continue
            written += len(said_by(message).encode("utf-8", "replace"))
            if type(message.content) is list:
                written += sum(map(_thought_bytes, message.content))
            # Thoughts come under one of two names, and as some write it under both.
            written += max(_text_bytes(message.reasoning_content), _text_bytes(message.reasoning))
            written += _call_bytes(message.tool_calls)
    return written


def said_by(message: ChoiceMessage | None) -> str:
    """What a message says: its text, or why it has none."""
    if message is None:
        return ""
    content = message.content
    if type(content) is not str:
        content = "".join(map(_part_text, content)) if content else ""
    return content or message.refusal or ""


def _part_text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _thought_bytes(part: Any) -> int:
    """Of a part that is a thought: a text, or parts of its own."""
    thought = part.get("thinking") if isinstance(part, dict) else None
    text = "".join(map(_part_text, thought)) if isinstance(thought, list) else thought
    return len(text.encode("utf-8", "replace")) if isinstance(text, str) else 0


def _text_bytes(raw: msgspec.Raw) -> int:
    text = _decoded(raw)
    return len(text.encode("utf-8", "replace")) if isinstance(text, str) else 0


def _call_bytes(raw: msgspec.Raw) -> int:
    calls = _decoded(raw)
    written = 0
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            written += sum(len(str(function.get(part) or "").encode("utf-8", "replace")) for part in CALL_PARTS)
    return written


def _decoded(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw) if raw else None
    except (ValueError, RecursionError):
        return None


def _readable(raw: bytes) -> Iterator[Completion]:
    reader = EventReader()
    try:
        events = [*reader.feed(raw), *reader.close()]
    except EventTooLong:
        return
    for data in events:
        try:
            yield read_completion(data)
        except (ValueError, RecursionError):
            continue


def read_usage(usage: WireUsage | None) -> Usage | None:
    """None where it counts nothing, as engines write that do not count."""
    if usage is None:
        return None
    input_tokens = usage.prompt_tokens or usage.input_tokens or 0
    output_tokens = usage.completion_tokens or usage.output_tokens or 0
    if not input_tokens and not output_tokens:
        return None
    asked, wrote = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=(asked.cached_tokens or 0) if asked else 0,
        reasoning_tokens=(wrote.reasoning_tokens or 0) if wrote else 0,
    )


# What an engine asks -------------------------------------------------------------------------------------------------


def write_chat(
    request: Request,
    *,
    stream: bool,
    max_tokens_as: str = "max_tokens",
    leave_out: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """A chat completion request. `leave_out` names keys that this endpoint refuses; `extra` is added as it is."""
    decoding = request.decoding
    fields: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.text} for message in request.messages],
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        max_tokens_as: decoding.max_tokens,
        "seed": decoding.seed,
        "stop": list(decoding.stop) or None,
    }
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    fields = {key: value for key, value in fields.items() if value is not None and key not in leave_out}
    return msgspec.json.encode(fields | dict(extra or {}))


# What clients get ----------------------------------------------------------------------------------------------------


def usage_shape(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def write_completion(
    *, id: str, model: str, created: int, text: str, finish: str, usage: Usage, more: Mapping[str, Any]
) -> bytes:
    """A whole chat completion; `more` stands beside the standard fields."""
    return msgspec.json.encode(
        {
            "id": id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": finish,
                }
            ],
            "usage": usage_shape(usage),
            **more,
        },
        enc_hook=str,
    )


class ToolCall(NamedTuple):
    """A call of a function that the model asks for; `arguments` is JSON as text."""

    id: str
    name: str
    arguments: str
    signature: str = ""
    """Gemini's seal on the thoughts behind it, which must come back with it."""


SIGNED = "extra_content"
"""Of a call: where Google's own chat completions have its signature."""


def call_shape(call: ToolCall) -> dict[str, Any]:
    shape = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    return shape | {SIGNED: {"google": {"thought_signature": call.signature}}} if call.signature else shape


def signature_in(call: Mapping[str, Any]) -> str:
    """The signature of a call; empty where it has none."""
    extra = call.get(SIGNED)
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) else ""


def unsigned(messages: msgspec.Raw) -> msgspec.Raw:
    """Messages without signatures of calls, which other APIs refuse."""
    if SIGNED.encode() not in bytes(messages):
        return messages
    decoded = msgspec.json.decode(messages)
    for message in decoded if isinstance(decoded, list) else ():
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                call.pop(SIGNED, None)
    return msgspec.Raw(msgspec.json.encode(decoded))


NOTHING_MORE: Mapping[str, int] = {}


class ChunkWriter:
    """Writes the chunks of one chat stream."""

    def __init__(self, *, id: str, model: str, created: int) -> None:
        self._fields = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._begun = False
        self._calls = 0

    def says(self, model: str) -> None:
        """Names the model as the engine does; what is out already keeps the old name."""
        self._fields["model"] = model

    @property
    def called(self) -> bool:
        """Whether a function was called."""
        return self._calls > 0

    def begin(self) -> bytes:
        """The chunk that names the role; empty when it is out already."""
        return b"" if self._begun else self.text("")

    def reasoning(self, text: str) -> bytes:
        return self.begin() + self._write([self._choice({"reasoning_content": text}, None)], {})

    def thought(self, block: Mapping[str, Any]) -> bytes:
        """The signature of the reasoning before it, or a thought that is sealed; see `wire/thoughts.py`."""
        return self.begin() + self._write([self._choice({"thinking_blocks": [block]}, None)], {})

    def call(self, call: ToolCall) -> bytes:
        """Opens a call of a function; its arguments may follow in pieces."""
        shape = {"index": self._calls, **call_shape(call)}
        self._calls += 1
        return self.begin() + self._write([self._choice({"tool_calls": [shape]}, None)], {})

    def arguments(self, piece: str) -> bytes:
        """More of the arguments of the call that was opened last."""
        shape = {"index": max(0, self._calls - 1), "function": {"arguments": piece}}
        return self._write([self._choice({"tool_calls": [shape]}, None)], {})

    def end(
        self, finish: str, usage: Usage | None, *, include_usage: bool, more: Mapping[str, int] = NOTHING_MORE
    ) -> bytes:
        """Everything after the text. Who did not ask for usage finds it beside the finish, where it does no harm.

        `more` is what an engine counts beyond a chat completion's usage.
        """
        beside = {} if usage is None or include_usage else {"usage": {**usage_shape(usage), **more}}
        last = self.usage(usage, more) if usage is not None and include_usage else b""
        return self.begin() + self.finish(finish, beside) + last + DONE

    def error(self, message: str, code: str) -> bytes:
        """An error in the middle of the stream; no `[DONE]` follows."""
        return b"data: %b\n\n" % write_error(message, kind="server_error", code=code or None)

    def text(self, text: str) -> bytes:
        delta: dict[str, Any] = {"content": text}
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", "content": text, "refusal": None}
        return self._write([self._choice(delta, None)], {})

    def finish(self, finish: str, more: Mapping[str, Any]) -> bytes:
        return self._write([self._choice({}, finish)], more)

    def usage(self, usage: Usage, more: Mapping[str, int] = NOTHING_MORE) -> bytes:
        return self._write([], {"usage": {**usage_shape(usage), **more}})

    @staticmethod
    def _choice(delta: Mapping[str, Any], finish: str | None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}

    def _write(self, choices: list[dict[str, Any]], more: Mapping[str, Any]) -> bytes:
        chunk = {**self._fields, "choices": choices, **more}
        return b"data: %b\n\n" % msgspec.json.encode(chunk, enc_hook=str)


def model_shape(id: str, *, created: int, owner: str) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": created, "owned_by": owner}
