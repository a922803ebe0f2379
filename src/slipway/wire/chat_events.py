"""A chat stream as plain events, for translators that write it anew in another API's shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from slipway.domain.message import Usage
from slipway.wire.errors import message_in
from slipway.wire.openai import WireUsage, read_usage, signature_in
from slipway.wire.sse import EventReader
from slipway.wire.thoughts import BLOCKS, created_in, thoughts_of


class Said(NamedTuple):
    """A piece of text, or of `reasoning`."""

    text: str
    reasoning: bool = False


class Thought(NamedTuple):
    """The signature of the reasoning before it, or a thought that is sealed, as one of Anthropic's blocks."""

    block: dict[str, Any]


class Called(NamedTuple):
    """A call of a function begins, or, where id and name are empty, goes on with more of its arguments."""

    number: int
    id: str
    name: str
    arguments: str
    signature: str = ""


class Finished(NamedTuple):
    """The answer is over; `slipway` holds what stands beside it for clients that know Slipway."""

    finish: str
    slipway: Any = None


class Failed(NamedTuple):
    """The stream broke."""

    message: str
    code: str


Event = Said | Thought | Called | Finished | Failed | Usage


class ChatReader:
    """Reads chunks of one chat stream, choice 0 only; what is no JSON is passed over.

    A chunk of another shape raises one of `UNREADABLE`.
    """

    def __init__(self) -> None:
        self._reader = EventReader()
        self.model = ""
        self.created = 0
        """Tokens that were written into a cache, as far as told."""

    def feed(self, piece: bytes) -> Iterator[Event]:
        for data in self._reader.feed(piece):
            yield from self._events(data)

    def close(self) -> Iterator[Event]:
        for data in self._reader.close():
            yield from self._events(data)

    def _events(self, data: bytes) -> Iterator[Event]:
        try:
            chunk = msgspec.json.decode(data)
        except (ValueError, RecursionError):
            return  # [DONE], or what no client could read either
        if not isinstance(chunk, dict):
            return
        self.model = chunk.get("model") or self.model
        if chunk.get("error") is not None:
            error = chunk["error"]
            yield Failed(message_in(error), str(error.get("code") or "") if isinstance(error, dict) else "")
            return
        for choice in chunk.get("choices") or ():
            if choice.get("index") in (0, None):
                yield from _of_choice(choice, chunk)
        if (usage := usage_in(chunk)) is not None:
            self.created = created_in(chunk["usage"])
            yield usage


def _of_choice(choice: dict[str, Any], chunk: dict[str, Any]) -> Iterator[Event]:
    delta = choice.get("delta") or {}
    if thought := delta.get("reasoning_content"):
        yield Said(_text(thought), reasoning=True)
    if BLOCKS in delta:
        yield from map(Thought, thoughts_of(delta))
    text = delta.get("content") or delta.get("refusal")
    if text:
        yield Said(_text(text))
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        yield Called(
            int(call.get("index") or 0),
            str(call.get("id") or ""),
            str(function.get("name") or ""),
            str(function.get("arguments") or ""),
            signature_in(call),
        )
    if choice.get("finish_reason") is not None:
        yield Finished(str(choice["finish_reason"]), chunk.get("slipway"))


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise ValueError("what it says is no text")
    return given


def usage_in(completion: dict[str, Any]) -> Usage | None:
    """The usage of a completion or a chunk."""
    found = completion.get("usage")
    if not isinstance(found, dict):
        return None
    try:
        return read_usage(msgspec.convert(found, WireUsage))
    except msgspec.ValidationError:
        return None
