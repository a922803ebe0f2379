"""Google's Gemini API on any release: generateContent, whole and as a stream, countTokens, and the list of models."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from slipway.domain.errors import ModelNotFound, RequestInvalid
from slipway.gateway.admission import check_model
from slipway.gateway.call import Call
from slipway.gateway.chat import complete_chat
from slipway.gateway.models import known_models
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.text.tokens import count_tokens
from slipway.wire.generate_content import read_request
from slipway.wire.openai import read_fields
from slipway.wire.texts import texts_of_chat

ROOT = "/v1beta/"
MODELS = f"{ROOT}models"
METHOD = re.compile(r"/v1(?:beta)?/models/(.+):(generateContent|streamGenerateContent|countTokens)")
CLIENT = b"x-goog-api-client"
"""A header by which Google's own clients are known: newer ones list models under the path of OpenAI's."""
GENERATED = (f"{MODELS}/MODEL:generateContent", f"{MODELS}/MODEL:streamGenerateContent")
CAN = ["generateContent", "countTokens"]


def place_of(call: Call) -> tuple[str, str]:
    """A path of this API as it stands in `GENERATING`, and the model that it names, which the body does not."""
    path = call.path
    found = METHOD.fullmatch(path)
    if found is not None:
        return f"{MODELS}/MODEL:{found[2]}", found[1]
    return (f"{ROOT}{path.removeprefix('/v1/')}" if path.startswith("/v1/") and CLIENT in call.headers else path), ""


async def generate(call: Call, services: Services) -> None:
    await _complete(call, services, stream=False)


async def stream_generate(call: Call, services: Services) -> None:
    query = parse_qs(call.scope["query_string"].decode("latin-1"))
    if query.get("alt") != ["sse"]:
        raise RequestInvalid("A stream is told in events here: call :streamGenerateContent?alt=sse.", param="alt")
    await _complete(call, services, stream=True)


async def _complete(call: Call, services: Services, *, stream: bool) -> None:
    chat = read_request(await call.body(), stream=stream)
    await complete_chat(call, services, msgspec.json.encode(chat))


async def count_contents(call: Call, services: Services) -> None:
    """How many tokens the texts of a request have: estimated, and said to be. Costs nothing and leaves no trace."""
    fields = read_fields(await call.body())
    inner = fields.get("generateContentRequest")
    body = msgspec.json.encode(fields) if inner is None else _inner_body(inner, call.deployment)
    call.model = call.deployment
    check_model(call, find_route(call))
    chat = read_request(body, stream=False)
    call.native = True
    counted = {"totalTokens": sum(map(count_tokens, texts_of_chat(chat))), "slipway": {"estimated": True}}
    await call.reply(200, msgspec.json.encode(counted))


def _inner_body(inner: msgspec.Raw, model: str) -> bytes:
    return msgspec.json.encode(read_fields(bytes(inner)) | {"model": model})


async def list_generating(call: Call, services: Services) -> None:
    models = [_shape(name) for name in known_models(call)]
    call.native = True
    await call.reply(200, msgspec.json.encode({"models": models}))


async def show_generating(call: Call, services: Services) -> None:
    name, known = call.path.removeprefix(f"{MODELS}/"), known_models(call)
    if name not in known:
        raise ModelNotFound(name, known=list(known), next_step="")
    call.native = True
    await call.reply(200, msgspec.json.encode(_shape(name)))


def _shape(name: str) -> dict[str, Any]:
    return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": CAN}


GENERATING: Mapping[str, tuple[str, Callable[[Call, Services], Awaitable[None]]]] = {
    GENERATED[0]: ("POST", generate),
    GENERATED[1]: ("POST", stream_generate),
    f"{MODELS}/MODEL:countTokens": ("POST", count_contents),
    MODELS: ("GET", list_generating),
}
"""By path, with the method of HTTP."""
