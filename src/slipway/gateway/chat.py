"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any

import msgspec

from slipway.domain.answer import Answer
from slipway.domain.errors import Blocked, EngineError, RequestInvalid, SlipwayError
from slipway.domain.ids import ReleaseId
from slipway.gateway.answers import answer_call
from slipway.gateway.caching import Tee, embed_asked, find, give, keep, read_asked
from slipway.gateway.call import Call
from slipway.gateway.fields import Fields, read_model, read_user
from slipway.gateway.forward import forward
from slipway.gateway.routing import find_route
from slipway.gateway.services import Services
from slipway.gateway.targets import Target
from slipway.wire.errors import error_kind, write_error
from slipway.wire.openai import (
    ChatRequest,
    ChunkWriter,
    read_chat,
    read_decoding,
    read_fields,
    read_messages,
    write_completion,
)
from slipway.wire.sse import DONE
from slipway.wire.thoughts import without


async def chat(call: Call, services: Services) -> None:
    await complete_chat(call, services, await call.body())


async def complete_chat(call: Call, services: Services, body: bytes) -> None:
    """Answers a chat completion request, whichever API it came by."""
    fields = read_fields(body)
    call.model = read_model(fields)
    call.identify(read_user(fields))
    target = find_route(call)
    settings = call.snapshot.workspace.settings.cache
    if not settings.enabled or b"no-store" in call.headers.get(b"cache-control", b""):
        await _serve(call, services, body=body, fields=fields, target=target)
        return
    await _serve_or_repeat(call, services, body=body, fields=fields, target=target)


async def complete_routed(call: Call, services: Services, body: bytes, target: Target) -> None:
    """The same for a call whose asker and target are known."""
    settings, fields = call.snapshot.workspace.settings.cache, read_fields(body)
    repeats = settings.enabled and b"no-store" not in call.headers.get(b"cache-control", b"")
    serve = _serve_or_repeat if repeats else _serve
    await serve(call, services, body=body, fields=fields, target=target)


async def _serve_or_repeat(call: Call, services: Services, *, body: bytes, fields: Fields, target: Target) -> None:
    """Gives an answer that is kept, or keeps the one that is given."""
    settings = call.snapshot.workspace.settings.cache
    asked = read_asked(call, target, fields, settings)
    if asked is not None:
        found = None
        wanted = b"no-cache" not in call.headers.get(b"cache-control", b"")
        if wanted:
            found = find(services.cache, asked, settings, target=target, fields=fields)
        if found is None and asked.embedder:
            asked = await embed_asked(call, asked)
            if wanted and asked.vector is not None:
                found = find(services.cache, asked, settings, target=target, fields=fields)
        if found is not None:
            services.admission.admit_again(call, target)
            await give(call, services.ledger, target, found, fields)
            return
    tee = Tee(call)
    call.send_through(tee.before)
    await _serve(call, services, body=body, fields=fields, target=target)
    if asked is not None:
        keep(services.cache, call, target, asked, tee, settings)


async def _serve(call: Call, services: Services, *, body: bytes, fields: Fields, target: Target) -> None:
    services.admission.reserve(call, target, body=body, fields=fields)
    answering = _answer(call, services, body=body, fields=fields, target=target)
    if call.channel not in call.snapshot.shadowed:
        await answering
        return
    await answer_and_copy(call, services, answering, body)


async def answer_and_copy(call: Call, services: Services, answering: Coroutine[Any, Any, None], chat: bytes) -> None:
    """Answers a call and sends a copy, the chat completion that asks the same, to the shadow of its channel."""
    try:
        await answering
    except EngineError:
        services.shadows.copy(call, partial(_answer_as_shadow, services, chat))
        raise
    services.shadows.copy(call, partial(_answer_as_shadow, services, chat))


async def _answer_as_shadow(services: Services, body: bytes, call: Call) -> None:
    target = call.snapshot.target(ReleaseId(call.release))
    if call.path == "/v1/messages" and "messages" not in target.endpoints:
        body = msgspec.json.encode(without(msgspec.json.decode(body)))
    await _answer(call, services, body=body, fields=read_fields(body), target=target)


def _answer(
    call: Call, services: Services, *, body: bytes, fields: Fields, target: Target
) -> Coroutine[Any, Any, None]:
    if target.plain and "chat/completions" in target.endpoints:
        return forward(call, services, path="chat/completions", fields=fields, body=body, target=target)
    return _answer_by_release(call, services, body=body, target=target)


async def _answer_by_release(call: Call, services: Services, *, body: bytes, target: Target) -> None:
    request = read_chat(body)
    _refuse_unsupported(request, target.label)
    await answer_call(
        call,
        services,
        target=target,
        messages=read_messages(request.messages),
        decoding=read_decoding(request),
        stream=bool(request.stream),
        shape=ChatShape(call, include_usage=bool(request.stream_options and request.stream_options.include_usage)),
    )


class ChatShape:
    """An answer as a chat completion."""

    def __init__(self, call: Call, *, include_usage: bool) -> None:
        self._id = f"chatcmpl-{call.trace}"
        self._model = call.model
        self._created = call.started_ns // 1_000_000_000
        self._include_usage = include_usage
        self._chunks = ChunkWriter(id=self._id, model=self._model, created=self._created)

    def whole(self, answer: Answer, more: Mapping[str, Any]) -> bytes:
        return write_completion(
            id=self._id,
            model=self._model,
            created=self._created,
            text=answer.text,
            finish=answer.finish,
            usage=answer.usage,
            more=more,
        )

    def begin(self) -> bytes:
        return b""

    def text(self, text: str) -> bytes:
        return self._chunks.text(text)

    def end(self, answer: Answer, more: Mapping[str, Any]) -> bytes:
        usage = self._chunks.usage(answer.usage) if self._include_usage else b""
        return self._chunks.finish(answer.finish, more) + usage + DONE

    def blocked(self, blocked: Blocked, more: Mapping[str, Any]) -> bytes:
        return self._chunks.finish("content_filter", more) + DONE

    def failed(self, failed: SlipwayError) -> bytes:
        error = write_error(str(failed), kind=error_kind(failed.http_status), code=failed.code)
        return b"data: %b\n\n" % error


def _refuse_unsupported(request: ChatRequest, label: str) -> None:
    """What a release with its own prompt cannot honour is refused rather than ignored."""
    wishes = {
        "tools": bool(request.tools),
        "n": request.n not in (None, 1),
        "response_format": request.response_format is not None and request.response_format.type != "text",
    }
    for name, wished in wishes.items():
        if wished:
            raise RequestInvalid(
                f"'{name}' is not possible here: {label} answers one text from its own prompt and documents.",
                param=name,
            )
