"""POST /v1/responses, stateless: text in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.domain.answer import Answer
from slipway.domain.errors import Blocked, RequestInvalid, SlipwayError
from slipway.domain.message import Usage
from slipway.gateway.answers import answer_call
from slipway.gateway.call import Call
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.wire.responses import (
    ResponsesRequest,
    ResponseWriter,
    read_input,
    read_responses_decoding,
    read_responses_request,
)


async def respond(call: Call, services: Services) -> None:
    request = read_responses_request(await call.body())
    call.model = request.model
    call.identify(request.user or request.safety_identifier)
    target = find_route(call)
    form = request.text.format.type if request.text and request.text.format else "text"
    for name, wished in (("tools", bool(request.tools)), ("text.format", form != "text")):
        if wished:
            raise RequestInvalid(f"'{name}' is not possible on /v1/responses here, which writes text only.", param=name)
    await answer_call(
        call,
        services,
        target=target,
        messages=read_input(request),
        decoding=read_responses_decoding(request),
        stream=bool(request.stream),
        shape=ResponsesShape(call, request),
    )


class ResponsesShape:
    """An answer as a response with one message."""

    def __init__(self, call: Call, request: ResponsesRequest) -> None:
        self._writer = ResponseWriter(id=call.trace, request=request, created=call.started_ns // 1_000_000_000)

    def whole(self, answer: Answer, more: Mapping[str, Any]) -> bytes:
        return self._writer.whole(answer.text, finish=answer.finish, usage=answer.usage, more=more)

    def begin(self) -> bytes:
        return self._writer.begin()

    def text(self, text: str) -> bytes:
        return self._writer.text(text)

    def end(self, answer: Answer, more: Mapping[str, Any]) -> bytes:
        return self._writer.end(finish=answer.finish, usage=answer.usage, more=more)

    def blocked(self, blocked: Blocked, more: Mapping[str, Any]) -> bytes:
        return self._writer.end(finish="content_filter", usage=Usage(), more=more)

    def failed(self, failed: SlipwayError) -> bytes:
        return self._writer.failed(code=failed.code, message=str(failed))
