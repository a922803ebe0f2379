"""What an answer says that is no chat: its texts and its usage, and of sound and pictures the type and size alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from slipway.domain.message import Usage
from slipway.gateway.operations import Operation
from slipway.gateway.upstream_calls import EVENTS
from slipway.store.call_records import LONGEST_TEXT
from slipway.wire.errors import message_in
from slipway.wire.sse import EventReader
from slipway.wire.texts import named_texts
from slipway.wire.used import read_used


class Heard(NamedTuple):
    """What a trace keeps of an answer. `size`, in bytes, is set where it keeps no more than that and the type."""

    text: str = ""
    usage: Usage | None = None
    model: str = ""
    error: str = ""
    content_type: str = ""
    size: int = 0


def hear(body: bytes, operation: Operation, content_type: bytes = b"") -> Heard:
    """What a whole JSON answer, or the last event of a stream, says."""
    usage, model = read_used(body)
    try:
        answer = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return Heard(usage=usage, model=model)
    error = answer.get("error") if isinstance(answer, dict) else None
    text = body.decode() if operation.kept else "\n".join(named_texts(answer, operation.said))
    size = 0 if text else len(body)
    return Heard(text, usage, model, message_in(error) if error else "", content_type.decode("latin-1"), size)


class Hearing:
    """Listens to an answer that is passed on in pieces."""

    def __init__(self, content_type: bytes, operation: Operation) -> None:
        self._content_type = content_type
        self._operation = operation
        self._size = 0
        self._events = EventReader() if content_type.startswith(EVENTS) else None
        self._last = b""
        self._text: list[bytes] | None = [] if content_type.startswith(b"text/") and self._events is None else None

    def feed(self, piece: bytes) -> None:
        if self._text is not None and self._size < LONGEST_TEXT:
            self._text.append(piece)
        self._size += len(piece)
        if self._events is not None:
            try:
                self._note(self._events.feed(piece))
            except ValueError:
                self._events = None  # an event without an end, whatever it is

    def close(self) -> Heard:
        if self._events is not None:
            self._note(self._events.close())
        heard = hear(self._last, self._operation) if self._last else Heard()
        if self._text is not None:
            return heard._replace(text=b"".join(self._text).decode("utf-8", "replace"))
        if heard.text:
            return heard._replace(size=0)
        return heard._replace(content_type=self._content_type.decode("latin-1"), size=self._size)

    def _note(self, events: Iterator[bytes]) -> None:
        for event in events:
            if event != b"[DONE]":
                self._last = event
