"""What was said in a step of a trace, whoever recorded it: question, messages, reply, passages."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.domain.trace import Span, Trace

NOT_MORE = ("question", "answer", "messages", "reply", "output", "passages", "input", "query")
"""Keys of content that pages show by themselves."""


def question_of(trace: Trace) -> str:
    """What the user asked: the question, else the user's last message; empty when nothing of it was recorded."""
    for span in trace.spans:
        for key in ("question", "query", "input"):
            if isinstance(asked := span.content.get(key), str) and asked.strip():
                return asked.strip()
        said = [message["text"] for message in messages_of(span) if message["role"] == "user"]
        if said:
            return str(said[-1])
    return ""


def answer_of(trace: Trace) -> str:
    """What came back: the answer of the request, else the reply of the last call."""
    root = reply_of(trace.root)
    if root:
        return root
    return next((said for span in reversed(trace.spans) if span.kind == "chat" and (said := reply_of(span))), "")


def messages_of(span: Span) -> list[dict[str, str]]:
    """Role and text of what was sent; calls of tools and other parts are written out as JSON."""
    return [_message(one, "user") for one in dicts(span.content.get("messages"))]


def reply_of(span: Span) -> str:
    """The text that came back."""
    for key in ("answer", "reply"):
        if isinstance(said := span.content.get(key), str) and said:
            return said
    output = span.content.get("output")
    if isinstance(output, str):
        return output
    if messages := dicts(output):
        return "\n\n".join(_message(one, "assistant")["text"] for one in messages)
    return "" if output in (None, [], {}) else written(output)


def passages_of(trace: Trace) -> list[dict[str, Any]]:
    """Every passage that the trace retrieved, in its order."""
    return [dict(passage) for span in trace.spans for passage in dicts(span.content.get("passages"))]


def dicts(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def written(value: object) -> str:
    """A value as text: strings as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _message(one: Mapping[str, Any], role: str) -> dict[str, str]:
    text = one.get("text", one.get("content"))
    rest = {key: value for key, value in one.items() if key not in ("role", "text", "content") and value}
    parts: Sequence[str] = [
        *([written(text)] if text not in (None, "", []) else []),
        *([written(rest)] if rest else []),
    ]
    return {"role": str(one.get("role") or role), "text": "\n".join(parts)}
