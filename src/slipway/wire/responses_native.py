"""The OpenAI Responses API between a client and an engine that both speak it: read on its way, and not translated.

Only ids change (see `gateway.bound_ids`): in the bytes, so that everything else stays as the engine wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from slipway.domain.message import Usage
from slipway.wire import responses_engine
from slipway.wire.chat import Facts
from slipway.wire.errors import UNREADABLE, message_in
from slipway.wire.openai import ABSENT, Tokens
from slipway.wire.sse import EMPTY_LINE, data_of, write_event

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
"""Events behind which nothing more is said."""
UNDER_WAY = frozenset({"queued", "in_progress"})
ENGINE_FAULTS = frozenset({"server_error", "rate_limit_exceeded"})
"""Why a response fails through no fault of the request's."""
LONGEST_EVENT = 64 * 1024 * 1024
"""Pictures stand in the last event once more."""
KEYS = (b'"response"', b'"item"', b'"error"')
MARKS = (b"\n\n", b"\r\n\r\n", b"\r\r")
SEQUENCE = re.compile(rb'"sequence_number":\s*(\d{1,12})')
NOBODY = Facts("", "", 0)
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
SPOKEN = ("text", "refusal")
CALLS = re.compile(r"\w+_call")
CALL_TEXTS = ("name", "arguments", "input", "action", "code", "query", "queries")

Bind = Callable[[str], str]
"""Makes of an engine's id the one that the client gets."""


class InputDetails(msgspec.Struct, gc=False):
    """Which of the tokens of the input were cached."""

    cached_tokens: Tokens | None = None


class OutputDetails(msgspec.Struct, gc=False):
    """Which of the tokens of the output were spent on reasoning."""

    reasoning_tokens: Tokens | None = None


class ResponseUsage(msgspec.Struct, gc=False):
    """Token counts of a response."""

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


class Response(msgspec.Struct):
    """A response in whatever state, as far as the gateway looks at it."""

    id: str = ""
    object: str = ""
    status: str | None = None
    model: str | None = None
    output: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT
    error: Any = None
    incomplete_details: Any = None
    previous_response_id: str | None = None
    background: bool | None = None


class StreamEvent(msgspec.Struct):
    """An event of a stream, as far as the gateway looks at it."""

    type: str = ""
    response: msgspec.Raw = ABSENT
    item: msgspec.Raw = ABSENT


class Item(msgspec.Struct, gc=False):
    """An item of an input or an output, as far as it can be referred to."""

    id: str | None = None
    type: str | None = None
    role: str | None = None


class Told(NamedTuple):
    """What a response says."""

    text: str = ""
    finish: str = ""
    usage: Usage | None = None
    model: str = ""
    error: str = ""
    calls: tuple[dict[str, str], ...] = ()
    """Calls of tools, the model's and the engine's own: type, name, and what the tool was told."""
    status: str = ""
    background: bool = False


_response = msgspec.json.Decoder(Response)
_event = msgspec.json.Decoder(StreamEvent)
_item = msgspec.json.Decoder(Item)
_some = msgspec.json.Decoder(list[Item])
_usage = msgspec.json.Decoder(ResponseUsage | None)


def tell(response: Response) -> Told:
    """What a response says, as far as it can be read."""
    texts: list[str] = []
    calls: list[dict[str, str]] = []
    for item in _items(response.output):
        kind = str(item.get("type"))
        if kind == "message":
            parts = item.get("content")
            texts += (_text_of(part) for part in (parts if isinstance(parts, list) else ()))
        elif CALLS.fullmatch(kind):
            calls.append({"type": kind} | {name: _as_text(item[name]) for name in CALL_TEXTS if item.get(name)})
    details = response.incomplete_details
    reason = str(details.get("reason")) if isinstance(details, dict) else ""
    finish = "tool_calls" if any(call["type"] == "function_call" for call in calls) else "stop"
    if response.status == "incomplete":
        finish = "content_filter" if reason == "content_filter" else "length"
    return Told(
        text="".join(texts),
        finish=finish if response.status in ("completed", "incomplete", None) else "",
        usage=_usage_of(response.usage),
        model=response.model or "",
        error=message_in(response.error) if response.error else "",
        calls=tuple(calls),
        status=response.status or "",
        background=response.background is True,
    )


def read_response(body: bytes | msgspec.Raw) -> Response | None:
    """None where it is none."""
    try:
        return _response.decode(body)
    except (ValueError, RecursionError):
        return None


def is_filtered_response(body: bytes) -> bool:
    """Whether a whole response was cut short for what it says."""
    response = read_response(body)
    return response is not None and tell(response).finish == "content_filter"


def fault_in(first_event: bytes) -> Any:
    """The error of a stream that begins with one; None where it does not."""
    try:
        kind = _event.decode(first_event).type
        if kind not in ("response.failed", "error"):
            return None
        event = msgspec.json.decode(first_event)
    except (ValueError, RecursionError):
        return None
    told = event.get("response") if kind == "response.failed" else event
    return as_fault((told.get("error") if isinstance(told, dict) else None) or event)


def as_fault(error: Any) -> Any:
    """An error with its code for a type, which says whose fault it is."""
    return error | {"type": str(error.get("code") or "")} if isinstance(error, dict) else error


def is_engine_fault(error: Any) -> bool:
    return not isinstance(error, dict) or error.get("code") in ENGINE_FAULTS


def references_in(given: msgspec.Raw) -> list[str]:
    """Ids of kept items that an input refers to instead of saying them again."""
    try:
        items = _some.decode(given)
    except (ValueError, RecursionError):
        return []
    return [
        item.id or ""
        for item in items
        if item.type == "item_reference" or (item.id and item.type is None and item.role is None)
    ]


# What was asked, for records -----------------------------------------------------------------------------------------


def asked_as_chat(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """JSON of the messages of a chat that say what `instructions` and `input` say; what is no text is named."""
    instructions, given = fields.get("instructions"), fields.get("input")
    if given is not None and bytes(memoryview(given)[:1]) == b'"' and instructions is None:
        return b'[{"role":"user","content":%b}]' % bytes(given)
    messages: list[dict[str, str]] = []
    try:
        system = None if instructions is None else msgspec.json.decode(instructions)
        asked = None if given is None else msgspec.json.decode(given)
    except (ValueError, RecursionError):
        return b"[]"
    if isinstance(system, str):
        messages.append({"role": "system", "content": system})
    if isinstance(asked, str):
        messages.append({"role": "user", "content": asked})
    elif isinstance(asked, list):
        messages += (_message(item) for item in asked if isinstance(item, dict))
    return msgspec.json.encode(messages)


def _message(item: dict[str, Any]) -> dict[str, str]:
    kind, role, content = item.get("type") or "message", item.get("role"), item.get("content")
    if kind == "message":
        parts = content if isinstance(content, list) else [{"text": content}]
        return {"role": role if role in ROLES else "user", "content": "".join(map(_named_text, parts))}
    if str(kind).endswith("_output"):
        output = item.get("output")
        parts = output if isinstance(output, list) else [{"text": _as_text(output)}]
        return {"role": "tool", "content": "".join(map(_named_text, parts))}
    told = " ".join(_as_text(item[name]) for name in CALL_TEXTS if item.get(name))
    return {"role": "assistant", "content": f"[{kind}] {told}".strip()}


def _named_text(part: Any) -> str:
    return _text_of(part) or (f"[{part['type']}]" if isinstance(part, dict) and part.get("type") else "")


def _text_of(part: Any) -> str:
    found = (part.get(name) for name in SPOKEN) if isinstance(part, dict) else ()
    return next((text for text in found if isinstance(text, str) and text), "")


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode("utf-8", "replace")


def _items(output: msgspec.Raw) -> list[dict[str, Any]]:
    try:
        items = msgspec.json.decode(output) if output else None
    except (ValueError, RecursionError):
        return []
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _usage_of(raw: msgspec.Raw) -> Usage | None:
    try:
        usage = _usage.decode(raw) if raw else None
    except (ValueError, RecursionError):
        return None
    if usage is None:
        return None
    asked, wrote = usage.input_tokens_details, usage.output_tokens_details
    return Usage(
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cached_tokens=(asked.cached_tokens or 0) if asked else 0,
        reasoning_tokens=(wrote.reasoning_tokens or 0) if wrote else 0,
    )


# Ids on their way to the client ---------------------------------------------------------------------------------------


class Ids:
    """The ids of one answer, and what the client gets in their place. `asked`: ids that the request named."""

    def __init__(self, known: Mapping[str, str], bind: Bind = str, *, asked: Mapping[str, str] | None = None) -> None:
        self.bind = bind
        """Who made the answer may be known only once it comes."""
        self._asked = dict(asked or {})
        self._known = dict(known)
        self._pairs = [_quoted(id, bound) for id, bound in self._known.items()]

    def learn(self, response: Response) -> None:
        """Those of a response, of the one before it, and of its items."""
        self._learn(response.id)
        self._learn(response.previous_response_id)
        with suppress(ValueError, RecursionError):
            for item in _some.decode(response.output) if response.output else ():
                self._learn(item.id)

    def learn_item(self, item: msgspec.Raw) -> None:
        with suppress(ValueError, RecursionError):
            self._learn(_item.decode(item).id)

    def learn_list(self, body: bytes) -> None:
        """Those of a list of items."""
        with suppress(ValueError, RecursionError):
            for item in _listed.decode(body).data:
                self._learn(item.id)

    def _learn(self, id: str | None) -> None:
        if id and id not in self._known:
            bound = self._known[id] = self.bind(id)
            if bound != id:
                self._pairs.append(_quoted(id, bound))

    def replaced(self, body: bytes) -> bytes:
        """The same bytes with the ids that are known, wherever one stands as a text of its own."""
        for id, bound in self._pairs:
            body = body.replace(id, bound)
        return body

    def in_words(self, body: bytes) -> bytes:
        """The same where an id may stand in the middle of a text, as errors tell it."""
        for id, bound in (self._asked | self._known).items():
            body = body.replace(id.encode(), bound.encode())
        return body


class _Listed(msgspec.Struct):
    """A list of items."""

    data: list[Item]


_listed = msgspec.json.Decoder(_Listed)


def _quoted(id: str, bound: str) -> tuple[bytes, bytes]:
    return b'"%b"' % id.encode(), b'"%b"' % bound.encode()


class Events:
    """The events of one response on their way: passed on whole, with the client's ids, and heard."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._pieces: list[bytes] = []
        self._size = 0
        self._seam = b""
        self._too_long = False
        self._begun = b""
        self.told: Told | None = None
        """What the response says, once an event has told its end."""

    def passes(self, piece: bytes) -> bool:
        """Whether there is nothing to learn from a piece: whole events, of which none tells of the response itself, of
        an item, or of an error. Texts cannot look like that: quotes within them are escaped."""
        return (
            not self._pieces
            and piece.endswith(b"\n\n")
            and b'"response"' not in piece
            and b'"item"' not in piece
            and b'"error"' not in piece
            and not self._too_long
        )

    def passed(self, piece: bytes) -> bytes:
        """Such a piece with the client's ids."""
        return self._ids.replaced(piece)

    def feed(self, piece: bytes) -> bytes:
        """What of the stream may go out: all events that are whole."""
        if self._too_long:
            return piece
        if self.passes(piece):
            return self.passed(piece)
        self._pieces.append(piece)
        self._size += len(piece)
        seam = self._seam + piece
        if EMPTY_LINE.search(seam) is None:
            # Joined only once an event ends: one in a thousand pieces would be copied a thousand times.
            self._seam = seam[-3:]
            if self._size > LONGEST_EVENT:
                self._too_long = True
                return self._take()
            return b""
        whole = self._take()
        end = len(whole)
        if not whole.endswith(b"\n\n"):
            end = max(whole.rfind(mark) + len(mark) if mark in whole else 0 for mark in MARKS)
        if end < len(whole):
            self._pieces, self._size, self._seam = [whole[end:]], len(whole) - end, whole[-3:]
        return self._events(whole[:end]) if end else b""

    def close(self) -> bytes:
        """What is left at the end of the stream: an event without its empty line."""
        return self._events(self._take())

    def failure(self, message: str, code: str, sent: bytes) -> bytes:
        """The honest end of a response that broke off: one event that says so. `sent` is the end of what went out."""
        numbers = SEQUENCE.findall(sent)
        number = int(numbers[-1]) + 1 if numbers else 0
        try:
            response = msgspec.json.decode(self._ids.replaced(self._begun)) if self._begun else None
        except (ValueError, RecursionError):
            response = None
        if not isinstance(response, dict):
            told: dict[str, Any] = {"code": code, "message": message, "param": None}
            kind = "error"
        else:
            failed = {"status": "failed", "error": {"code": "server_error", "message": message}}
            told, kind = {"response": response | failed}, "response.failed"
        return write_event(msgspec.json.encode({"type": kind, "sequence_number": number, **told}), name=kind)

    def _take(self) -> bytes:
        whole = b"".join(self._pieces)
        self._pieces, self._size, self._seam = [], 0, b""
        return whole

    def _events(self, whole: bytes) -> bytes:
        if b"\r" in whole:
            plain = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            plain = whole
        for event in _telling(plain):
            self._hear(data_of(event) or b"")
        return self._ids.replaced(whole)

    def _hear(self, data: bytes) -> None:
        try:
            event = _event.decode(data)
        except (ValueError, RecursionError):
            return
        if event.item:
            self._ids.learn_item(event.item)
        response = read_response(event.response) if event.response else None
        if response is not None:
            self._ids.learn(response)
            if not self._begun:
                self._begun = bytes(event.response)
        if event.type not in ENDS:
            return
        if response is not None:
            told = tell(response)
            failed = event.type == "response.failed"
            self.told = told._replace(error=told.error or "the response failed") if failed else told
        elif event.type == "error":
            self.told = Told(error=_error_of(data))


def _telling(whole: bytes) -> Iterator[bytes]:
    """The events among others that tell of the response itself, of an item, or of an error: few of many."""
    begin = 0
    places = {key: whole.find(key) for key in KEYS}
    while found := [at for at in places.values() if at >= 0]:
        at = min(found)
        before, end = whole.rfind(b"\n\n", begin, at), whole.find(b"\n\n", at)
        end = end if end >= 0 else len(whole)
        yield whole[before + 2 if before >= 0 else begin : end]
        begin = end
        places = {key: whole.find(key, begin) if 0 <= at < begin else at for key, at in places.items()}


def _error_of(data: bytes) -> str:
    event = msgspec.json.decode(data)
    return message_in(event.get("error") or event) if isinstance(event, dict) else "error"


def chunks_in(raw: bytes) -> bytes:
    """A stream of a response, as far as it came, as the chunks of a chat that say the same, for records."""
    reader = responses_engine.StreamReader(NOBODY, include_usage=True)
    chunks = b""
    for event in EMPTY_LINE.split(raw.replace(b"\r\n", b"\n")):
        # Of a long stream the middle is not kept, and there half an event stands before half another.
        with suppress(*UNREADABLE):
            chunks += reader.feed(event + b"\n\n")
    return chunks
