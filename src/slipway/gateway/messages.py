"""POST /v1/messages, Anthropic's API on any release, and /v1/messages/count_tokens.

Where the engine speaks it too and no guardrail has to read along, requests and answers go through as they are; else
they are translated into chat completions and back. Engines of the same API then still get what only they know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.gateway.admission import check_model
from slipway.gateway.call import Call
from slipway.gateway.chat import complete_routed
from slipway.gateway.fields import read_model
from slipway.gateway.forward import forward
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.gateway.side_calls import NO_SUCH_PATH, ask_alone
from slipway.gateway.targets import Target
from slipway.text.tokens import count_tokens
from slipway.wire.messages import countable_in, read_request
from slipway.wire.openai import read_fields
from slipway.wire.thoughts import BETA

PATH = "messages"
COUNT = "messages/count_tokens"
TOKENS_OF_AN_IMAGE = 1600
"""What Anthropic counts for the largest image that it does not shrink (width times height over 750)."""
SAFE_BETA = re.compile(rb"[A-Za-z0-9._, -]{1,1024}")


async def take_messages(call: Call, services: Services) -> None:
    """The gateway has seen to it that whatever goes out is in the shape of this API, before anything can fail."""
    body = await call.body()
    fields = read_fields(body)
    call.model = read_model(fields)
    call.identify(_user(fields))
    target = find_route(call)
    settings = call.snapshot.workspace.settings
    passing = target.plain and PATH in target.endpoints and target.guardrails.read_nothing
    # The cache, shadows, and engines of other APIs that stand in know chat completions only.
    target = _with_beta(call, target)
    shadowed = call.channel in call.snapshot.shadowed
    if not passing or shadowed or settings.cache.enabled or settings.routing.fallback:
        chat = read_request(body, everything=PATH in target.endpoints)
        await complete_routed(call, services, msgspec.json.encode(chat), target)
        return
    call.native = True
    services.admission.reserve(call, target, body=body, fields=fields)
    await forward(call, services, path=PATH, fields=fields, body=body, target=target)


def _with_beta(call: Call, target: Target) -> Target:
    """The target with the features that the client asks for by header, where its engine is one that knows them."""
    given, engine = call.headers.get(BETA), target.translator
    if given is None or engine is None or PATH not in target.endpoints or SAFE_BETA.fullmatch(given) is None:
        return target
    line = b"%b: %b\r\n" % (BETA, given)
    endpoints = {
        path: tuple(replace(one, head=one.head + line) for one in prepared)
        for path, prepared in target.endpoints.items()
    }
    headers = engine.headers | {BETA.decode(): given.decode("ascii")}
    return replace(target, endpoints=endpoints, translator=replace(engine, headers=headers))


async def count_message_tokens(call: Call, services: Services) -> None:
    """How many tokens a request to /v1/messages has: by the engine where it is asked as the request stands, else
    estimated, and said to be. Costs nothing and leaves no trace."""
    body = await call.body()
    fields = read_fields(body)
    call.model = read_model(fields)
    call.identify(_user(fields))
    target = find_route(call)
    check_model(call, target)
    # What guardrails would take out must not reach the engine this way.
    if target.plain and COUNT in target.endpoints and target.guardrails.read_nothing:
        target = _with_beta(call, target)
        passed, _ = await ask_alone(
            call,
            services,
            target,
            COUNT,
            body_for=lambda one: msgspec.json.encode(fields | {"model": one.model_json}),
        )
        status = passed.response.status
        if status not in NO_SUCH_PATH:
            call.native = True
            await call.reply(status, passed.body)
            return
    texts, images = countable_in(body)
    count = sum(map(count_tokens, texts)) + images * TOKENS_OF_AN_IMAGE
    call.native = True
    await call.reply(200, msgspec.json.encode({"input_tokens": count, "slipway": {"estimated": True}}))


def _user(fields: Mapping[str, msgspec.Raw]) -> str | None:
    try:
        metadata = msgspec.json.decode(fields["metadata"]) if "metadata" in fields else None
    except ValueError:
        metadata = None
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if user is not None and not isinstance(user, str):
        raise RequestInvalid("'metadata.user_id' is wrong: expected a text.", param="metadata")
    return user
