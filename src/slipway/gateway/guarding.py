"""Guardrails on requests and answers that are otherwise passed on as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.guardrail import Guardrails, RailSpec, TextSource, Verdict
from slipway.gateway.fields import Fields
from slipway.gateway.operations import Operation
from slipway.guard.checker import check
from slipway.guard.stream import StreamChecker
from slipway.wire.sse import EventReader, write_event
from slipway.wire.texts import NumbersForText, rewrite_named, rewrite_texts

SOURCES: dict[str, TextSource] = {"user": "user", "tool": "tool", "function": "tool"}
NULL = msgspec.Raw(b"null")
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
            if checked.text != text:
                changed = True
                # Token by token, they say it all over again.
                choice.pop("logprobs", None)
            holder[key] = checked.text
    return (msgspec.json.encode(completion) if changed else body), verdicts


def check_fields(
    fields: Fields, operation: Operation, guardrails: Guardrails, *, label: str
) -> tuple[Fields, list[Verdict]]:
    """The fields of another call than a chat, with the texts in them checked; the same where nothing was redacted.

    Raises `Blocked`, and `RequestInvalid` for what the guardrails of the release `label` could not read, now or in the
    answer.
    """
    _refuse_unreadable(fields, operation, guardrails, label)
    verdicts: list[Verdict] = []
    for name, source in operation.asked.items():
        if name not in fields or not (guardrails.before or name == operation.spoken):
            continue
        try:
            given = msgspec.json.decode(fields[name])
            checked = rewrite_texts(given, _checking(guardrails.before, source, guardrails, verdicts))
            if name == operation.spoken:
                checked = rewrite_texts(checked, _checking(guardrails.after, "answer", guardrails, verdicts))
        except NumbersForText:
            message = f"'{name}' holds numbers of tokens, which the guardrails of {label} cannot read: send texts."
            raise RequestInvalid(message, param=name) from None
        except (ValueError, RecursionError):
            raise RequestInvalid(f"'{name}' is wrong: it cannot be read.", param=name) from None
        if checked != given:
            fields = fields | {name: msgspec.Raw(msgspec.json.encode(checked))}
    return fields, verdicts


def check_named(body: bytes, operation: Operation, guardrails: Guardrails) -> tuple[bytes, list[Verdict]]:
    """A whole answer to another call than a chat, checked; byte for byte the same where nothing was redacted.

    Raises `Blocked`, `ValueError`."""
    answer = msgspec.json.decode(body)
    verdicts: list[Verdict] = []
    checked = rewrite_named(answer, operation.said, _checking(guardrails.after, "answer", guardrails, verdicts))
    return (body if checked == answer else msgspec.json.encode(checked)), verdicts


def check_text(text: str, guardrails: Guardrails) -> tuple[str, list[Verdict]]:
    """An answer that is a text and nothing else, checked. Raises `Blocked`."""
    verdicts: list[Verdict] = []
    return _checking(guardrails.after, "answer", guardrails, verdicts)(text), verdicts


def _checking(
    rails: Sequence[RailSpec], source: TextSource, guardrails: Guardrails, verdicts: list[Verdict]
) -> Callable[[str], str]:
    """What checks one text after the other and gives it back as it may go on. Raises `Blocked`."""

    def checking(text: str) -> str:
        checked = check(text, rails, source=source, when_undecided=guardrails.when_undecided)
        verdicts.extend(checked.verdicts)
        checked.raise_if_blocked()
        return checked.text

    return checking


def _refuse_unreadable(fields: Fields, operation: Operation, guardrails: Guardrails, label: str) -> None:
    for name in operation.unread if guardrails.before else ():
        if fields.get(name, NULL) != NULL:
            raise RequestInvalid(
                f"'{name}' is not possible here: the guardrails of {label} cannot read it.", param=name
            )
    for name, harmless in operation.barred.items() if guardrails.after else ():
        if name not in fields:
            continue
        try:
            given = msgspec.json.decode(fields[name])
        except (ValueError, RecursionError):
            given = fields
        if type(given) in (int, float) or given not in harmless:  # 0 equals false, and is another wish
            told = " or ".join(f"'{one}'" for one in harmless if isinstance(one, str))
            raise RequestInvalid(
                f"'{name}' is not possible here: the guardrails of {label} could not read all of the answer."
                + (f" Ask for {told}." if told else ""),
                param=name,
            )


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
                choice = self._choice_of(index, text)
                said += write_event(msgspec.json.encode(self._frame | {"choices": [choice]}))
        self._unfinished.clear()
        return said

    def _event(self, data: bytes) -> bytes:
        if data == b"[DONE]":
            return self._unsaid() + write_event(data)
        event = msgspec.json.decode(data)
        choices = event.get("choices") if isinstance(event, dict) else None
        if not choices:
            return write_event(data)
        if not self._frame:
            self._frame = {key: value for key, value in event.items() if key not in ("choices", "usage")}
        held = False
        for choice in choices:
            held = self._choice(choice) or held
        if held and len(choices) == 1 and not event.get("usage"):
            return b""
        return write_event(msgspec.json.encode(event))

    def _choice_of(self, index: int, text: str) -> dict[str, Any]:
        return {"index": index, "delta": {"content": text}, "finish_reason": None}

    def _checker(self, index: int) -> StreamChecker:
        checker = self._checkers.get(index)
        if checker is None:
            checker = self._checkers[index] = StreamChecker(
                self._guardrails.after, hold_back=self._hold_back, when_undecided=self._guardrails.when_undecided
            )
        return checker

    def _choice(self, choice: dict[str, Any]) -> bool:
        """Replaces the text of a delta by what may go out; whether the delta holds nothing else then."""
        index = int(choice.get("index") or 0)
        checker = self._checker(index)
        if choice.get("logprobs"):
            # They would say, token by token, what is held back.
            choice["logprobs"] = None
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


class GuardedTextStream(GuardedStream):
    """The same for the stream of a text completion, whose choices hold a text instead of a delta."""

    def _choice_of(self, index: int, text: str) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": None}

    def _choice(self, choice: dict[str, Any]) -> bool:
        index = int(choice.get("index") or 0)
        checker, text = self._checker(index), choice.get("text")
        out = checker.feed(text) if isinstance(text, str) and text else ""
        finished = choice.get("finish_reason") is not None
        if finished:
            self._unfinished.discard(index)
            out += checker.finish()
        elif text:
            self._unfinished.add(index)
        choice["text"] = out
        return bool(text) and not out and not finished
