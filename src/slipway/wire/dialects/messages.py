"""Messages, however they are written, as role and plain text; what is no text stays beside it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from slipway.wire.dialects.values import as_mapping, as_text, readable

BESIDE_TEXT = ("tool_calls", "tool_call_id", "name")
CAMEL = {"toolCalls": "tool_calls", "toolCallId": "tool_call_id"}
ROLES = {"human": "user", "ai": "assistant", "model": "assistant"}


def parsed_messages(value: Any, *, role: str) -> list[dict[str, Any]]:
    """One JSON value: a list of messages, one message, bare parts or text."""
    value = readable(value)
    match value:
        case None | "":
            return []
        case str():
            return [{"role": role, "text": value}]
        case [*entries]:
            if all(isinstance(entry, Mapping) and "role" not in entry for entry in entries):
                # System instructions are a bare list of parts.
                return [a_message({"role": role, "parts": entries})]
            return [a_message(as_mapping(entry), role=role) for entry in entries]
        case {}:
            return [a_message(as_mapping(value), role=role)]
        case _:
            return [{"role": role, "text": str(value)}]


def a_message(entry: Mapping[str, Any], *, role: str = "user") -> dict[str, Any]:
    """One message as role and plain text; tool calls and parts that are no text are kept beside it."""
    said = as_text(entry.get("role")) or role
    made: dict[str, Any] = {"role": ROLES.get(said, said)}
    texts: list[str] = []
    others: list[Any] = []
    body = entry.get("parts", entry.get("contents", entry.get("content")))
    read = readable(body)
    for part in read if isinstance(read, list) else [body]:
        part = as_mapping(part["message_content"]) if isinstance(part, Mapping) and "message_content" in part else part
        match part:
            case None:
                continue
            case str():
                texts.append(part)
            case {"text": str(text)} | {"type": "text", "content": str(text)} | {"content": str(text), "type": "text"}:
                texts.append(text)
            case _:
                others.append(part)
    made["text"] = "\n".join(texts)
    if others:
        made["parts"] = others
    for key in BESIDE_TEXT:
        if entry.get(key):
            made[key] = entry[key]
    for key, ours in CAMEL.items():
        if entry.get(key) and ours not in made:
            made[ours] = entry[key]
    return made


def messages_within(value: Any) -> list[dict[str, Any]]:
    """Messages where a value plainly holds some: a request of the chat API, or a list of messages; else nothing."""
    match value:
        case {"messages": [{"role": _}, *_] as entries}:
            return [a_message(as_mapping(entry)) for entry in entries]
        case [{"role": _}, *_] as entries:
            return [a_message(as_mapping(entry)) for entry in entries]
        case _:
            return []


def answers_within(value: Any) -> list[dict[str, Any]]:
    """What the assistant said, where a value plainly is a response of the chat API or its message; else nothing."""
    match value:
        case {"choices": [{"message": {}}, *_] as choices}:
            return [a_message(as_mapping(choice.get("message")), role="assistant") for choice in choices]
        case {"role": "assistant"}:
            return [a_message(value, role="assistant")]
        case [{"role": _}, *_]:
            return [a_message(as_mapping(entry), role="assistant") for entry in value]
        case _:
            return []


def split_at_answer(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A conversation as what went in and what the assistant said last."""
    if messages and messages[-1].get("role") == "assistant":
        return messages[:-1], messages[-1:]
    return messages, []


def passages_in(entries: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Documents of a retrieval as we name them."""
    for entry in entries:
        told = as_mapping(as_mapping(entry).get("document", entry))
        passage: dict[str, Any] = {
            "document": as_text(told.get("id")),
            "text": as_text(told.get("content", told.get("text"))),
            "score": told.get("score"),
            "metadata": readable(told.get("metadata")),
        }
        yield {key: value for key, value in passage.items() if value not in (None, "")}
