"""Text completions, the older call of the OpenAI API: read as the chat completions that say the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from slipway.wire.errors import UNREADABLE
from slipway.wire.openai import DONE_LINES
from slipway.wire.sse import DONE, EventReader, write_event


def completion_in(body: bytes) -> bytes:
    """A whole text completion as the chat completion that says the same, for records; `{}` where it is none."""
    try:
        return msgspec.json.encode(_as_chat(msgspec.json.decode(body), "message"))
    except UNREADABLE:
        return b"{}"


def chunks_in(raw: bytes) -> bytes:
    """Its stream, as far as it came, as the chunks that say the same, for records."""
    done = DONE if raw.rstrip().endswith(DONE_LINES) else b""
    return b"".join(_chunks(raw)) + done


def count_prompts(prompt: bytes | memoryview) -> int:
    """How many texts are to be completed: a list of texts or of token lists is that many, everything else one."""
    try:
        given = msgspec.json.decode(prompt)
    except (ValueError, RecursionError):
        return 1
    several = isinstance(given, list) and len(given) > 0 and not isinstance(given[0], int)
    return len(given) if several else 1


def write_blocked(*, id: str, model: str, created: int, notice: dict[str, Any]) -> bytes:
    """The end of a stream that a guardrail stopped."""
    choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": "content_filter"}
    chunk = {"id": id, "object": "text_completion", "created": created, "model": model, "choices": [choice], **notice}
    return write_event(msgspec.json.encode(chunk)) + DONE


def _chunks(raw: bytes) -> Iterator[bytes]:
    reader = EventReader()
    try:
        for data in [*reader.feed(raw), *reader.close()]:
            if data != b"[DONE]":
                yield write_event(msgspec.json.encode(_as_chat(msgspec.json.decode(data), "delta")))
    except UNREADABLE:
        return


def _as_chat(completion: dict[str, Any], holder: str) -> dict[str, Any]:
    choices = [
        {
            "index": choice.get("index", 0),
            holder: {"content": choice.get("text")},
            "finish_reason": choice.get("finish_reason"),
        }
        for choice in completion.get("choices") or ()
    ]
    return completion | {"choices": choices}
