"""The OpenAI Responses API, stateless: text in, text out, whole or as a stream of events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from slipway.domain.decoding import Decoding
from slipway.domain.errors import RequestInvalid
from slipway.domain.message import Message, Usage
from slipway.wire.errors import invalid_body
from slipway.wire.openai import ROLES, ContentPart
from slipway.wire.sse import write_event


class InputItem(msgspec.Struct):
    """An item of the input. Messages are read; what belongs to tools or to kept state is refused."""

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[ContentPart] = ""


class TextFormat(msgspec.Struct):
    """The form that a client wants the reply in."""

    type: str = "text"


class TextOptions(msgspec.Struct):
    """Options of the text output."""

    format: TextFormat | None = None


class ResponsesRequest(msgspec.Struct):
    """A request of the Responses API: the fields that matter without tools and state."""

    model: str
    input: str | list[InputItem]
    instructions: str | None = None
    stream: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    tools: list[Any] | None = None
    text: TextOptions | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None
    metadata: dict[str, Any] | None = None


_request = msgspec.json.Decoder(ResponsesRequest)


def read_responses_request(body: bytes) -> ResponsesRequest:
    """Raises `RequestInvalid` for what is wrong and for what needs kept state or tools."""
    try:
        request = _request.decode(body)
    except (ValueError, RecursionError) as wrong:
        raise invalid_body(wrong) from None
    for param in ("previous_response_id", "conversation", "background"):
        if getattr(request, param):
            raise RequestInvalid(
                f"'{param}' needs kept state, which this server does not keep: send the whole input.", param=param
            )
    if not request.input:
        raise RequestInvalid("'input' is empty: send a text or a list of messages.", param="input")
    return request


def read_input(request: ResponsesRequest) -> tuple[Message, ...]:
    """The input as messages, instructions first. Raises `RequestInvalid` for items that are not messages of text."""
    messages = [Message(role="system", text=request.instructions)] if request.instructions else []
    if isinstance(request.input, str):
        return (*messages, Message(role="user", text=request.input))
    for item in request.input:
        if item.type == "reasoning":
            continue  # another model's thoughts: nothing to say again
        if item.type != "message":
            raise RequestInvalid(
                f"The input holds an item of type '{item.type}'; only messages are read.", param="input"
            )
        messages.append(Message(role=ROLES[item.role], text=_text(item.content)))
    return tuple(messages)


def _text(content: str | list[ContentPart]) -> str:
    if isinstance(content, str):
        return content
    for part in content:
        if part.type not in ("input_text", "output_text", "text", "refusal"):
            raise RequestInvalid(f"The input holds a part of type '{part.type}'; only text is read.", param="input")
    return "".join(part.text or part.refusal for part in content)


def read_responses_decoding(request: ResponsesRequest) -> Decoding:
    return Decoding(
        temperature=request.temperature, top_p=request.top_p, max_tokens=request.max_output_tokens, seed=None
    )


class ResponseWriter:
    """Writes one response, whole or as the events of its stream."""

    def __init__(self, *, id: str, request: ResponsesRequest, created: int) -> None:
        self._id = f"resp_{id}"
        self._item = f"msg_{id}"
        self._request = request
        self._created = created
        self._number = -1
        self._texts: list[str] = []

    def whole(self, text: str, *, finish: str, usage: Usage, more: Mapping[str, Any]) -> bytes:
        return msgspec.json.encode(self._response(_status(finish), text, finish, usage) | dict(more), enc_hook=str)

    def begin(self) -> bytes:
        """Everything that comes before the first piece of text."""
        started = self._response("in_progress", None, "", None)
        return b"".join(
            (
                self._event("response.created", {"response": started}),
                self._event("response.in_progress", {"response": started}),
                self._event(
                    "response.output_item.added", {"output_index": 0, "item": self._message("in_progress", None)}
                ),
                self._event("response.content_part.added", self._place() | {"part": _part("")}),
            )
        )

    def text(self, text: str) -> bytes:
        self._texts.append(text)
        return self._event("response.output_text.delta", self._place() | {"delta": text, "logprobs": []})

    def end(self, *, finish: str, usage: Usage, more: Mapping[str, Any]) -> bytes:
        text = "".join(self._texts)
        status = _status(finish)
        response = self._response(status, text, finish, usage) | dict(more)
        return b"".join(
            (
                self._event("response.output_text.done", self._place() | {"text": text, "logprobs": []}),
                self._event("response.content_part.done", self._place() | {"part": _part(text)}),
                self._event("response.output_item.done", {"output_index": 0, "item": self._message(status, text)}),
                self._event(f"response.{status}", {"response": response}),
            )
        )

    def failed(self, *, code: str, message: str) -> bytes:
        response = self._response("failed", "".join(self._texts), "", None)
        response["error"] = {"code": code, "message": message}
        return self._event("response.failed", {"response": response})

    def _event(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        self._number += 1
        data = {"type": kind, "sequence_number": self._number, **fields}
        return write_event(msgspec.json.encode(data, enc_hook=str), name=kind)

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _message(self, status: str, text: str | None) -> dict[str, Any]:
        content = [] if text is None else [_part(text)]
        return {"id": self._item, "type": "message", "status": status, "role": "assistant", "content": content}

    def _response(self, status: str, text: str | None, finish: str, usage: Usage | None) -> dict[str, Any]:
        asked = self._request
        reason = "content_filter" if finish == "content_filter" else "max_output_tokens"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": asked.model,
            "output": [] if text is None else [self._message(status, text)],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": asked.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None if usage is None else _usage(usage),
            "metadata": asked.metadata or {},
        }


def _status(finish: str) -> str:
    return "incomplete" if finish in ("length", "content_filter") else "completed"


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
