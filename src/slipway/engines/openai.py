"""The engine for every endpoint in the shape of the OpenAI API: OpenAI itself, vLLM, Ollama, llama.cpp and more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from slipway.config.secrets import Secret
from slipway.domain.errors import EngineError, UpstreamError
from slipway.domain.message import Delta, Reply, Request
from slipway.engines.base import Tools, engines
from slipway.upstream.chat import read_deltas, read_whole
from slipway.upstream.client import Deadlines, Prepared, Response, prepare
from slipway.upstream.engine_errors import engine_error, refused
from slipway.wire.errors import error_text
from slipway.wire.openai import write_chat

LARGEST_REPLY = 64 * 1024 * 1024


@engines.register("openai")
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAI:
    """Any endpoint in the shape of the OpenAI API; `base_url` ends in /v1 for most of them.

    `fallback_urls` serve the same model and are asked in order where an earlier one fails before its first byte.
    `responses` says that it answers the Responses API too: requests of that API then go there as they are.
    `leave_out` names request fields that the endpoint refuses, `extra` is added to every request, and `max_tokens_as`
    is the field that caps the answer (`max_completion_tokens` for OpenAI's reasoning models). Times are seconds.
    """

    base_url: str
    api_key: Secret = field(default_factory=lambda: Secret(""))
    fallback_urls: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    max_tokens_as: str = "max_tokens"
    responses: bool = False
    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 600.0
    name: str = "openai"

    def __post_init__(self) -> None:
        _ = self.deadlines  # refuses those that nobody could keep

    @property
    def deadlines(self) -> Deadlines:
        return Deadlines(
            connect_s=self.connect_s, first_byte_s=self.first_byte_s, idle_s=self.idle_s, total_s=self.total_s
        )

    def endpoints(self, path: str, *, form: bool = False) -> tuple[Prepared, ...]:
        """Where a client's own request can be forwarded to unchanged, in the order to ask. A `form` brings the
        content-type of its own."""
        headers = [("accept-encoding", "identity"), *self.headers.items()]
        if not form:
            headers.insert(0, ("content-type", "application/json"))
        if self.api_key:
            headers.append(("authorization", f"Bearer {self.api_key.reveal()}"))
        bases = (self.base_url, *self.fallback_urls)
        return tuple(prepare("POST", f"{base.rstrip('/')}/{path}", headers) for base in bases)

    async def complete(self, request: Request, *, tools: Tools) -> Reply:
        return await read_whole(
            lambda: self._ask(request, tools, stream=False), request, engine=self.name, url=self.base_url
        )

    def stream(self, request: Request, *, tools: Tools) -> AsyncIterator[Delta]:
        return read_deltas(lambda: self._ask(request, tools, stream=True), request, engine=self.name, url=self.base_url)

    async def _ask(self, request: Request, tools: Tools, *, stream: bool) -> Response:
        body = write_chat(
            request,
            stream=stream,
            max_tokens_as=self.max_tokens_as,
            leave_out=self.leave_out,
            extra=self.extra,
        )
        *others, last = self.endpoints("chat/completions")
        for endpoint in others:
            try:
                return await self._send(endpoint, body, tools)
            except EngineError as failed:
                if not failed.retryable:
                    raise
        return await self._send(last, body, tools)

    async def _send(self, endpoint: Prepared, body: bytes, tools: Tools) -> Response:
        try:
            response = await tools.http.send_prepared(
                endpoint, body=body, deadlines=self.deadlines, max_bytes=LARGEST_REPLY
            )
            if response.status >= 400:
                raise refused(self.name, response, error_text(await response.read()))
        except UpstreamError as error:
            raise engine_error(self.name, endpoint.origin, error) from error
        return response
