"""POST /v1/responses, without kept state: translated into a chat completion and back; and what its input counts."""

from __future__ import annotations

import msgspec

from slipway.gateway.admission import check_model
from slipway.gateway.call import Call
from slipway.gateway.chat import complete_chat
from slipway.gateway.fields import read_user
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.gateway.translation import ResponsesDialect, answer_in
from slipway.text.tokens import count_tokens
from slipway.wire.openai import read_fields
from slipway.wire.responses import read_request
from slipway.wire.texts import texts_in


async def respond(call: Call, services: Services) -> None:
    request, chat = read_request(await call.body())
    answer_in(call, ResponsesDialect(call, request))
    await complete_chat(call, services, msgspec.json.encode(chat))


async def count_input_tokens(call: Call, services: Services) -> None:
    """How many tokens the texts of such a request have: estimated, and said to be. Costs nothing and leaves no
    trace."""
    body = await call.body()
    request, chat = read_request(body)
    call.model = request.model
    call.identify(read_user(read_fields(body)))
    check_model(call, find_route(call))
    said = [{name: value for name, value in message.items() if name != "role"} for message in chat["messages"]]
    texts = texts_in(said) + [msgspec.json.encode(tool).decode() for tool in chat.get("tools", ())]
    counted = {"object": "response.input_tokens", "input_tokens": sum(map(count_tokens, texts))}
    await call.reply(200, msgspec.json.encode(counted | {"slipway": {"estimated": True}}))
