"""The OpenAI Responses API as an engine speaks it: chat completions into its requests, its answers and streams back.

Written from the public API reference; nothing is kept on the other side (`store` is false).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from slipway.domain.message import Usage
from slipway.wire.chat import (
    Chat,
    Facts,
    chosen_tool,
    completion_of,
    functions_of,
    last_event,
    longest_answer,
    messages_of,
    parts_of,
    refuse,
    system_text,
    text_of,
    tool_calls_of,
    unknown_part,
)
from slipway.wire.openai import ChunkWriter, ToolCall
from slipway.wire.sse import EventReader

API = "the Responses API"
PASSED_ON = (
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "user",
    "safety_identifier",
    "metadata",
    "service_tier",
    "stream",
)


def write_request(chat: Chat) -> dict[str, Any]:
    """A chat completion request as a Responses request. Raises `RequestInvalid` for what the API cannot do."""
    refuse(chat, API, "n", "logprobs", "audio", "functions", "stop")
    messages = messages_of(chat)
    items = [item for one in messages if one.get("role") not in ("system", "developer") for item in _items(one)]
    request: dict[str, Any] = {"model": chat.get("model"), "input": items, "store": False}
    if system := system_text(messages):
        request["instructions"] = system
    if (longest := longest_answer(chat)) is not None:
        request["max_output_tokens"] = longest
    request |= {name: chat[name] for name in PASSED_ON if chat.get(name) is not None}
    if functions := functions_of(chat):
        request["tools"] = [{"type": "function", **function} for function in functions]
        chosen = chosen_tool(chat)
        if chosen:
            request["tool_choice"] = {"type": "function", "name": chosen[1:]} if chosen.startswith("=") else chosen
    if chat.get("reasoning_effort"):
        request["reasoning"] = {"effort": chat["reasoning_effort"]}
    form = chat.get("response_format")
    if isinstance(form, dict) and form.get("type") not in (None, "text"):
        inner = form.get("json_schema")
        request["text"] = {"format": {"type": form["type"], **(inner if isinstance(inner, dict) else {})}}
    return request


def _items(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    role = message.get("role")
    if role == "tool":
        output = text_of(message.get("content"))
        yield {"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": output}
        return
    parts = [
        _part(part, "output_text" if role == "assistant" else "input_text") for part in parts_of(message.get("content"))
    ]
    if parts:
        yield {"type": "message", "role": role, "content": parts}
    for call in tool_calls_of(message):
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _part(part: Mapping[str, Any], text_type: str) -> dict[str, Any]:
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            return {"type": text_type, "text": part.get("text") or ""}
        case "refusal":
            return {"type": "refusal", "refusal": part.get("refusal") or ""}
        case "image_url":
            image = part.get("image_url")
            url, detail = (image.get("url"), image.get("detail")) if isinstance(image, dict) else (image, None)
            return {"type": "input_image", "image_url": url, "detail": detail or "auto"}
        case "file" if isinstance(part.get("file"), dict):
            return {"type": "input_file", **part["file"]}
        case _:
            raise unknown_part(part, API)


# Answers -------------------------------------------------------------------------------------------------------------


def read_answer(answer: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """A whole response as a chat completion. Raises `ValueError` where it is none, with the reason where it failed."""
    output = answer.get("output")
    if answer.get("status") == "failed" or not isinstance(output, list):
        raise ValueError(read_error(answer)[0] or "it holds no output")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for item in output:
        match item.get("type"):
            case "message":
                texts += [part.get("text") or part.get("refusal") or "" for part in item.get("content") or ()]
            case "function_call":
                calls.append(_call(item))
            case "reasoning":
                thoughts += [part.get("text") or "" for part in item.get("summary") or ()]
            case _:
                continue  # what the API did on its own side
    return completion_of(
        facts,
        model=str(answer.get("model") or ""),
        text="".join(texts),
        calls=calls,
        finish=_finish(answer, called=bool(calls)),
        usage=read_usage(answer.get("usage")),
        reasoning="\n\n".join(thoughts),
    )


def _call(item: Mapping[str, Any]) -> ToolCall:
    return ToolCall(str(item.get("call_id")), str(item.get("name")), str(item.get("arguments") or ""))


def _finish(answer: Mapping[str, Any], *, called: bool) -> str:
    if answer.get("status") == "incomplete":
        reason = (answer.get("incomplete_details") or {}).get("reason")
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if called else "stop"


def read_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    asked, wrote = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
    return Usage(
        input_tokens=int(usage.get("input_tokens") or 0),
        output_tokens=int(usage.get("output_tokens") or 0),
        cached_tokens=int(asked.get("cached_tokens") or 0),
        reasoning_tokens=int(wrote.get("reasoning_tokens") or 0),
    )


def read_error(answer: Any) -> tuple[str, str]:
    """Message and code of an error answer or of a response that failed."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("message") or ""), str(error.get("code") or error.get("type") or "")


class StreamReader:
    """The events of a response as chunks of a chat stream."""

    def __init__(self, facts: Facts, *, include_usage: bool) -> None:
        self._chunks = ChunkWriter(id=facts.id, model=facts.model, created=facts.created)
        self._include_usage = include_usage
        self._reader = EventReader()

    def feed(self, piece: bytes) -> bytes:
        """Raises `ValueError` for events that are not JSON."""
        return b"".join(
            self._event(msgspec.json.decode(data)) for data in self._reader.feed(piece) if data != b"[DONE]"
        )

    def close(self) -> bytes:
        return b"".join(map(self._event, last_event(self._reader)))

    def _event(self, event: Any) -> bytes:
        chunks = self._chunks
        match event.get("type"):
            case "response.created":
                if model := (event.get("response") or {}).get("model"):
                    chunks.says(model)
                return chunks.begin()
            case "response.output_text.delta" | "response.refusal.delta":
                return chunks.text(event.get("delta") or "")
            case "response.reasoning_summary_text.delta":
                return chunks.reasoning(event.get("delta") or "")
            case "response.output_item.added" if (event.get("item") or {}).get("type") == "function_call":
                return chunks.call(_call(event["item"])._replace(arguments=""))
            case "response.function_call_arguments.delta":
                return chunks.arguments(event.get("delta") or "")
            case "response.completed" | "response.incomplete":
                response = event.get("response") or {}
                finish = _finish(response, called=chunks.called)
                return chunks.end(finish, read_usage(response.get("usage")), include_usage=self._include_usage)
            case "response.failed":
                message, code = read_error(event.get("response"))
                return chunks.error(message or "the response failed", code)
            case "error":
                return chunks.error(str(event.get("message") or "error"), str(event.get("code") or ""))
            case _:
                return b""
