"""Google's Gemini API as clients speak it: generateContent into chat completions, answers and streams back.

Written from the public API reference, version v1beta. What an engine of that API says is read in `gemini.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.message import Usage
from slipway.wire.chat import Facts, arguments_of, file_part, file_part_at, media_type_at, tool_calls_of
from slipway.wire.chat_events import Called, Event, Failed, Finished, Said, usage_in
from slipway.wire.chat_rewriter import ChatRewriter
from slipway.wire.errors import error_text, invalid_body
from slipway.wire.openai import ToolCall, call_shape
from slipway.wire.sse import write_event

FINISHES = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
AS_THEY_ARE = frozenset(
    {"args", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "responseSchema"}
)
"""Below these stand names of the client's own."""
TYPES = frozenset({"ARRAY", "BOOLEAN", "INTEGER", "NULL", "NUMBER", "OBJECT", "STRING"})
ONLY_THEIRS = frozenset({"propertyOrdering", "nullable"})
SOUNDS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mp3": "mp3", "audio/mpeg": "mp3"}
_UNDERSCORE = re.compile(r"_([a-z])")


class Blob(msgspec.Struct, rename="camel"):
    """Bytes that came along, in base64."""

    data: str
    mime_type: str = ""


class FileData(msgspec.Struct, rename="camel"):
    """A file by its address."""

    file_uri: str
    mime_type: str = ""


class FunctionCall(msgspec.Struct):
    """What the model wanted called."""

    name: str
    args: dict[str, Any] | None = None
    id: str | None = None


class FunctionResponse(msgspec.Struct):
    """What it gave back."""

    name: str
    response: Any = None
    id: str | None = None


class Part(msgspec.Struct, rename="camel"):
    """A part of a turn: one of these."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


class Content(msgspec.Struct):
    """A turn of the conversation."""

    parts: list[Part] = []
    role: Literal["user", "model", "function", "system"] | None = None


class Declaration(msgspec.Struct, rename="camel"):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: Any = None


class FunctionCalling(msgspec.Struct, rename="camel"):
    """Whether functions must be called, and which."""

    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(msgspec.Struct, rename="camel"):
    """How tools are used."""

    function_calling_config: FunctionCalling | None = None


class Thinking(msgspec.Struct, rename="camel"):
    """How long the model thinks."""

    thinking_level: str | None = None


class GenerationConfig(msgspec.Struct, rename="camel"):
    """Decoding and form of the answer."""

    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    candidate_count: int | None = None
    response_logprobs: bool | None = None
    response_modalities: list[str] | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: Any = None
    thinking_config: Thinking | None = None


class GenerateRequest(msgspec.Struct, rename="camel"):
    """What a client of generateContent sends; the model stands in the path, and was put beside it."""

    model: str
    contents: list[Content]
    system_instruction: Content | None = None
    generation_config: GenerationConfig | None = None
    tools: list[dict[str, Any]] | None = None
    tool_config: ToolConfig | None = None
    cached_content: str | None = None


def read_request(body: bytes, *, stream: bool) -> dict[str, Any]:
    """A generateContent request as a chat completion request. Safety settings and labels are left out.

    Raises `RequestInvalid` naming the field that is wrong, or what no chat completion can say.
    """
    try:
        given = _in_camel_case(msgspec.json.decode(body))
        request = msgspec.convert(given, GenerateRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise invalid_body(wrong) from None
    if request.cached_content:
        raise _refused("cachedContent", "it names what Google keeps: send the whole contents")
    messages = list(_messages(request))
    if not messages:
        raise RequestInvalid("'contents' is empty: send at least one part.", param="contents")
    chat: dict[str, Any] = {"model": request.model, "messages": messages}
    chat |= _decoding(request.generation_config or GenerationConfig())
    if functions := [one for tool in request.tools or () for one in _functions(tool)]:
        chat |= _tools(functions, request.tool_config)
    if stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def _in_camel_case(value: Any) -> Any:
    """The same with the names of fields as the reference writes them: the API takes them with underscores too."""
    if isinstance(value, list):
        return [_in_camel_case(one) for one in value]
    if not isinstance(value, dict):
        return value
    named = {_UNDERSCORE.sub(lambda found: found[1].upper(), key): one for key, one in value.items()}
    return {key: one if key in AS_THEY_ARE else _in_camel_case(one) for key, one in named.items()}


def _refused(param: str, why: str) -> RequestInvalid:
    return RequestInvalid(f"'{param}' is not possible here: {why}.", param=param)


def _decoding(config: GenerationConfig) -> dict[str, Any]:
    if config.candidate_count not in (None, 1):
        raise _refused("candidateCount", "one answer is given")
    if config.response_logprobs:
        raise _refused("responseLogprobs", "a chat completion is asked for, without them")
    if any(one.upper() != "TEXT" for one in config.response_modalities or ()):
        raise _refused("responseModalities", "answers are texts")
    found = {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_tokens": config.max_output_tokens,
        "stop": config.stop_sequences or None,
        "seed": config.seed,
        "presence_penalty": config.presence_penalty,
        "frequency_penalty": config.frequency_penalty,
        "reasoning_effort": _effort(config.thinking_config),
        "response_format": _form(config),
    }
    return {name: value for name, value in found.items() if value is not None}


def _effort(thinking: Thinking | None) -> str | None:
    level = (thinking.thinking_level or "").lower() if thinking else ""
    return level if level in ("minimal", "low", "medium", "high") else None


def _form(config: GenerationConfig) -> dict[str, Any] | None:
    schema = config.response_json_schema
    if schema is None and config.response_schema is not None:
        schema = _json_schema(config.response_schema)
    if schema is not None:
        if not isinstance(schema, dict):
            raise RequestInvalid("'responseJsonSchema' is wrong: expected an object.", param="responseJsonSchema")
        return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    if config.response_mime_type in (None, "", "text/plain"):
        return None
    if config.response_mime_type == "application/json":
        return {"type": "json_object"}
    raise _refused("responseMimeType", "answers are text or JSON")


def _json_schema(schema: Any) -> Any:
    """A schema as JSON Schema: types in small letters, and what may be null among them."""
    if isinstance(schema, list):
        return [_json_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _json_schema(one) for key, one in schema.items() if key not in ONLY_THEIRS or isinstance(one, dict)}
    kind = found.get("type")
    if isinstance(kind, str) and kind in TYPES:
        found["type"] = [kind.lower(), "null"] if schema.get("nullable") is True else kind.lower()
    return found


def _functions(tool: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, value in tool.items():
        if name != "functionDeclarations":
            if value is not None:
                raise _refused("tools", f"'{name}' runs at Google; only functions are known")
            continue
        try:
            declared = msgspec.convert(value, list[Declaration])
        except msgspec.ValidationError as wrong:
            raise invalid_body(wrong) from None
        for one in declared:
            schema = one.parameters_json_schema
            function: dict[str, Any] = {"name": one.name}
            if one.description:
                function["description"] = one.description
            if schema is not None or one.parameters is not None:
                function["parameters"] = _json_schema(one.parameters) if schema is None else schema
            yield function


def _tools(functions: list[dict[str, Any]], config: ToolConfig | None) -> dict[str, Any]:
    calling = (config.function_calling_config if config else None) or FunctionCalling()
    mode, allowed = (calling.mode or "").upper(), calling.allowed_function_names or []
    if mode == "ANY" and allowed:
        functions = [one for one in functions if one["name"] in allowed]
        if not functions:
            raise RequestInvalid("'allowedFunctionNames' names no function among the tools.", param="toolConfig")
    chat: dict[str, Any] = {"tools": [{"type": "function", "function": one} for one in functions]}
    if choice := {"AUTO": "auto", "NONE": "none", "ANY": "required"}.get(mode):
        chat["tool_choice"] = choice
    return chat


# Messages ------------------------------------------------------------------------------------------------------------


def _messages(request: GenerateRequest) -> Iterator[dict[str, Any]]:
    """Every turn as a message; what functions gave back are messages of their own, and come first."""
    if request.system_instruction is not None:
        text = "".join(part.text or "" for part in request.system_instruction.parts)
        if text:
            yield {"role": "system", "content": text}
    waiting: list[tuple[str, str]] = []
    """Calls that nobody answered yet, as id and name: the API may give them no ids."""
    called = 0
    for turn in request.contents:
        parts: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        for part in turn.parts:
            if part.function_call is not None:
                call = part.function_call
                called += 1
                id = call.id or f"call_{called}"
                waiting.append((id, call.name))
                arguments = msgspec.json.encode(call.args or {}).decode()
                calls.append(call_shape(ToolCall(id, call.name, arguments, part.thought_signature or "")))
            elif part.function_response is not None:
                yield _result(part.function_response, waiting)
            elif not part.thought:
                parts.append(_part(part))
        only_text = all(part["type"] == "text" for part in parts)
        content: Any = "".join(part["text"] for part in parts) if only_text else parts
        if not content and not calls:
            continue
        message: dict[str, Any] = {"role": "assistant" if turn.role == "model" else "user", "content": content or None}
        yield message | {"tool_calls": calls} if calls else message


def _result(given: FunctionResponse, waiting: list[tuple[str, str]]) -> dict[str, Any]:
    """What a function gave back, to the call that it answers: by its id, or else the first of its name."""
    answered = next((call for call in waiting if given.id in (None, call[0]) and call[1] == given.name), None)
    if answered is None:
        raise RequestInvalid(f"A response of the function '{given.name}' answers no call before it.", param="contents")
    waiting.remove(answered)
    response = given.response
    if isinstance(response, dict) and response.keys() == {"result"} and isinstance(response["result"], str):
        response = response["result"]
    content = response if isinstance(response, str) else msgspec.json.encode(response).decode()
    return {"role": "tool", "tool_call_id": answered[0], "content": content}


def _part(part: Part) -> dict[str, Any]:
    if part.text is not None:
        return {"type": "text", "text": part.text}
    if part.inline_data is not None:
        return _came_along(part.inline_data)
    if part.file_data is not None:
        url = part.file_data.file_uri
        if (part.file_data.mime_type or media_type_at(url)).startswith("image/"):
            return {"type": "image_url", "image_url": {"url": url}}
        return file_part_at(url, None)
    raise RequestInvalid(
        "A part holds neither text, data, a file, nor a function's call or response.", param="contents"
    )


def _came_along(blob: Blob) -> dict[str, Any]:
    kind, data = blob.mime_type, blob.data.replace("-", "+").replace("_", "/")
    data += "=" * (-len(data) % 4)
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
    if kind in SOUNDS:
        return {"type": "input_audio", "input_audio": {"data": data, "format": SOUNDS[kind]}}
    if kind.startswith(("audio/", "video/")) or not kind:
        raise RequestInvalid(f"'inlineData' of type '{kind}' cannot be read here.", param="contents")
    return file_part(kind, data, None)


# Answers -------------------------------------------------------------------------------------------------------------


def write_answer(completion: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """A whole chat completion as an answer of generateContent. Raises `ValueError` where it is none."""
    choices = completion.get("choices")
    if not choices or not isinstance(choices[0].get("message"), dict):
        raise ValueError("it holds no message")
    message = choices[0]["message"]
    parts: list[dict[str, Any]] = []
    if message.get("reasoning_content"):
        parts.append({"text": message["reasoning_content"], "thought": True})
    if text := message.get("content") or message.get("refusal"):
        parts.append({"text": text})
    parts += [_call_part(call) for call in tool_calls_of(message)]
    finish = str(choices[0].get("finish_reason"))
    return _answer(facts, parts, finish, usage_in(dict(completion)) or Usage(), completion.get("slipway"))


def _call_part(call: ToolCall) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.name, "args": arguments_of(call)}}
    return part | {"thoughtSignature": call.signature} if call.signature else part


def _answer(
    facts: Facts, parts: list[dict[str, Any]], finish: str = "", usage: Usage | None = None, slipway: Any = None
) -> dict[str, Any]:
    """`finish` and `usage` stand in whole answers and in the last event of a stream."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = FINISHES.get(finish, "STOP")
    answer: dict[str, Any] = {"candidates": [candidate], "modelVersion": facts.model, "responseId": facts.id}
    if usage is not None:
        answer["usageMetadata"] = usage_shape(usage)
    if slipway is not None:
        answer["slipway"] = slipway
    return answer


def usage_shape(usage: Usage) -> dict[str, int]:
    """Thoughts stand beside what candidates say."""
    thoughts = min(usage.reasoning_tokens, usage.output_tokens)
    shape = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - thoughts,
        "totalTokenCount": usage.total_tokens,
    }
    more = {"thoughtsTokenCount": thoughts, "cachedContentTokenCount": usage.cached_tokens}
    return shape | {name: count for name, count in more.items() if count}


def write_error(message: str, *, status: int) -> bytes:
    """`{"error": {"code", "message", "status"}}`, as every Google client reads it."""
    word = STATUSES.get(status) or ("INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    return msgspec.json.encode({"error": {"code": status, "message": message, "status": word}})


def translate_error(body: bytes, *, status: int) -> bytes:
    return write_error(error_text(body), status=status)


class StreamWriter(ChatRewriter):
    """The chunks of a chat stream as the events of streamGenerateContent."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts
        self._call: Called | None = None
        """The call whose arguments are on their way: here they come whole."""

    def _end(self, finish: Finished, usage: Usage) -> bytes:
        last = _answer(self._facts, [], finish.finish, usage, finish.slipway)
        return write_event(msgspec.json.encode(last, enc_hook=str))

    def _finished(self) -> bytes:
        return self._called()

    def _fail(self, failed: Failed) -> bytes:
        return write_event(write_error(failed.message, status=502))

    def _say(self, event: Event) -> bytes:
        match event:
            case Said():
                thought = {"thought": True} if event.reasoning else {}
                return self._called() + self._part({"text": event.text, **thought})
            case Called():
                if self._call is not None and event.number == self._call.number:
                    self._call = self._call._replace(arguments=self._call.arguments + event.arguments)
                    return b""
                before, self._call = self._called(), event
                return before
            case _:
                return b""  # signatures of another API's thoughts

    def _called(self) -> bytes:
        call, self._call = self._call, None
        if call is None:
            return b""
        try:
            return self._part(_call_part(ToolCall(call.id, call.name, call.arguments, call.signature)))
        except RequestInvalid as wrong:
            raise ValueError(str(wrong)) from wrong

    def _part(self, part: dict[str, Any]) -> bytes:
        return write_event(msgspec.json.encode(_answer(self._facts, [part])))
