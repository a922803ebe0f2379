"""The OpenAI Responses API as clients speak it, without kept state: requests into chat completions, answers back.

Written from the public API reference. What an engine of that API says is read in `responses_engine.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.message import Usage
from slipway.wire.chat import Facts, tool_calls_of
from slipway.wire.chat_events import Called, Event, Failed, Finished, Said, usage_in
from slipway.wire.chat_rewriter import ChatRewriter
from slipway.wire.errors import invalid_body
from slipway.wire.openai import ToolCall, call_shape
from slipway.wire.sse import write_event


class InputItem(msgspec.Struct):
    """An item of the input: a message, a call of a function, or what it gave back."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[dict[str, Any]] = ""
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: Any = ""


class TextOptions(msgspec.Struct):
    """Options of the text output."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ResponsesRequest(msgspec.Struct):
    """A request of the Responses API."""

    model: str
    input: str | list[InputItem]
    instructions: str | None = None
    stream: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    text: TextOptions | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    metadata: dict[str, Any] | None = None


NEEDS_STATE = ("previous_response_id", "conversation", "background")
ONLY_HERE = frozenset({"include", "max_tool_calls", "prompt", "store", "stream_options", "top_logprobs", "truncation"})
"""Fields about kept state or about what comes back, which no chat completion knows."""
FILE_SOURCES = ("file_data", "file_id", "file_url")
KNOWN = frozenset(ResponsesRequest.__struct_fields__)
_request = msgspec.json.Decoder(ResponsesRequest)
_fields = msgspec.json.Decoder(dict[str, Any])


def read_request(body: bytes) -> tuple[ResponsesRequest, dict[str, Any]]:
    """A request, and the chat completion request that asks the same. Unknown fields are passed on.

    Raises `RequestInvalid` for what is wrong and for what needs kept state.
    """
    try:
        request = _request.decode(body)
        given = _fields.decode(body)
    except (ValueError, RecursionError) as wrong:
        raise invalid_body(wrong) from None
    for param in NEEDS_STATE:
        if getattr(request, param):
            raise RequestInvalid(
                f"'{param}' needs kept state, which this server does not keep: send the whole input.", param=param
            )
    if given.get("prompt"):
        raise RequestInvalid(
            "'prompt' names a template that OpenAI keeps: send its text as 'instructions'.", param="prompt"
        )
    if not request.input:
        raise RequestInvalid("'input' is empty: send a text or a list of messages.", param="input")
    chat: dict[str, Any] = {"model": request.model, "messages": list(_messages(request))}
    renamed = {"max_output_tokens": "max_tokens"}
    for name in ("temperature", "top_p", "max_output_tokens", "user", "safety_identifier"):
        if getattr(request, name) is not None:
            chat[renamed.get(name, name)] = getattr(request, name)
    if request.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    if request.tools:
        chat["tools"] = [_tool(tool) for tool in request.tools]
        if request.parallel_tool_calls is not None:
            chat["parallel_tool_calls"] = request.parallel_tool_calls
        if request.tool_choice is not None:
            chat["tool_choice"] = _tool_choice(request.tool_choice)
    if request.reasoning and request.reasoning.get("effort"):
        chat["reasoning_effort"] = request.reasoning["effort"]
    form = request.text.format if request.text else None
    if form and form.get("type") not in (None, "text"):
        chat["response_format"] = _response_format(form)
    return request, chat | {name: value for name, value in given.items() if name not in KNOWN | ONLY_HERE}


def _messages(request: ResponsesRequest) -> Iterator[dict[str, Any]]:
    """The input as messages, instructions first; calls in a row become one message."""
    if request.instructions:
        yield {"role": "system", "content": request.instructions}
    if isinstance(request.input, str):
        yield {"role": "user", "content": request.input}
        return
    calls: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    """Pictures and files that functions gave back: they follow the last of these, as words of the user."""
    for item in request.input:
        if shown and item.type != "function_call_output":
            yield {"role": "user", "content": shown}
            shown = []
        if item.type == "function_call":
            calls.append(call_shape(ToolCall(item.call_id, item.name, item.arguments)))
            continue
        if calls:
            yield {"role": "assistant", "content": None, "tool_calls": calls}
            calls = []
        match item.type:
            case "message":
                yield {"role": item.role, "content": _content(item.content)}
            case "function_call_output":
                output, more = _output(item.output)
                shown += more
                yield {"role": "tool", "tool_call_id": item.call_id, "content": output}
            case "reasoning":
                continue  # another model's thoughts: nothing to say again
            case _:
                raise RequestInvalid(
                    f"The input holds an item of type '{item.type}'; only messages and calls of functions are read.",
                    param="input",
                )
    if calls:
        yield {"role": "assistant", "content": None, "tool_calls": calls}
    if shown:
        yield {"role": "user", "content": shown}


def _content(content: str | Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = []
    for part in content:
        match part.get("type"):
            case "input_text" | "output_text" | "text":
                parts.append({"type": "text", "text": str(part.get("text") or "")})
            case "refusal":
                parts.append({"type": "text", "text": str(part.get("refusal") or "")})
            case "input_image" if part.get("image_url"):
                detail = {"detail": part["detail"]} if part.get("detail") not in (None, "auto") else {}
                parts.append({"type": "image_url", "image_url": {"url": part["image_url"], **detail}})
            case "input_file" if any(part.get(name) for name in FILE_SOURCES):
                names = ("filename", *FILE_SOURCES)
                parts.append({"type": "file", "file": {name: part[name] for name in names if part.get(name)}})
            case kind:
                raise RequestInvalid(
                    f"The input holds a part of type '{kind}', which cannot be read here.", param="input"
                )
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _output(output: Any) -> tuple[str, list[dict[str, Any]]]:
    """What a function gives back: its text, and what else it shows."""
    if isinstance(output, list) and not all(isinstance(part, dict) for part in output):
        raise RequestInvalid("What a function gives back is a text or a list of parts.", param="input")
    content = _content(output) if isinstance(output, list) else str(output)
    if isinstance(content, str):
        return content, []
    text = "".join(part["text"] for part in content if part["type"] == "text")
    return text, [part for part in content if part["type"] != "text"]


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise RequestInvalid(
            f"A tool of type '{tool.get('type')}' is not possible here: only functions are.", param="tools"
        )
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}


def _tool_choice(choice: str | Mapping[str, Any]) -> Any:
    if isinstance(choice, str):
        return choice
    if choice.get("type") != "function":
        raise RequestInvalid("'tool_choice' can only name a function here.", param="tool_choice")
    return {"type": "function", "function": {"name": choice.get("name")}}


def _response_format(form: Mapping[str, Any]) -> dict[str, Any]:
    if form.get("type") != "json_schema":
        return {"type": form.get("type")}
    names = ("name", "description", "schema", "strict")
    return {"type": "json_schema", "json_schema": {name: form[name] for name in names if form.get(name) is not None}}


# Answers -------------------------------------------------------------------------------------------------------------


class ResponseShape:
    """The response to one request, in every state it can be in."""

    def __init__(self, request: ResponsesRequest, facts: Facts) -> None:
        self._request = request
        self._facts = facts

    def write(
        self,
        status: str,
        output: list[dict[str, Any]],
        *,
        finish: str = "",
        usage: Usage | None = None,
        slipway: Any = None,
    ) -> dict[str, Any]:
        asked = self._request
        reason = "content_filter" if finish == "content_filter" else "max_output_tokens"
        form = asked.text.format if asked.text and asked.text.format else {"type": "text"}
        response = {
            "id": self._facts.id,
            "object": "response",
            "created_at": self._facts.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": asked.model,
            "output": output,
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": asked.reasoning or {"effort": None, "summary": None},
            "store": False,
            "temperature": asked.temperature,
            "text": {"format": form},
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools or [],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None if usage is None else _usage(usage),
            "metadata": asked.metadata or {},
        }
        return response if slipway is None else response | {"slipway": slipway}


def write_answer(completion: Mapping[str, Any], shape: ResponseShape, facts: Facts) -> dict[str, Any]:
    """A whole chat completion as a response. Raises `ValueError` where it is none."""
    choices = completion.get("choices")
    if not choices or not isinstance(choices[0].get("message"), dict):
        raise ValueError("it holds no message")
    message, finish = choices[0]["message"], str(choices[0].get("finish_reason"))
    status = status_of(finish)
    output = []
    text = message.get("content") or message.get("refusal") or ""
    calls = tool_calls_of(message)
    if text or not calls:
        output.append(_message(f"msg_{facts.id}", status, [_part(text)]))
    output += [_function_call(f"fc_{facts.id}_{number}", "completed", call) for number, call in enumerate(calls)]
    usage = usage_in(dict(completion)) or Usage()
    return shape.write(status, output, finish=finish, usage=usage, slipway=completion.get("slipway"))


class StreamWriter(ChatRewriter):
    """The chunks of a chat stream as the events of a response."""

    def __init__(self, shape: ResponseShape, facts: Facts) -> None:
        super().__init__()
        self._shape = shape
        self._facts = facts
        self._number = -1
        self._output: list[dict[str, Any]] = []
        self._text: list[str] = []
        self._call: ToolCall | None = None
        self._writing = False
        self._begun = False

    def _end(self, finish: Finished, usage: Usage) -> bytes:
        out, status = b"", status_of(finish.finish)
        if not self._output and not self._writing and self._call is None:
            out += self._open_text()
        out += self._end_item(status)
        response = self._shape.write(status, self._output, finish=finish.finish, usage=usage, slipway=finish.slipway)
        return out + self._write(f"response.{status}", {"response": response})

    def _fail(self, failed: Failed) -> bytes:
        output = [*self._output, *self._item("incomplete")]
        response = self._shape.write("failed", output)
        response["error"] = {"code": failed.code or "server_error", "message": failed.message}
        return self._begin() + self._write("response.failed", {"response": response})

    def _say(self, event: Event) -> bytes:
        match event:
            case Said() if not event.reasoning:
                opened = b"" if self._writing else self._open_text()
                self._text.append(event.text)
                delta = self._place() | {"delta": event.text, "logprobs": []}
                return opened + self._write("response.output_text.delta", delta)
            case Called():
                opened = self._open_call(event) if event.id or event.name else b""
                return opened + self._arguments(event.arguments)
            case _:
                return b""

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        started = self._shape.write("in_progress", [])
        return self._write("response.created", {"response": started}) + self._write(
            "response.in_progress", {"response": started}
        )

    def _open_text(self) -> bytes:
        out = self._begin() + self._end_item("completed")
        self._writing, self._text = True, []
        item = _message(self._item_id, "in_progress", [])
        return (
            out
            + self._write("response.output_item.added", {"output_index": len(self._output), "item": item})
            + self._write("response.content_part.added", self._place() | {"part": _part("")})
        )

    def _open_call(self, event: Called) -> bytes:
        out = self._begin() + self._end_item("completed")
        self._call = ToolCall(event.id, event.name, "")
        item = _function_call(self._item_id, "in_progress", self._call)
        return out + self._write("response.output_item.added", {"output_index": len(self._output), "item": item})

    def _arguments(self, piece: str) -> bytes:
        if not piece or self._call is None:
            return b""
        self._call = self._call._replace(arguments=self._call.arguments + piece)
        place = {"item_id": self._item_id, "output_index": len(self._output)}
        return self._write("response.function_call_arguments.delta", place | {"delta": piece})

    def _end_item(self, status: str) -> bytes:
        items = self._item(status)
        if not items:
            return b""
        out = b""
        if self._writing:
            text = "".join(self._text)
            out += self._write("response.output_text.done", self._place() | {"text": text, "logprobs": []})
            out += self._write("response.content_part.done", self._place() | {"part": _part(text)})
        elif self._call is not None:
            done = {"item_id": self._item_id, "output_index": len(self._output), "arguments": self._call.arguments}
            out += self._write("response.function_call_arguments.done", done | {"name": self._call.name})
        out += self._write("response.output_item.done", {"output_index": len(self._output), "item": items[0]})
        self._output += items
        self._writing, self._call = False, None
        return out

    def _item(self, status: str) -> list[dict[str, Any]]:
        """The item that is being written, if any."""
        if self._writing:
            return [_message(self._item_id, status, [_part("".join(self._text))])]
        if self._call is not None:
            return [_function_call(self._item_id, "completed", self._call)]
        return []

    @property
    def _item_id(self) -> str:
        return f"{'msg' if self._writing else 'fc'}_{self._facts.id}_{len(self._output)}"

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": len(self._output), "content_index": 0}

    def _write(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        self._number += 1
        data = {"type": kind, "sequence_number": self._number, **fields}
        return write_event(msgspec.json.encode(data, enc_hook=str), name=kind)


def status_of(finish: str) -> str:
    return "incomplete" if finish in ("length", "content_filter") else "completed"


def _message(id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}


def _function_call(id: str, status: str, call: ToolCall) -> dict[str, Any]:
    return {
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
