"""Anthropic's Messages API as an engine speaks it: chat completions into its requests, its answers and streams back.

Written from the public API reference, version 2023-06-01.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from slipway.domain.message import Usage
from slipway.wire.chat import (
    ONLY_HINTS,
    Chat,
    Facts,
    File,
    arguments_of,
    chosen_tool,
    completion_of,
    functions_of,
    joined_turns,
    last_event,
    list_in,
    longest_answer,
    messages_of,
    parts_of,
    read_file,
    refuse,
    schema_of,
    split_data_url,
    stops_of,
    system_text,
    text_in,
    text_of,
    tool_calls_of,
    unknown_part,
)
from slipway.wire.openai import ChunkWriter, ToolCall
from slipway.wire.sse import EventReader
from slipway.wire.thoughts import BLOCKS, CREATED, any_marked, created_in, marked, thoughts_of

API = "Anthropic's Messages API"
DEFAULT_MAX_TOKENS = 4096
"""The API insists on a limit; clients of chat completions may leave it out."""
TRANSLATED = ONLY_HINTS | {
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "model",
    "n",
    "output_config",
    "parallel_tool_calls",
    "response_format",
    "safety_identifier",
    "stop",
    "stream",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "user",
}
FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def write_request(chat: Chat) -> dict[str, Any]:
    """A chat completion request as a Messages request. Unknown fields are passed on.

    Raises `RequestInvalid` for what the API cannot do.
    """
    refuse(chat, API, "n", "logprobs", "top_logprobs", "audio", "functions")
    messages = messages_of(chat)
    request: dict[str, Any] = {
        "model": chat.get("model"),
        "max_tokens": longest_answer(chat) or DEFAULT_MAX_TOKENS,
        "messages": joined_turns((_turn(one) for one in messages if one.get("role") not in SYSTEM), key="content"),
    }
    system = _system(messages)
    if system:
        request["system"] = system
    if isinstance(chat.get("temperature"), int | float):
        # Chat completions reach up to 2, this API to 1.
        request["temperature"] = min(1.0, chat["temperature"])
    for name in ("top_p", "stream"):
        if chat.get(name) is not None:
            request[name] = chat[name]
    if stops := stops_of(chat):
        request["stop_sequences"] = stops
    if person := chat.get("user") or chat.get("safety_identifier"):
        request["metadata"] = {"user_id": person}
    if functions := functions_of(chat):
        request["tools"] = [
            marked(_tool(function), tool) for function, tool in zip(functions, chat["tools"], strict=True)
        ]
        if choice := _tool_choice(chat):
            request["tool_choice"] = choice
    if (schema := schema_of(chat)) is not None:
        form = {"type": "json_schema", "schema": schema or {"type": "object"}}
        config = chat.get("output_config")
        request["output_config"] = (config if isinstance(config, dict) else {}) | {"format": form}
    elif chat.get("output_config") is not None:
        request["output_config"] = chat["output_config"]
    if chat.get("service_tier") == "standard_only":
        request["service_tier"] = chat["service_tier"]
    return request | {name: value for name, value in chat.items() if name not in TRANSLATED}


SYSTEM = ("system", "developer")


def _system(messages: Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
    """What system and developer messages say; in blocks where one of them is marked for the cache."""
    parts = [part for one in messages if one.get("role") in SYSTEM for part in parts_of(one.get("content"))]
    if not any_marked(parts):
        return system_text(messages)
    return [marked({"type": "text", "text": text_of([part])}, part) for part in parts if text_of([part])]


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    if message.get("role") == "tool":
        result = {
            "type": "tool_result",
            "tool_use_id": message.get("tool_call_id"),
            "content": text_of(message.get("content")),
        }
        return {"role": "user", "content": [marked(result, message)]}
    blocks = [marked(_block(part), part) for part in parts_of(message.get("content"))]
    if message.get("role") == "assistant":
        blocks = [*thoughts_of(message), *blocks]
        for given in list_in(message, "tool_calls", param="messages"):
            for call in tool_calls_of({"tool_calls": [given]}):
                use = {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_of(call)}
                blocks.append(marked(use, given))
        return {"role": "assistant", "content": blocks}
    return {"role": "user", "content": blocks}


def _block(part: Mapping[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            return {"type": "text", "text": part.get("text") or ""}
        case "refusal":
            return {"type": "text", "text": part.get("refusal") or ""}
        case "image_url":
            found = split_data_url(part)
            if isinstance(found, str):
                return {"type": "image", "source": {"type": "url", "url": found}}
            return {"type": "image", "source": {"type": "base64", "media_type": found[0], "data": found[1]}}
        case "file":
            return _document(read_file(part))
        case _:
            raise unknown_part(part, API)


def _document(file: File) -> dict[str, Any]:
    if file.url:
        source = {"type": "url", "url": file.url}
    elif file.media_type == "text/plain":
        source = {"type": "text", "media_type": file.media_type, "data": text_in(file)}
    else:
        source = {"type": "base64", "media_type": file.media_type, "data": file.data}
    return {"type": "document", "source": source, "title": file.name}


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    tool = {"name": function.get("name"), "input_schema": function.get("parameters") or {"type": "object"}}
    for name in ("description", "strict"):
        if function.get(name) is not None:
            tool[name] = function[name]
    return tool


def _tool_choice(chat: Chat) -> dict[str, Any] | None:
    chosen = chosen_tool(chat)
    choice: dict[str, Any] | None
    match chosen:
        case "required":
            choice = {"type": "any"}
        case "auto" | "none":
            choice = {"type": chosen}
        case _ if chosen.startswith("="):
            choice = {"type": "tool", "name": chosen[1:]}
        case _:
            choice = None
    if chat.get("parallel_tool_calls") is False and (choice is None or choice["type"] != "none"):
        choice = (choice or {"type": "auto"}) | {"disable_parallel_tool_use": True}
    return choice


# Answers -------------------------------------------------------------------------------------------------------------


def read_answer(answer: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """A whole message as a chat completion. Raises `ValueError` where it is none."""
    blocks = answer.get("content")
    if not isinstance(blocks, list):
        raise ValueError("it holds no message")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    signed: list[dict[str, Any]] = []
    for block in blocks:
        match block.get("type"):
            case "text":
                texts.append(block.get("text") or "")
            case "thinking":
                thoughts.append(block.get("thinking") or "")
                signed.append(block)
            case "redacted_thinking":
                signed.append(block)
            case "tool_use":
                arguments = msgspec.json.encode(block.get("input") or {}).decode()
                calls.append(ToolCall(str(block.get("id")), str(block.get("name")), arguments))
            case _:
                continue  # what the API did on its own side, such as a search of the web
    completion = completion_of(
        facts,
        model=str(answer.get("model") or ""),
        text="".join(texts),
        calls=calls,
        finish=FINISHES.get(str(answer.get("stop_reason")), "stop"),
        usage=read_usage(answer.get("usage")),
        reasoning="".join(thoughts),
    )
    if signed:
        completion["choices"][0]["message"][BLOCKS] = signed
    if created := created_in(answer.get("usage")):
        completion["usage"][CREATED] = created
    return completion


def read_usage(usage: Any) -> Usage | None:
    """Cached tokens stand beside the input tokens here; a chat completion counts them among them."""
    if not isinstance(usage, dict):
        return None
    cached = int(usage.get("cache_read_input_tokens") or 0)
    asked = int(usage.get("input_tokens") or 0) + cached + int(usage.get("cache_creation_input_tokens") or 0)
    return Usage(input_tokens=asked, output_tokens=int(usage.get("output_tokens") or 0), cached_tokens=cached)


def read_error(answer: Any) -> tuple[str, str]:
    """Message and type of an error answer."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("message") or ""), str(error.get("type") or "")


class StreamReader:
    """The events of a Messages stream as chunks of a chat stream."""

    def __init__(self, facts: Facts, *, include_usage: bool) -> None:
        self._chunks = ChunkWriter(id=facts.id, model=facts.model, created=facts.created)
        self._include_usage = include_usage
        self._reader = EventReader()
        self._usage: dict[str, Any] = {}
        self._finish = ""

    def feed(self, piece: bytes) -> bytes:
        """Raises `ValueError` for events that are not JSON."""
        return b"".join(self._event(msgspec.json.decode(data)) for data in self._reader.feed(piece))

    def close(self) -> bytes:
        return b"".join(map(self._event, last_event(self._reader)))

    def _event(self, event: Any) -> bytes:
        chunks = self._chunks
        match event.get("type"):
            case "message_start":
                message = event.get("message") or {}
                if message.get("model"):
                    chunks.says(message["model"])
                self._usage |= message.get("usage") or {}
                return chunks.begin()
            case "content_block_start":
                block = event.get("content_block") or {}
                if block.get("type") == "redacted_thinking":
                    return chunks.thought(block)
                if block.get("type") == "tool_use":
                    return chunks.call(ToolCall(str(block.get("id")), str(block.get("name")), ""))
                return chunks.text(block["text"]) if block.get("text") else b""
            case "content_block_delta":
                return self._delta(event.get("delta") or {})
            case "message_delta":
                self._finish = (event.get("delta") or {}).get("stop_reason") or self._finish
                counts = event.get("usage") or {}
                self._usage |= {name: count for name, count in counts.items() if count is not None}
                return b""
            case "message_stop":
                finish = FINISHES.get(self._finish, "stop")
                created = created_in(self._usage)
                more = {CREATED: created} if created else {}
                return chunks.end(finish, read_usage(self._usage), include_usage=self._include_usage, more=more)
            case "error":
                message, kind = read_error(event)
                return chunks.error(message, kind)
            case _:
                return b""

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        match delta.get("type"):
            case "text_delta":
                return self._chunks.text(delta.get("text") or "")
            case "thinking_delta":
                return self._chunks.reasoning(delta.get("thinking") or "")
            case "signature_delta":
                signature = delta.get("signature") or ""
                return self._chunks.thought({"type": "thinking", "thinking": "", "signature": signature})
            case "input_json_delta":
                piece = delta.get("partial_json") or ""
                return self._chunks.arguments(piece) if piece else b""
            case _:
                return b""
