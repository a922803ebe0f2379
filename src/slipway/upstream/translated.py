"""Chat completions over an API of another shape: the request is translated, and so is what comes back."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from slipway.config.secrets import Secret
from slipway.domain.errors import ResponseGarbled
from slipway.domain.ids import new_trace_id
from slipway.domain.message import Delta, Reply, Request
from slipway.upstream.chat import read_deltas, read_whole
from slipway.upstream.client import Deadlines, HttpClient, Prepared, Response
from slipway.upstream.pieces import ByPieces
from slipway.upstream.request import prepare
from slipway.wire.chat import Chat, Facts, StreamTranslator
from slipway.wire.errors import UNREADABLE, error_kind, error_text, invalid_body, write_error
from slipway.wire.openai import write_chat

EVENTS = b"text/event-stream"
LARGEST_REPLY = 64 * 1024 * 1024
_decode = msgspec.json.Decoder(dict[str, Any])


class Dialect(NamedTuple):
    """How one API says what a chat completion says: pure functions of `wire/`."""

    write_request: Callable[[Chat], dict[str, Any]]
    read_answer: Callable[[Mapping[str, Any], Facts], dict[str, Any]]
    read_error: Callable[[Any], tuple[str, str]]
    read_stream: Callable[..., StreamTranslator]
    """Called with the facts and `include_usage`."""
    stream_type: bytes = EVENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEngine(ABC):
    """An engine that is asked in chat completions, however it passes them on. `extra` is added to every request; times
    are seconds."""

    base_url: str = ""
    api_key: Secret = field(default_factory=lambda: Secret(""))
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 600.0
    name: str = ""

    def __post_init__(self) -> None:
        _ = self.deadlines  # refuses those that nobody could keep

    @property
    def deadlines(self) -> Deadlines:
        return Deadlines(
            connect_s=self.connect_s, first_byte_s=self.first_byte_s, idle_s=self.idle_s, total_s=self.total_s
        )

    @abstractmethod
    def address(self, model: str, *, stream: bool) -> str:
        """Where requests for a model go."""

    def credentials(self) -> dict[str, str]:
        """Headers that prove who asks."""
        return {}

    def prepare_chat(self, model: str, body: bytes, *, stream: bool) -> Prepared:
        """The request line and headers of one request. Raises `InputError` for an address that cannot be."""
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            **self.credentials(),
            **self.headers,
        }
        return prepare("POST", self.address(model, stream=stream), list(headers.items()))

    @abstractmethod
    async def send_chat(
        self,
        http: HttpClient,
        body: bytes,
        *,
        extra: bytes = b"",
        deadlines: Deadlines | None = None,
        max_bytes: int | None = None,
        id: str = "",
    ) -> Response:
        """Sends a chat completion request; the response is one of chat completions, whole or as a stream.

        Raises `RequestInvalid` for what the API cannot do, and what `HttpClient.send` raises.
        """

    async def complete(self, request: Request, *, tools: Any) -> Reply:
        return await read_whole(
            lambda: self.send_chat(tools.http, write_chat(request, stream=False), max_bytes=LARGEST_REPLY),
            request,
            engine=self.name,
            url=self.base_url,
        )

    def stream(self, request: Request, *, tools: Any) -> AsyncIterator[Delta]:
        return read_deltas(
            lambda: self.send_chat(tools.http, write_chat(request, stream=True), max_bytes=LARGEST_REPLY),
            request,
            engine=self.name,
            url=self.base_url,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedEngine(ChatEngine):
    """What engines of foreign APIs have in common."""

    @property
    @abstractmethod
    def dialect(self) -> Dialect:
        """How its API writes what ours says, and back."""

    async def send_chat(
        self,
        http: HttpClient,
        body: bytes,
        *,
        extra: bytes = b"",
        deadlines: Deadlines | None = None,
        max_bytes: int | None = None,
        id: str = "",
    ) -> Response:
        try:
            chat = _decode.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            raise invalid_body(wrong) from None
        model, stream = str(chat.get("model") or ""), bool(chat.get("stream"))
        try:
            written = msgspec.json.encode(self.dialect.write_request(chat) | self.extra)
        except RecursionError as wrong:
            raise invalid_body(wrong) from None
        prepared = self.prepare_chat(model, written, stream=stream)
        response = await http.send_prepared(
            prepared, extra=extra, body=written, deadlines=deadlines or self.deadlines, max_bytes=max_bytes
        )
        facts = Facts(id or f"chatcmpl-{new_trace_id()}", model, int(time.time()))
        options = chat.get("stream_options")
        include_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        return TranslatedResponse(
            response, self.dialect, facts, stream=stream, include_usage=include_usage, origin=prepared.origin
        )


class TranslatedResponse(ByPieces):
    """An answer of a foreign API in the shape of chat completions; satisfies `Response`."""

    def __init__(
        self,
        response: Response,
        dialect: Dialect,
        facts: Facts,
        *,
        stream: bool,
        include_usage: bool,
        origin: str,
    ) -> None:
        self._response = response
        self._dialect = dialect
        self._facts = facts
        self._origin = origin
        self._over = False
        self.status = response.status
        given = response.header(b"content-type") or b""
        self._stream: StreamTranslator | None = None
        if stream and response.status < 400 and given.startswith(dialect.stream_type):
            self._stream = dialect.read_stream(facts, include_usage=include_usage)
        kept = [pair for pair in response.headers if pair[0] not in (b"content-type", b"content-length")]
        shape = b"text/event-stream; charset=utf-8" if self._stream else b"application/json"
        self.headers = [*kept, (b"content-type", shape)]

    @property
    def complete(self) -> bool:
        """Whether everything was read and translated."""
        return self._over

    async def piece(self) -> bytes:
        if self._stream is None:
            self._over, before = True, self._over
            return b"" if before else await self.read()
        while not self._over:
            piece = await self._response.piece()
            self._over = not piece or self._response.complete
            try:
                out = self._stream.feed(piece) if piece else b""
                if self._over:
                    out += self._stream.close()
            except UNREADABLE as wrong:
                self.close()
                raise ResponseGarbled(self._origin, f"an event of its stream cannot be read: {wrong}") from wrong
            if out:
                return out
        return b""

    async def read(self) -> bytes:
        if self._stream is not None:
            return await super().read()
        raw = await self._response.read()
        self._over = True
        try:
            answer = msgspec.json.decode(raw)
            if self.status >= 400:
                message, code = self._dialect.read_error(answer)
                text = message or error_text(raw)
                return write_error(text, kind=error_kind(self.status), code=code or None)
            return msgspec.json.encode(self._dialect.read_answer(answer, self._facts))
        except UNREADABLE as wrong:
            if self.status >= 400:
                return write_error(error_text(raw), kind=error_kind(self.status), code=None)
            raise ResponseGarbled(self._origin, f"it cannot be read: {wrong}") from wrong

    def close(self) -> None:
        self._response.close()
