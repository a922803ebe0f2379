"""POST /v1/responses, without kept state: translated into a chat completion, and its answer back."""

from __future__ import annotations

import msgspec

from slipway.gateway.call import Call
from slipway.gateway.chat import complete_chat
from slipway.gateway.services import Services
from slipway.gateway.translation import ResponsesDialect, answer_in
from slipway.wire.responses import read_request


async def respond(call: Call, services: Services) -> None:
    request, chat = read_request(await call.body())
    answer_in(call, ResponsesDialect(call, request))
    await complete_chat(call, services, msgspec.json.encode(chat))
