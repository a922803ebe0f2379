"""Google's Gemini API as an engine speaks it: chat completions into generateContent, its answers and streams back.

Written from the public API reference, version v1beta.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from slipway.domain.message import Usage
from slipway.wire.chat import (
    Chat,
    Facts,
    arguments_of,
    chosen_tool,
    completion_of,
    functions_of,
    joined_turns,
    last_event,
    longest_answer,
    media_type_at,
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
from slipway.wire.openai import ChunkWriter, ToolCall
from slipway.wire.sse import EventReader

API = "the Gemini API"
FINISHES = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}
SAMPLING = {
    "temperature": "temperature",
    "top_p": "topP",
    "n": "candidateCount",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
NOT_IN_SCHEMAS = frozenset({"$schema", "additionalProperties", "strict", "$id"})
"""Keywords of JSON Schema that the API's own dialect of it refuses."""


def write_request(chat: Chat) -> dict[str, Any]:
    """A chat completion request as a generateContent request; the model stands in its address.

    Raises `RequestInvalid` for what the API cannot do.
    """
    refuse(chat, API, "logprobs", "top_logprobs", "audio", "functions")
    if chat.get("n") != 1:
        refuse(chat, API, "n")
    messages = messages_of(chat)
    names = {call.id: call.name for one in messages for call in tool_calls_of(one)}
    turns = (_turn(one, names) for one in messages if one.get("role") not in ("system", "developer"))
    request: dict[str, Any] = {"contents": joined_turns(turns, key="parts")}
    if system := system_text(messages):
        request["systemInstruction"] = {"parts": [{"text": system}]}
    config: dict[str, Any] = {
        theirs: chat[ours] for ours, theirs in SAMPLING.items() if ours != "n" and chat.get(ours) is not None
    }
    if (longest := longest_answer(chat)) is not None:
        config["maxOutputTokens"] = longest
    if stops := stops_of(chat):
        config["stopSequences"] = stops
    if (schema := schema_of(chat)) is not None:
        config["responseMimeType"] = "application/json"
        if schema:
            config["responseJsonSchema"] = schema
    if config:
        request["generationConfig"] = config
    if functions := functions_of(chat):
        request["tools"] = [{"functionDeclarations": [_function(one) for one in functions]}]
        if choice := _function_calling(chat):
            request["toolConfig"] = {"functionCallingConfig": choice}
    return request


def _turn(message: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    if message.get("role") == "tool":
        id = str(message.get("tool_call_id") or "")
        answer = {"name": names.get(id, id), "response": _object(text_of(message.get("content")))}
        return {"role": "user", "parts": [{"functionResponse": answer}]}
    parts = [_part(part) for part in parts_of(message.get("content"))]
    if message.get("role") != "assistant":
        return {"role": "user", "parts": parts}
    return {"role": "model", "parts": [*parts, *map(_call, tool_calls_of(message))]}


def _call(call: ToolCall) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": call.name, "args": arguments_of(call)}}
    return part | {"thoughtSignature": call.signature} if call.signature else part


def _object(text: str) -> dict[str, Any]:
    """What a function gave back: its own object where it is one, else the text under `result`."""
    try:
        found = msgspec.json.decode(text)
    except ValueError:
        found = text
    return found if isinstance(found, dict) else {"result": found}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "text" | "input_text" | "output_text":
            return {"text": part.get("text") or ""}
        case "refusal":
            return {"text": part.get("refusal") or ""}
        case "image_url":
            found = split_data_url(part)
            if isinstance(found, str):
                return _file_at(found)
            return {"inlineData": {"mimeType": found[0], "data": found[1]}}
        case "file":
            file = read_file(part)
            return _file_at(file.url) if file.url else {"inlineData": {"mimeType": file.media_type, "data": file.data}}
        case _:
            raise unknown_part(part, API)


def _file_at(url: str) -> dict[str, Any]:
    kind = media_type_at(url)
    return {"fileData": {**({"mimeType": kind} if kind else {}), "fileUri": url}}


def _function(function: Mapping[str, Any]) -> dict[str, Any]:
    declared = {"name": function.get("name")}
    if function.get("description"):
        declared["description"] = function["description"]
    if function.get("parameters"):
        declared["parameters"] = _schema(function["parameters"])
    return declared


def _schema(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _schema(value) for key, value in schema.items() if key not in NOT_IN_SCHEMAS}
    return [_schema(value) for value in schema] if isinstance(schema, list) else schema


def _function_calling(chat: Chat) -> dict[str, Any] | None:
    chosen = chosen_tool(chat)
    match chosen:
        case "auto" | "none":
            return {"mode": chosen.upper()}
        case "required":
            return {"mode": "ANY"}
        case _ if chosen.startswith("="):
            return {"mode": "ANY", "allowedFunctionNames": [chosen[1:]]}
        case _:
            return None


# Answers -------------------------------------------------------------------------------------------------------------


def read_answer(answer: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """A whole generateContent answer as a chat completion. Raises `ValueError` where it is none."""
    candidates = answer.get("candidates")
    if not candidates:
        # The prompt itself was refused: there is no candidate then, and the reason stands beside.
        if not isinstance(answer.get("promptFeedback"), dict):
            raise ValueError("it holds no candidate")
        return completion_of(
            facts, model="", text="", calls=(), finish="content_filter", usage=read_usage(answer.get("usageMetadata"))
        )
    candidate = candidates[0]
    parts = (candidate.get("content") or {}).get("parts") or ()
    calls = _calls(parts, facts, before=0)
    return completion_of(
        facts,
        model=str(answer.get("modelVersion") or ""),
        text="".join(part.get("text") or "" for part in parts if not part.get("thought")),
        calls=calls,
        finish="tool_calls" if calls else FINISHES.get(str(candidate.get("finishReason")), "stop"),
        usage=read_usage(answer.get("usageMetadata")),
        reasoning="".join(part.get("text") or "" for part in parts if part.get("thought")),
    )


def _calls(parts: Sequence[Mapping[str, Any]], facts: Facts, *, before: int) -> list[ToolCall]:
    """Calls of functions; the API may give them no ids, so they get some that are the same on every reading."""
    found = [
        (part["functionCall"], str(part.get("thoughtSignature") or ""))
        for part in parts
        if isinstance(part.get("functionCall"), dict)
    ]
    return [
        ToolCall(
            str(call.get("id") or f"call_{facts.id[-24:]}_{before + number}"),
            str(call.get("name") or ""),
            msgspec.json.encode(call.get("args") or {}).decode(),
            signature,
        )
        for number, (call, signature) in enumerate(found)
    ]


def read_usage(usage: Any) -> Usage | None:
    """Thoughts stand beside the candidates' tokens here; a chat completion counts them among what was written."""
    if not isinstance(usage, dict):
        return None
    thoughts = int(usage.get("thoughtsTokenCount") or 0)
    return Usage(
        input_tokens=int(usage.get("promptTokenCount") or 0) + int(usage.get("toolUsePromptTokenCount") or 0),
        output_tokens=int(usage.get("candidatesTokenCount") or 0) + thoughts,
        cached_tokens=int(usage.get("cachedContentTokenCount") or 0),
        reasoning_tokens=thoughts,
    )


def read_error(answer: Any) -> tuple[str, str]:
    """Message and status of an error answer; streams wrap it in a list."""
    if isinstance(answer, list) and answer:
        answer = answer[0]
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("message") or ""), str(error.get("status") or "").lower()


class StreamReader:
    """The events of streamGenerateContent as chunks of a chat stream."""

    def __init__(self, facts: Facts, *, include_usage: bool) -> None:
        self._facts = facts
        self._chunks = ChunkWriter(id=facts.id, model=facts.model, created=facts.created)
        self._include_usage = include_usage
        self._reader = EventReader()
        self._usage: Usage | None = None
        self._finish = ""
        self._called = 0

    def feed(self, piece: bytes) -> bytes:
        """Raises `ValueError` for events that are not JSON."""
        return b"".join(self._event(msgspec.json.decode(data)) for data in self._reader.feed(piece))

    def close(self) -> bytes:
        """The stream has no last event: it is over when it has named its finish."""
        rest = b"".join(map(self._event, last_event(self._reader)))
        if not self._finish:
            return rest
        finish = "tool_calls" if self._chunks.called else FINISHES.get(self._finish, "stop")
        return rest + self._chunks.end(finish, self._usage, include_usage=self._include_usage)

    def _event(self, event: Any) -> bytes:
        chunks = self._chunks
        if isinstance(event, dict) and event.get("error"):
            return chunks.error(*read_error(event))
        if event.get("modelVersion"):
            chunks.says(event["modelVersion"])
        self._usage = read_usage(event.get("usageMetadata")) or self._usage
        if not event.get("candidates"):
            if (event.get("promptFeedback") or {}).get("blockReason"):
                self._finish = "SAFETY"
            return b""
        candidate = event["candidates"][0]
        self._finish = candidate.get("finishReason") or self._finish
        out = b""
        for part in (candidate.get("content") or {}).get("parts") or ():
            if part.get("text"):
                out += chunks.reasoning(part["text"]) if part.get("thought") else chunks.text(part["text"])
            for call in _calls([part], self._facts, before=self._called):
                self._called += 1
                out += chunks.call(call)
        return out
