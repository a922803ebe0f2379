"""What all translators share: chat completions as plain values, which other APIs are turned into and out of."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from mimetypes import MimeTypes
from typing import Any, NamedTuple, Protocol

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.domain.message import Usage
from slipway.wire.openai import ToolCall, call_shape, signature_in, usage_shape
from slipway.wire.sse import EventReader

Chat = Mapping[str, Any]
"""A chat completion request, decoded: `{"model", "messages", …}`."""
DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
ONLY_HINTS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "metadata",
        "presence_penalty",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "seed",
        "service_tier",
        "store",
        "stream_options",
        "verbosity",
    }
)
"""Fields that nudge or describe a request; an API that has no such thing answers without them."""


class Facts(NamedTuple):
    """What a translated answer is called: its id, the model that the client named, seconds since 1970."""

    id: str
    model: str
    created: int


class StreamTranslator(Protocol):
    """Turns the pieces of one stream into the pieces of another."""

    def feed(self, piece: bytes) -> bytes: ...

    def close(self) -> bytes:
        """What is left when the stream is over."""
        ...


# Reading a request ---------------------------------------------------------------------------------------------------


def parts_of(content: Any) -> list[dict[str, Any]]:
    """The content of a message as a list of parts. Raises `RequestInvalid`."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return content
    raise RequestInvalid("'messages' is wrong: 'content' is a text or a list of parts.", param="messages")


def text_of(content: Any) -> str:
    """The text of a message, parts joined; parts that are no text are left out."""
    return "".join(str(part.get("text") or part.get("refusal") or "") for part in parts_of(content))


def messages_of(chat: Chat) -> list[dict[str, Any]]:
    """The messages. Where all of them are the system's, they become the user's: other APIs want somebody to answer.

    Raises `RequestInvalid` where `messages` is no list of messages."""
    messages = chat.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise RequestInvalid("'messages' is wrong: expected a list of messages.", param="messages")
    if all(one.get("role") in ("system", "developer") for one in messages):
        return [one | {"role": "user"} for one in messages]
    return messages


def system_text(messages: Iterable[Mapping[str, Any]]) -> str:
    """What system and developer messages say."""
    said = [text_of(one.get("content")) for one in messages if one.get("role") in ("system", "developer")]
    return "\n\n".join(text for text in said if text)


def split_data_url(part: Mapping[str, Any]) -> tuple[str, str] | str:
    """An image part as (media type, base64), or its address. Raises `RequestInvalid`."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url:
        raise RequestInvalid("An image part needs 'image_url' with a 'url'.", param="messages")
    match = DATA_URL.fullmatch(url)
    return (match[1], match[2]) if match else url


def file_part(media_type: Any, data: Any, name: Any) -> dict[str, Any]:
    """A file in base64 as a part of a message."""
    return {"type": "file", "file": {"filename": name or "file", "file_data": f"data:{media_type};base64,{data}"}}


def file_part_at(url: Any, name: Any) -> dict[str, Any]:
    """A file at an address as a part of a message."""
    return {"type": "file", "file": {**({"filename": name} if name else {}), "file_url": url}}


class File(NamedTuple):
    """A file of a message: what it holds in base64, or else the address where it lies."""

    name: str
    media_type: str
    """By an address its ending says it; empty where that says nothing."""
    data: str
    url: str


def read_file(part: Mapping[str, Any]) -> File:
    """The file of a file part. Raises `RequestInvalid`."""
    file = part.get("file")
    file = file if isinstance(file, dict) else {}
    data = str(file.get("file_data") or "")
    if match := DATA_URL.fullmatch(data):
        return File(str(file.get("filename") or "file"), match[1], match[2], "")
    # Some write the address where others have what the file holds.
    url = data if data.startswith(("https://", "http://")) else file.get("file_url")
    if isinstance(url, str) and url:
        path = _path_of(url)
        return File(str(file.get("filename") or path.rpartition("/")[2] or "file"), media_type_at(url), "", url)
    held = "'file_data', a data URL in base64, or 'file_url'"
    if file.get("file_id"):
        raise RequestInvalid(
            f"A file part has a 'file_id', which is known elsewhere only: send {held}.", param="messages"
        )
    raise RequestInvalid(f"A file part needs 'file' with {held}.", param="messages")


def text_in(file: File) -> str:
    """What a text file says. Raises `RequestInvalid`."""
    try:
        return b64decode(file.data, validate=True).decode("utf-8")
    except ValueError:
        raise RequestInvalid(f"The file '{file.name}' is no text in UTF-8, in base64.", param="messages") from None


def media_type_at(url: str) -> str:
    """What the ending of an address says that is there; empty where it says nothing."""
    return _endings.guess_type(_path_of(url), strict=False)[0] or ""


def _path_of(url: str) -> str:
    return url.partition("?")[0].partition("#")[0]


_endings = MimeTypes()
"""Without the tables of this machine, which differ."""


def unknown_part(part: Mapping[str, Any], api: str) -> RequestInvalid:
    return RequestInvalid(
        f"A message holds a part of type '{part.get('type')}', which {api} cannot take.", param="messages"
    )


def tool_calls_of(message: Mapping[str, Any]) -> list[ToolCall]:
    """The calls of functions in a message or a choice. Raises `RequestInvalid` where `tool_calls` is no list."""
    calls = []
    for call in list_in(message, "tool_calls", param="messages"):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            calls.append(
                ToolCall(
                    str(call.get("id") or ""),
                    str(function.get("name") or ""),
                    str(function.get("arguments") or ""),
                    signature_in(call),
                )
            )
    return calls


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call as an object. Raises `RequestInvalid` where they are none."""
    try:
        found = msgspec.json.decode(call.arguments or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RequestInvalid(f"The arguments of the call of '{call.name}' are no JSON object.", param="messages")
    return found


def functions_of(chat: Chat) -> list[dict[str, Any]]:
    """The functions among the tools. Raises `RequestInvalid` for tools of another kind."""
    functions = []
    for tool in list_in(chat, "tools"):
        if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
            kind = tool.get("type") if isinstance(tool, dict) else tool
            raise RequestInvalid(f"A tool of type '{kind}' is not possible here: only functions are.", param="tools")
        functions.append(tool["function"])
    return functions


def chosen_tool(chat: Chat) -> str:
    """`auto`, `none`, `required`, or `=NAME` for one function; empty when nothing was chosen."""
    choice = chat.get("tool_choice")
    if isinstance(choice, dict):
        function = choice.get("function")
        return f"={function.get('name')}" if isinstance(function, dict) else ""
    return choice if isinstance(choice, str) else ""


def longest_answer(chat: Chat) -> int | None:
    """Most tokens that the client lets the model write."""
    for name in ("max_completion_tokens", "max_tokens"):
        if isinstance(chat.get(name), int):
            return int(chat[name])
    return None


def stops_of(chat: Chat) -> list[str]:
    """Texts that end an answer. Raises `RequestInvalid`."""
    stop = chat.get("stop")
    return [stop] if isinstance(stop, str) else list_in(chat, "stop")


def list_in(fields: Mapping[str, Any], name: str, *, param: str = "") -> list[Any]:
    """A list among fields, empty where there is none. Raises `RequestInvalid` for anything else."""
    found = fields.get(name)
    if found is None or isinstance(found, list):
        return found or []
    raise RequestInvalid(f"'{name}' is wrong: expected a list.", param=param or name)


def schema_of(chat: Chat) -> dict[str, Any] | None:
    """The JSON Schema that the answer is to fit; `{}` where any JSON will do, None where it is free.

    Raises `RequestInvalid` where the schema is no object.
    """
    wanted = chat.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") in (None, "text"):
        return None
    if wanted.get("type") == "json_schema":
        named = wanted.get("json_schema")
        schema = (named.get("schema") if isinstance(named, dict) else None) or {}
        if not isinstance(schema, dict):
            raise RequestInvalid("'response_format' is wrong: 'schema' is an object.", param="response_format")
        return dict(schema)
    return {}


def refuse(chat: Chat, api: str, *names: str) -> None:
    """Raises `RequestInvalid` for wishes that this API cannot honour and that change what the answer is."""
    for name in names:
        wished = chat.get(name)
        if wished and not (name == "n" and wished == 1):
            raise RequestInvalid(f"'{name}' is not possible here: {api} has no such thing.", param=name)


def last_event(reader: EventReader) -> list[Any]:
    """The event that a stream ended with where its empty line is missing; one that was cut in the middle is none."""
    found = []
    for data in reader.close():
        try:
            found.append(msgspec.json.decode(data))
        except ValueError:
            continue
    return found


def joined_turns(turns: Iterable[dict[str, Any]], *, key: str) -> list[dict[str, Any]]:
    """Turns of the same role in a row as one, their lists under `key` joined: some APIs want roles to alternate."""
    joined: list[dict[str, Any]] = []
    for turn in turns:
        if not turn[key]:
            continue
        if joined and joined[-1]["role"] == turn["role"]:
            joined[-1][key] = [*joined[-1][key], *turn[key]]
        else:
            joined.append(turn)
    return joined


# Writing an answer ---------------------------------------------------------------------------------------------------


def completion_of(
    facts: Facts,
    *,
    model: str,
    text: str,
    calls: Sequence[ToolCall],
    finish: str,
    usage: Usage | None,
    reasoning: str = "",
) -> dict[str, Any]:
    """A chat completion with one choice."""
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    if calls:
        message["tool_calls"] = [call_shape(call) for call in calls]
    if reasoning:
        message["reasoning_content"] = reasoning
    completion: dict[str, Any] = {
        "id": facts.id,
        "object": "chat.completion",
        "created": facts.created,
        "model": model or facts.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
    }
    if usage is not None:
        completion["usage"] = usage_shape(usage)
    return completion
