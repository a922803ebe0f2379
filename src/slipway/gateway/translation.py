"""Answers in the client's own API: chat completions on their way out are translated, whole or as a stream."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

import msgspec

from slipway.domain.errors import RequestInvalid, ResponseGarbled
from slipway.gateway.call import Call, Send
from slipway.wire import generate_content, messages, responses
from slipway.wire.chat import Facts, StreamTranslator
from slipway.wire.errors import UNREADABLE, error_kind, write_error

EVENTS = b"text/event-stream"
GARBLED = "The answer of the engine cannot be told in this API."


class ClientDialect(Protocol):
    """How one API of clients says what a chat completion says."""

    @property
    def passing(self) -> bool:
        """Whether answers are in this shape already."""
        ...

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        """Raises `ValueError` where it is no completion."""
        ...

    def stream(self) -> StreamTranslator: ...

    def error(self, body: bytes, status: int) -> bytes: ...


def answer_in(call: Call, dialect: ClientDialect) -> None:
    """From now on everything that goes out on this call is translated."""
    call.send_through(lambda send: Outlet(send, dialect))


class Outlet:
    """Stands between a call and the server, and sends on what the dialect makes of each message."""

    def __init__(self, send: Send, dialect: ClientDialect) -> None:
        self._send = send
        self._dialect = dialect
        self._start: MutableMapping[str, Any] = {}
        self._stream: StreamTranslator | None = None
        self._pieces: list[bytes] = []

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            headers = dict(message["headers"])
            if message["status"] < 400 and headers.get(b"content-type", b"").startswith(EVENTS):
                self._stream = self._dialect.stream()
                await self._send(message)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._stream is not None:
            try:
                out = self._stream.feed(body) if body else b""
                if not more:
                    out += self._stream.close()
            except UNREADABLE as wrong:
                # Whoever passes the stream on ends it with an error, which comes by here and can be told.
                raise ResponseGarbled("the engine", f"an event of its stream cannot be read: {wrong}") from wrong
            if out or not more:
                await self._send({"type": "http.response.body", "body": out, "more_body": more})
            return
        self._pieces.append(body)
        if not more:
            await self._send_whole(b"".join(self._pieces))

    async def _send_whole(self, body: bytes) -> None:
        start = self._start
        try:
            if start["status"] >= 400:
                out = self._dialect.error(body, start["status"])
            elif self._dialect.passing:
                out = body
            else:
                out = msgspec.json.encode(self._dialect.whole(msgspec.json.decode(body)), enc_hook=str)
        except (*UNREADABLE, RequestInvalid):
            start["status"] = 502
            out = self._dialect.error(write_error(GARBLED, kind=error_kind(502), code="engine_garbled"), 502)
        replaced = (b"content-length", b"content-type")
        start["headers"] = [
            *(pair for pair in start["headers"] if pair[0] not in replaced),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(out)),
        ]
        await self._send(start)
        await self._send({"type": "http.response.body", "body": out})


class _OfCall:
    """What dialects have in common that some engines speak too."""

    prefix = ""
    """Of the id of an answer."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def passing(self) -> bool:
        return self._call.native

    @property
    def _facts(self) -> Facts:
        # Read late: the model is known only when the body was read.
        call = self._call
        return Facts(f"{self.prefix}{call.trace}", call.model, call.started_ns // 1_000_000_000)


class MessagesDialect(_OfCall):
    """Anthropic's Messages API."""

    prefix = "msg_"

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        return messages.write_answer(completion, self._facts)

    def stream(self) -> StreamTranslator:
        return messages.Passing() if self.passing else messages.StreamWriter(self._facts)

    def error(self, body: bytes, status: int) -> bytes:
        return messages.translate_error(body, status=status, request_id=self._call.request_id.decode("latin-1"))


class GeminiDialect(_OfCall):
    """Google's Gemini API."""

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        return generate_content.write_answer(completion, self._facts)

    def stream(self) -> StreamTranslator:
        return generate_content.StreamWriter(self._facts)

    def error(self, body: bytes, status: int) -> bytes:
        return generate_content.translate_error(body, status=status)


class ResponsesDialect:
    """The OpenAI Responses API. Its errors have the shape of all of OpenAI's."""

    passing = False

    def __init__(self, call: Call, request: responses.ResponsesRequest) -> None:
        self._facts = Facts(f"resp_{call.trace}", request.model, call.started_ns // 1_000_000_000)
        self._shape = responses.ResponseShape(request, self._facts)

    def whole(self, completion: dict[str, Any]) -> dict[str, Any]:
        return responses.write_answer(completion, self._shape, self._facts)

    def stream(self) -> StreamTranslator:
        return responses.StreamWriter(self._shape, self._facts)

    def error(self, body: bytes, status: int) -> bytes:
        return body
