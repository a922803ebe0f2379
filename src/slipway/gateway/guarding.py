"""Guardrails on requests and answers that are otherwise passed on as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.guardrail import Guardrails, RailSpec, TextSource, Verdict
from slipway.guard.checker import check, rail_of
from slipway.guard.stream import StreamChecker
from slipway.wire.sse import EventReader, write_event
from slipway.wire.thoughts import BLOCKS

SOURCES: dict[str, TextSource] = {"user": "user", "tool": "tool", "function": "tool"}
ANSWER = "content"
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details")
OTHERS = ("refusal", *THOUGHTS)
"""Fields beside the answer in which a model says something."""
PART_TEXTS = ("text", "summary")
PART_TYPES = {"reasoning_details": "reasoning.text"}
CALL_KINDS = ("function", "custom")
CALL_TEXTS = ("arguments", "input")
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
    """A whole chat completion, checked; byte for byte the same where nothing was redacted. Raises `Blocked`.

    Thoughts and calls of tools are read by the rails that look for something wherever it stands (see `inside`).
    """
    completion = msgspec.json.decode(body)
    verdicts: list[Verdict] = []
    changed = False
    inner = inside(guardrails)
    for choice in completion.get("choices") or () if isinstance(completion, dict) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            continue
        for name in (ANSWER, *OTHERS):
            specs = guardrails.after if name == ANSWER else inner
            for holder, key in _texts_of(message, name) if specs else ():
                text = holder[key]
                checked = check(text, specs, source="answer", when_undecided=guardrails.when_undecided)
                verdicts.extend(checked.verdicts)
                checked.raise_if_blocked()
                holder[key] = checked.text
                if checked.text != text:
                    changed = True
                    # Token by token, they say it all over again.
                    choice.pop("logprobs", None)
                    if name in THOUGHTS:
                        # They are sealed with the thoughts in them: changed, no engine would take them again.
                        message.pop(BLOCKS, None)
        for arguments in _arguments_of(message) if inner else ():
            verdicts.extend(_check_call(arguments, inner, guardrails))
    return (msgspec.json.encode(completion) if changed else body), verdicts


def inside(guardrails: Guardrails) -> tuple[RailSpec, ...]:
    """The after rails that look for something wherever it stands (personal data, secrets): these read what a model
    thinks and what it tells tools too. Lengths and forms are asked of the answer alone."""
    return tuple(spec for spec in guardrails.after if rail_of(spec).reach == "local")


def _texts_of(message: dict[str, Any], name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Where the texts of one field of a message or a delta stand: it is one, or parts that hold some."""
    content = message.get(name)
    if isinstance(content, str):
        yield message, name
    elif isinstance(content, list):
        for part in content:
            for key in PART_TEXTS:
                if isinstance(part, dict) and isinstance(part.get(key), str):
                    yield part, key


def _arguments_of(message: dict[str, Any]) -> Iterator[str]:
    """What a message tells tools."""
    calls = message.get("tool_calls")
    told = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    for holder in [*(call.get(kind) for call in told for kind in CALL_KINDS), message.get("function_call")]:
        texts = map(holder.get, CALL_TEXTS) if isinstance(holder, dict) else ()
        yield from (text for text in texts if isinstance(text, str))


def _check_call(arguments: str, rails: Sequence[RailSpec], guardrails: Guardrails) -> list[Verdict]:
    """A tool needs what it is told as it was told: what would be redacted elsewhere is flagged here. Raises
    `Blocked`."""
    checked = check(arguments, rails, source="answer", when_undecided=guardrails.when_undecided)
    checked.raise_if_blocked()
    return [replace(one, decision="flag", text=None) if one.decision == "redact" else one for one in checked.verdicts]


class GuardedStream:
    """The after rails on a chat stream: `feed` takes its pieces and returns events that may go out.

    Text is held back until the rails have seen enough of it, calls of tools until they are complete, each choice by
    itself; everything else in an event (usage, errors) goes through as it is.
    """

    def __init__(self, guardrails: Guardrails, *, hold_back: int) -> None:
        self._guardrails = guardrails
        self._hold_back = hold_back
        self._inner = inside(guardrails)
        self._reader = EventReader()
        self._choices: dict[int, _Choice] = {}
        self._frame: dict[str, Any] = {}
        """What events of this stream have beside their choices."""

    @property
    def verdicts(self) -> list[Verdict]:
        return [verdict for choice in self._choices.values() for verdict in choice.verdicts]

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
        for index in sorted(self._choices):
            choice = self._choices[index]
            if choice.holds:
                said += self._said(index, choice.pass_on({}, last=True)) + self._said(index, choice.told())
        return said

    def _said(self, index: int, delta: dict[str, Any]) -> bytes:
        """An event of our own."""
        if not delta:
            return b""
        choice = self._with_delta({"index": index, "finish_reason": None}, delta)
        return write_event(msgspec.json.encode(self._frame | {"choices": [choice]}))

    def _delta_of(self, choice: dict[str, Any]) -> dict[str, Any]:
        return choice.get("delta") or {}

    def _with_delta(self, choice: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
        return choice | {"delta": delta}

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
        held, before = False, b""
        for place, shape in enumerate(choices):
            index = int(shape.get("index") or 0)
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = _Choice(self._guardrails, self._inner, self._hold_back)
            delta, last = self._delta_of(shape), shape.get("finish_reason") is not None
            passed = choice.pass_on(delta, last=last)
            if last and (told := choice.told()):
                # In the order in which it was said: what was held back of the answer, then the calls, then the end.
                before += self._said(index, passed) + self._said(index, told)
                passed = {}
            held = held or (not last and passed != delta and not any(passed.values()))
            if shape.get("logprobs"):
                # They would say, token by token, what is held back.
                shape["logprobs"] = None
            if passed or delta:
                choices[place] = self._with_delta(shape, passed)
        if held and len(choices) == 1 and not event.get("usage"):
            return before
        return before + write_event(msgspec.json.encode(event))


class GuardedTextStream(GuardedStream):
    """The same for the stream of a text completion, whose choices hold a text instead of a delta."""

    def _delta_of(self, choice: dict[str, Any]) -> dict[str, Any]:
        return {ANSWER: choice["text"]} if isinstance(choice.get("text"), str) else {}

    def _with_delta(self, choice: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
        return choice | {"text": delta.get(ANSWER) or "", "logprobs": None}


class _Choice:
    """One choice of a stream: what of its deltas may go out, and when."""

    def __init__(self, guardrails: Guardrails, inner: Sequence[RailSpec], hold_back: int) -> None:
        self._guardrails, self._inner, self._hold_back = guardrails, inner, hold_back
        self._open: dict[str, StreamChecker] = {}
        """By field: what is said there is not known to be complete."""
        self._parts: dict[str, str] = {}
        """Fields that come in parts, and where the text of a part stands."""
        self._done: list[tuple[str, StreamChecker]] = []
        self._calls: dict[Any, dict[str, Any]] = {}
        """Calls of tools by their index, as far as they have come."""
        self._function: dict[str, Any] = {}
        self._told: list[Verdict] = []

    @property
    def verdicts(self) -> list[Verdict]:
        return [verdict for _, checker in self._checkers() for verdict in checker.verdicts] + self._told

    def _checkers(self) -> list[tuple[str, StreamChecker]]:
        return [*self._done, *self._open.items()]

    @property
    def holds(self) -> bool:
        """Whether something may be left to say."""
        return bool(self._open or self._calls or self._function)

    def pass_on(self, delta: dict[str, Any], *, last: bool) -> dict[str, Any]:
        """What of a delta may go out now, with what was held back before it. Raises `Blocked`."""
        out = dict(delta)
        if self._inner:
            self._hold(out)
        said = [name for name in (ANSWER, *OTHERS) if delta.get(name) and (name == ANSWER or self._inner)]
        for name in said:
            if isinstance(delta[name], list):
                out[name] = [dict(part) if isinstance(part, dict) else part for part in delta[name]]
            for holder, key in _texts_of(out, name):
                if holder is not out:
                    self._parts[name] = key
                holder[key] = self._checker(name).feed(holder[key])
        # Thoughts are complete where something else begins; the answer is when its choice is.
        goes_on = bool(said) or len(out) < len(delta) or bool(delta.get(BLOCKS))
        for name in [name for name in self._open if last or (goes_on and name != ANSWER and name not in said)]:
            self._end(name, out)
        if out.get(BLOCKS) and self._thoughts_changed():
            out.pop(BLOCKS)
        if last and isinstance(out.get(ANSWER), str) and not out[ANSWER]:
            out.pop(ANSWER)
        return out

    def told(self) -> dict[str, Any]:
        """A delta with the calls of tools, now that they are complete. Raises `Blocked`."""
        delta: dict[str, Any] = {}
        if self._calls:
            delta["tool_calls"] = list(self._calls.values())
        if self._function:
            delta["function_call"] = self._function
        self._calls, self._function = {}, {}
        for arguments in _arguments_of(delta):
            self._told += _check_call(arguments, self._inner, self._guardrails)
        return delta

    def _hold(self, out: dict[str, Any]) -> None:
        calls, function = out.pop("tool_calls", None), out.pop("function_call", None)
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                number = call.get("index")
                number = place if number is None else number
                self._calls[number] = _joined(self._calls.get(number) or {}, call)
        if isinstance(function, dict):
            self._function = _joined(self._function, function)

    def _thoughts_changed(self) -> bool:
        """Thoughts are sealed as they were: changed, no engine would take them again."""
        thoughts = (checker for name, checker in self._checkers() if name in THOUGHTS)
        return any(verdict.decision == "redact" for checker in thoughts for verdict in checker.verdicts)

    def _checker(self, name: str) -> StreamChecker:
        checker = self._open.get(name)
        if checker is None:
            checker = self._open[name] = StreamChecker(
                self._guardrails.after if name == ANSWER else self._inner,
                hold_back=self._hold_back,
                when_undecided=self._guardrails.when_undecided,
            )
        return checker

    def _end(self, name: str, out: dict[str, Any]) -> None:
        checker = self._open.pop(name)
        self._done.append((name, checker))
        tail = checker.finish()
        if not tail:
            return
        key = self._parts.get(name)
        if key is None:
            out[name] = (out.get(name) or "") + tail
        else:
            out[name] = [*(out.get(name) or ()), {"type": PART_TYPES.get(name, "text"), key: tail}]


def _joined(before: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A call of a tool and its next piece: texts go on, everything else is said once."""
    joined = dict(before)
    for key, value in more.items():
        if isinstance(value, dict):
            known = joined.get(key)
            joined[key] = _joined(known if isinstance(known, dict) else {}, value)
        elif key in CALL_TEXTS and isinstance(value, str):
            joined[key] = (joined.get(key) or "") + value
        elif value is not None or key not in joined:
            joined[key] = value
    return joined
