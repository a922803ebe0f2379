"""POST /v1/messages, Anthropic's API on any release.

Where the engine speaks it too and no guardrail has to read along, requests and answers go through as they are; else
they are translated into chat completions and back.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.gateway.call import Call
from slipway.gateway.chat import complete_chat
from slipway.gateway.fields import read_model
from slipway.gateway.forward import forward
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.gateway.targets import NO_RAILS
from slipway.wire.messages import read_request
from slipway.wire.openai import read_fields

PATH = "messages"


async def take_messages(call: Call, services: Services) -> None:
    """The gateway has seen to it that whatever goes out is in the shape of this API, before anything can fail."""
    body = await call.body()
    fields = read_fields(body)
    call.model = read_model(fields)
    call.identify(_user(fields))
    target = find_route(call)
    settings = call.snapshot.workspace.settings
    passing = target.plain and PATH in target.endpoints and target.guardrails == NO_RAILS
    # The cache and engines of other APIs that stand in know chat completions only.
    if not passing or settings.cache.enabled or settings.routing.fallback:
        await complete_chat(call, services, msgspec.json.encode(read_request(body)))
        return
    call.native = True
    services.admission.reserve(call, target, body=body, fields=fields)
    await forward(call, services, path=PATH, fields=fields, body=body, target=target)


def _user(fields: Mapping[str, msgspec.Raw]) -> str | None:
    try:
        metadata = msgspec.json.decode(fields["metadata"]) if "metadata" in fields else None
    except ValueError:
        metadata = None
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if user is not None and not isinstance(user, str):
        raise RequestInvalid("'metadata.user_id' is wrong: expected a text.", param="metadata")
    return user
