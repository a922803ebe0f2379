"""POST /v1/messages, Anthropic's API on any release: translated into a chat completion, and its answer back."""

from __future__ import annotations

import msgspec

from slipway.gateway.call import Call
from slipway.gateway.chat import complete_chat
from slipway.gateway.services import Services
from slipway.wire.messages import read_request


async def take_messages(call: Call, services: Services) -> None:
    """The answer is translated already: the gateway sees to it before anything can fail."""
    await complete_chat(call, services, msgspec.json.encode(read_request(await call.body())))
