"""What an engine said in the shape of chat completions, as a reply or as the pieces of one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import msgspec

from slipway.domain.errors import EngineGarbled, UpstreamError
from slipway.domain.message import Delta, FinishReason, Reply, Request, Usage
from slipway.text.tokens import count_tokens
from slipway.upstream.client import Response
from slipway.upstream.engine_errors import engine_error, refused
from slipway.wire.errors import error_text
from slipway.wire.openai import read_piece, read_reply
from slipway.wire.sse import EventReader, EventTooLong

Ask = Callable[[], Awaitable[Response]]
"""Sends the request; what it raises goes through as it is, `UpstreamError` as the engine's own error."""


async def read_whole(ask: Ask, request: Request, *, engine: str, url: str) -> Reply:
    """Raises the `EngineError` family."""
    try:
        response = await ask()
        body = await response.read()
    except UpstreamError as error:
        raise engine_error(engine, url, error) from error
    if response.status >= 400:
        raise refused(engine, response, error_text(body))
    try:
        reply = read_reply(body, model=request.model)
    except ValueError as wrong:
        raise EngineGarbled(engine, str(wrong)) from wrong
    return replace(reply, usage=estimate(request, reply.text)) if reply.usage.estimated else reply


async def read_deltas(ask: Ask, request: Request, *, engine: str, url: str) -> AsyncIterator[Delta]:
    """Raises the `EngineError` family."""
    reader = EventReader()
    finish: FinishReason | None = None
    usage: Usage | None = None
    texts: list[str] = []
    response: Response | None = None
    try:
        response = await ask()
        if response.status >= 400:
            raise refused(engine, response, error_text(await response.read()))
        done = False
        while not done and (piece := await response.piece()):
            for data in reader.feed(piece):
                if data == b"[DONE]":
                    done = True
                    break
                event = read_piece(data)
                if event.error:
                    raise EngineGarbled(engine, f"it ended with the error '{event.error}'")
                finish, usage = event.finish or finish, event.usage or usage
                if event.text:
                    texts.append(event.text)
                    yield Delta(text=event.text)
        if finish is None and not done:
            raise EngineGarbled(engine, "the stream ended in the middle")
        yield Delta(finish=finish or "stop", usage=usage or estimate(request, "".join(texts)))
    except UpstreamError as error:
        raise engine_error(engine, url, error) from error
    except (msgspec.DecodeError, EventTooLong) as wrong:
        raise EngineGarbled(engine, str(wrong)) from wrong
    finally:
        if response is not None:
            response.close()


def estimate(request: Request, text: str) -> Usage:
    """Tokens by a rule of thumb, where the endpoint did not count."""
    asked = sum(count_tokens(message.text) for message in request.messages)
    return Usage(input_tokens=asked, output_tokens=count_tokens(text), estimated=True)
