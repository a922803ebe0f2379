"""What the journal holds of a request that the gateway passed on: a span by position, its messages as they came.

Most records are such. What a client sent is neither taken apart nor written anew before the answer goes out; that is
left to whoever empties the journal.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.trace import Span
from slipway.wire.openai import ChatMessage, visible_text

MARK = b"\xc1"
"""First byte of such a record: MessagePack never uses it, so that no other record begins with it."""
LONGEST_TEXT = 256 * 1024
NOTHING = memoryview(b"")
LONG_BYTES = 16 * 1024
"""From which on a copy costs more than to do without."""


class CallRecord(msgspec.Struct, array_like=True, kw_only=True):
    """One request and its answer. Positions are the format: new fields come last, with a default."""

    trace: TraceId
    span: SpanId
    parent: SpanId | None
    name: str
    start_ns: int
    end_ns: int
    project: str
    subject: SubjectId | None
    session: str
    release: ReleaseId | None
    channel: str
    provider: str
    model: str
    response_model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_micros: int
    finish: str
    verdicts: dict[str, str]
    asked: memoryview
    """JSON of the messages; empty where content is not kept. Read, it is a view of the journal, and gone once it was
    looked at."""
    reply: str
    usage_estimated: bool = False
    first_token_ns: int | None = None


class CallSpan(CallRecord, kw_only=True):
    """A record that was read, with the fields of a `Span`: it can be read as one. The gateway has said what it cost."""

    content: dict[str, Any] = {}

    kind = "chat"
    status = "ok"
    environment = prompt = index = error = ""


CallRow = tuple[
    TraceId,
    SpanId,
    SpanId | None,
    str,
    int,
    int,
    str,
    SubjectId | None,
    str,
    ReleaseId | None,
    str,
    str,
    str,
    str,
    int,
    int,
    int,
    int,
    int,
    str,
    dict[str, str],
    bytes | memoryview,
    str,
    bool,
    int | None,
]
"""The fields of a `CallRecord` in their order: to make one of those takes four times as long as to write it down."""
TRACE: Literal[0] = 0
SPAN: Literal[1] = 1
START_NS: Literal[4] = 4
PROJECT: Literal[6] = 6
ASKED: Literal[21] = 21
REPLY: Literal[22] = 22


def encode_call(row: CallRow) -> bytes | bytearray:
    asked = len(row[ASKED])
    if asked < LONG_BYTES:
        return MARK + _encoder.encode(row)
    # A long one is written once, not once more behind its mark.
    payload = bytearray(asked + len(row[REPLY]) + 1024)
    payload[:1] = MARK
    _encoder.encode_into(row, payload, 1)
    return payload


def is_call(span: Span) -> bool:
    """Whether the span was read from such a record. Then its cost is what the gateway found, be it nothing."""
    return type(span) is _CALL_SPAN


def read_call(payload: bytes | bytearray | memoryview) -> Span:
    """The span that the record stands for. Raises `ValueError` (of msgspec)."""
    return _with_content(_decoder.decode(payload[1:]))


def span_of(row: CallRow) -> Span:
    """The span that a row stands for."""
    fields: dict[str, Any] = dict(zip(CallRecord.__struct_fields__, row, strict=True))
    return _with_content(CallSpan(**fields))


def _with_content(span: CallSpan) -> Span:
    if span.asked:
        span.content = {"messages": asked_texts(span.asked), "reply": span.reply}
        span.asked = NOTHING
    return cast(Span, span)


def asked_texts(messages: bytes | memoryview) -> list[dict[str, Any]]:
    """Role and text of each message, from their JSON; none where it is no list of messages: the engine has said so."""
    try:
        turns = _messages.decode(messages)
    except (ValueError, RecursionError):
        return []
    return [{"role": message.role, "text": _text_of(message)} for message in turns]


def _text_of(message: ChatMessage) -> str:
    text = message.content
    # Nearly always one text, and not a long one.
    return text if type(text) is str and len(text) <= LONGEST_TEXT else shortened(visible_text(message))


def shortened(text: str) -> str:
    """A text as a trace keeps it."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"


_CALL_SPAN = cast("type[Span]", CallSpan)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CallSpan)
_messages = msgspec.json.Decoder(list[ChatMessage])
