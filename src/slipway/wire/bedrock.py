"""Amazon Bedrock's Converse API as an engine speaks it: chat completions into its requests, answers and streams back.

Written from the public API reference; the framing of its streams is in `event_stream.py`, its signature in `sigv4.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.message import Usage
from slipway.wire.chat import (
    Chat,
    Facts,
    File,
    arguments_of,
    chosen_tool,
    completion_of,
    functions_of,
    joined_turns,
    longest_answer,
    messages_of,
    parts_of,
    read_file,
    refuse,
    schema_of,
    split_data_url,
    stops_of,
    system_text,
    text_of,
    tool_calls_of,
    unknown_part,
)
from slipway.wire.event_stream import FrameReader
from slipway.wire.openai import ChunkWriter, ToolCall

API = "Bedrock's Converse API"
IMAGE_FORMATS = frozenset({"png", "jpeg", "gif", "webp"})
DOCUMENT_FORMATS = {
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9()\[\]-]+")
"""The API takes these in the name of a document, and single blanks."""
FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


def write_request(chat: Chat) -> dict[str, Any]:
    """A chat completion request as a Converse request; the model stands in its address.

    Raises `RequestInvalid` for what the API cannot do.
    """
    refuse(chat, API, "n", "logprobs", "top_logprobs", "audio", "functions")
    if schema_of(chat) is not None:
        raise RequestInvalid(
            f"'response_format' is not possible here: {API} has no such thing.", param="response_format"
        )
    messages = messages_of(chat)
    turns = (_turn(one) for one in messages if one.get("role") not in ("system", "developer"))
    request: dict[str, Any] = {"messages": joined_turns(_named_apart(turns), key="content")}
    if system := system_text(messages):
        request["system"] = [{"text": system}]
    config: dict[str, Any] = {}
    if (longest := longest_answer(chat)) is not None:
        config["maxTokens"] = longest
    if isinstance(chat.get("temperature"), int | float):
        config["temperature"] = min(1.0, chat["temperature"])
    if chat.get("top_p") is not None:
        config["topP"] = chat["top_p"]
    if stops := stops_of(chat):
        config["stopSequences"] = stops
    if config:
        request["inferenceConfig"] = config
    if (functions := functions_of(chat)) and chosen_tool(chat) != "none":
        request["toolConfig"] = {"tools": [_tool(function) for function in functions]}
        if choice := _tool_choice(chat):
            request["toolConfig"]["toolChoice"] = choice
    return request


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    if message.get("role") == "tool":
        result = {
            "toolUseId": message.get("tool_call_id"),
            "content": [{"text": text_of(message.get("content"))}],
        }
        return {"role": "user", "content": [{"toolResult": result}]}
    blocks = [_block(part) for part in parts_of(message.get("content"))]
    if message.get("role") != "assistant":
        return {"role": "user", "content": blocks}
    calls = [
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": arguments_of(call)}}
        for call in tool_calls_of(message)
    ]
    return {"role": "assistant", "content": [*blocks, *calls]}


def _block(part: Mapping[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            return {"text": part.get("text") or ""}
        case "refusal":
            return {"text": part.get("refusal") or ""}
        case "image_url":
            found = split_data_url(part)
            form = "" if isinstance(found, str) else found[0].removeprefix("image/")
            if isinstance(found, str) or form not in IMAGE_FORMATS:
                raise RequestInvalid(
                    f"An image must come along as a data URL (png, jpeg, gif, webp): {API} fetches none.",
                    param="messages",
                )
            return {"image": {"format": form, "source": {"bytes": found[1]}}}
        case "file":
            return _document(read_file(part))
        case _:
            raise unknown_part(part, API)


def _document(file: File) -> dict[str, Any]:
    form = DOCUMENT_FORMATS.get(file.media_type, "")
    if file.url or not form:
        known = ", ".join(sorted(set(DOCUMENT_FORMATS.values())))
        raise RequestInvalid(
            f"The file '{file.name}' must come along in base64 as one of {known}: {API} fetches none.",
            param="messages",
        )
    name = NOT_IN_NAMES.sub(" ", file.name.rpartition(".")[0] or file.name).strip()
    return {"document": {"format": form, "name": name or "file", "source": {"bytes": file.data}}}


def _named_apart(turns: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The turns with another name for each document: the API refuses two of one name."""
    seen: Counter[str] = Counter()
    for turn in turns:
        for block in turn["content"]:
            if document := block.get("document"):
                seen[document["name"]] += 1
                if seen[document["name"]] > 1:
                    document["name"] += f" ({seen[document['name']]})"
        yield turn


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    spec = {"name": function.get("name"), "inputSchema": {"json": function.get("parameters") or {"type": "object"}}}
    if function.get("description"):
        spec["description"] = function["description"]
    return {"toolSpec": spec}


def _tool_choice(chat: Chat) -> dict[str, Any] | None:
    chosen = chosen_tool(chat)
    match chosen:
        case "auto":
            return {"auto": {}}
        case "required":
            return {"any": {}}
        case _ if chosen.startswith("="):
            return {"tool": {"name": chosen[1:]}}
        case _:
            return None


# Answers -------------------------------------------------------------------------------------------------------------


def read_answer(answer: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """A whole Converse answer as a chat completion. Raises `ValueError` where it is none."""
    message = (answer.get("output") or {}).get("message") if isinstance(answer.get("output"), dict) else None
    if not isinstance(message, dict):
        raise ValueError("it holds no message")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block in message.get("content") or ():
        if "text" in block:
            texts.append(block["text"])
        elif "toolUse" in block:
            use = block["toolUse"]
            arguments = msgspec.json.encode(use.get("input") or {}).decode()
            calls.append(ToolCall(str(use.get("toolUseId")), str(use.get("name")), arguments))
        elif "reasoningContent" in block:
            thoughts.append(((block["reasoningContent"] or {}).get("reasoningText") or {}).get("text") or "")
    return completion_of(
        facts,
        model="",
        text="".join(texts),
        calls=calls,
        finish=FINISHES.get(str(answer.get("stopReason")), "stop"),
        usage=read_usage(answer.get("usage")),
        reasoning="".join(thoughts),
    )


def read_usage(usage: Any) -> Usage | None:
    """Cached tokens stand beside the input tokens here; a chat completion counts them among them."""
    if not isinstance(usage, dict):
        return None
    cached = int(usage.get("cacheReadInputTokens") or 0)
    asked = int(usage.get("inputTokens") or 0) + cached + int(usage.get("cacheWriteInputTokens") or 0)
    return Usage(input_tokens=asked, output_tokens=int(usage.get("outputTokens") or 0), cached_tokens=cached)


def read_error(answer: Any) -> tuple[str, str]:
    """Message of an error answer; its type stands in a header."""
    if not isinstance(answer, dict):
        return "", ""
    return str(answer.get("message") or answer.get("Message") or ""), ""


class StreamReader:
    """The frames of ConverseStream as chunks of a chat stream."""

    def __init__(self, facts: Facts, *, include_usage: bool) -> None:
        self._chunks = ChunkWriter(id=facts.id, model=facts.model, created=facts.created)
        self._include_usage = include_usage
        self._frames = FrameReader()
        self._usage: Usage | None = None
        self._finish = ""
        self._failed = False

    def feed(self, piece: bytes) -> bytes:
        """Raises `ValueError` for frames that are damaged."""
        return b"".join(self._frame(headers, payload) for headers, payload in self._frames.feed(piece))

    def close(self) -> bytes:
        if not self._finish or self._failed:
            return b""
        finish = FINISHES.get(self._finish, "stop")
        return self._chunks.end(finish, self._usage, include_usage=self._include_usage)

    def _frame(self, headers: Mapping[str, str], payload: bytes) -> bytes:
        event: Any = msgspec.json.decode(payload) if payload else {}
        if headers.get(":message-type") in ("exception", "error"):
            self._failed = True
            kind = headers.get(":exception-type") or headers.get(":error-code") or "exception"
            return self._chunks.error(read_error(event)[0] or headers.get(":error-message", kind), kind)
        return self._event(headers.get(":event-type", ""), event)

    def _event(self, kind: str, event: Mapping[str, Any]) -> bytes:
        chunks = self._chunks
        match kind:
            case "messageStart":
                return chunks.begin()
            case "contentBlockStart":
                use = (event.get("start") or {}).get("toolUse")
                return chunks.call(ToolCall(str(use.get("toolUseId")), str(use.get("name")), "")) if use else b""
            case "contentBlockDelta":
                delta = event.get("delta") or {}
                if delta.get("text"):
                    return chunks.text(delta["text"])
                if (delta.get("toolUse") or {}).get("input"):
                    return chunks.arguments(delta["toolUse"]["input"])
                thought = (delta.get("reasoningContent") or {}).get("text")
                return chunks.reasoning(thought) if thought else b""
            case "messageStop":
                self._finish = str(event.get("stopReason") or "end_turn")
                return b""
            case "metadata":
                self._usage = read_usage(event.get("usage"))
                return b""
            case _:
                return b""
