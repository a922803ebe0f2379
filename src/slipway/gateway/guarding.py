"""Guardrails on requests and answers that are otherwise passed on as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.guardrail import Guardrails, TextSource, Verdict
from slipway.guard.checker import check
from slipway.guard.stream import StreamChecker
from slipway.wire.sse import EventReader, write_event

SOURCES: dict[str, TextSource] = {"user": "user", "tool": "tool", "function": "tool"}
ORDER = ("allow", "undecided", "flag", "redact", "block")


def strongest(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """The strongest decision of each rail."""
    found: dict[str, str] = {}
    for verdict in verdicts:
        if ORDER.index(verdict.decision) >= ORDER.index(found.get(verdict.rail, "allow")):
            found[verdict.rail] = verdict.decision
    return found


def check_messages(raw: bytes | memoryview, guardrails: Guardrails) -> tuple[bytes | None, list[Verdict]]:
    """What users and tools say in `messages`, checked. The JSON comes back only where something was redacted.

    Raises `Blocked`, `RequestInvalid`.
    """
    try:
        messages = msgspec.json.decode(raw, type=list[dict[str, Any]])
    except (ValueError, RecursionError):
        raise RequestInvalid("'messages' is wrong: expected a list of messages.", param="messages") from None
    verdicts: list[Verdict] = []
    changed = False
    for message in messages:
        source = SOURCES.get(str(message.get("role")))
        content = message.get("content")
        if source is None or not content:
            continue
        if not isinstance(content, str | list):
            raise RequestInvalid("'messages' is wrong: 'content' is a text or a list of parts.", param="messages")
        holders = [message] if isinstance(content, str) else [part for part in content if isinstance(part, dict)]
        for holder in holders:
            key = "content" if holder is message else "text"
            if isinstance(text := holder.get(key), str):
                checked = check(text, guardrails.before, source=source, when_undecided=guardrails.when_undecided)
                verdicts.extend(checked.verdicts)
                checked.raise_if_blocked()
                changed = changed or checked.text != text
                holder[key] = checked.text
    return (msgspec.json.encode(messages) if changed else None), verdicts


def check_completion(body: bytes, guardrails: Guardrails) -> tuple[bytes, list[Verdict]]:
    """A whole chat completion, checked; byte for byte the same where nothing was redacted. Raises `Blocked`."""
    completion = msgspec.json.decode(body)
    verdicts: list[Verdict] = []
    changed = False
    for choice in completion.get("choices") or () if isinstance(completion, dict) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        for holder, key in _texts_of(message) if isinstance(message, dict) else ():
            text = holder[key]
            checked = check(text, guardrails.after, source="answer", when_undecided=guardrails.when_undecided)
            verdicts.extend(checked.verdicts)
            checked.raise_if_blocked()
            changed = changed or checked.text != text
            holder[key] = checked.text
    return (msgspec.json.encode(completion) if changed else body), verdicts


def _texts_of(message: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where the texts of a message or a delta stand: its content is one, or parts that hold some."""
    content = message.get("content")
    if isinstance(content, str):
        yield message, "content"
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part, "text"


class GuardedStream:
    """The after rails on a chat stream: `feed` takes its pieces and returns events that may go out.

    Text is held back until the rails have seen enough of it, each choice by itself; everything else in an event
    (calls of tools, usage, errors) goes through as it is.
    """

    def __init__(self, guardrails: Guardrails, *, hold_back: int) -> None:
        self._guardrails = guardrails
        self._hold_back = hold_back
        self._reader = EventReader()
        self._checkers: dict[int, StreamChecker] = {}
        self._unfinished: set[int] = set()
        self._frame: dict[str, Any] = {}
        """What events of this stream have beside their choices."""

    @property
    def verdicts(self) -> list[Verdict]:
        return [verdict for checker in self._checkers.values() for verdict in checker.verdicts]

    def feed(self, piece: bytes) -> bytes:
        """Raises `Blocked`, and `ValueError` for events that are not JSON."""
        return b"".join(self._event(data) for data in self._reader.feed(piece))

    def close(self) -> bytes:
        """What is left at the end of the stream: an event without its empty line, and text that no event finished.
        Raises as `feed` does."""
        return b"".join(self._event(data) for data in self._reader.close()) + self._unsaid()

    def _unsaid(self) -> bytes:
        """What is held back of choices that nobody says are finished."""
        said = b""
        for index in sorted(self._unfinished):
            if text := self._checkers[index].finish():
                choice = {"index": index, "delta": {"content": text}, "finish_reason": None}
                said += write_event(msgspec.json.encode(self._frame | {"choices": [choice]}))
        self._unfinished.clear()
        return said

    def _event(self, data: bytes) -> bytes:
        if data == b"[DONE]":
            return self._unsaid() + write_event(data)
        event = msgspec.json.decode(data)
        choices = event.get("choices") if isinstance(event, dict) else None
        if not choices:
            # What was said before an error comes before it. An event may have been written in several lines.
            said = self._unsaid() if isinstance(event, dict) and event.get("error") else b""
            return said + write_event(data if b"\n" not in data else msgspec.json.encode(event))
        if not self._frame:
            self._frame = {key: value for key, value in event.items() if key not in ("choices", "usage")}
        held = False
        for choice in choices:
            held = self._choice(choice) or held
        if held and len(choices) == 1 and not event.get("usage"):
            return b""
        return write_event(msgspec.json.encode(event))

    def _choice(self, choice: dict[str, Any]) -> bool:
        """Replaces the text of a delta by what may go out; whether the delta holds nothing else then."""
        index = int(choice.get("index") or 0)
        checker = self._checkers.get(index)
        if checker is None:
            checker = self._checkers[index] = StreamChecker(
                self._guardrails.after, hold_back=self._hold_back, when_undecided=self._guardrails.when_undecided
            )
        delta = choice.get("delta") or {}
        if isinstance(delta.get("content"), list):
            self._parts(index, checker, choice, delta)
            return False
        text = delta.get("content")
        out = checker.feed(text) if isinstance(text, str) and text else ""
        if choice.get("finish_reason") is not None:
            self._unfinished.discard(index)
            out += checker.finish()
            if out:
                choice["delta"] = {**delta, "content": out}
            elif text:
                choice["delta"] = {key: value for key, value in delta.items() if key != "content"}
            return False
        if isinstance(text, str) and text:
            self._unfinished.add(index)
            delta["content"] = out
            return not out and delta.keys() <= {"content"}
        return False

    def _parts(self, index: int, checker: StreamChecker, choice: dict[str, Any], delta: dict[str, Any]) -> None:
        """The same for a delta whose content is parts."""
        self._unfinished.add(index)
        for part, key in _texts_of(delta):
            part[key] = checker.feed(part[key])
        if choice.get("finish_reason") is not None:
            self._unfinished.discard(index)
            if text := checker.finish():
                delta["content"].append({"type": "text", "text": text})
