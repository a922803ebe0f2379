"""The engine for the tail of providers: whatever Mozilla's any-llm reaches, on a slow lane."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from slipway.domain.errors import (
    ConnectFailed,
    PackageMissing,
    ResponseGarbled,
    UpstreamTimeout,
    did_you_mean,
)
from slipway.engines.base import engines
from slipway.upstream.client import Deadlines, HttpClient, Response
from slipway.upstream.slow_lane import Begun, LaneResponse, SlowLane
from slipway.upstream.translated import ChatEngine
from slipway.wire.chat import ONLY_HINTS
from slipway.wire.errors import error_kind, invalid_body, write_error
from slipway.wire.sse import DONE, write_event

AT_ONCE = 32
STATUSES = {
    "AuthenticationError": 401,
    "ContentFilterError": 400,
    "ContextLengthExceededError": 400,
    "GatewayTimeoutError": 504,
    "InsufficientFundsError": 402,
    "InvalidRequestError": 400,
    "MissingApiKeyError": 401,
    "ModelNotFoundError": 404,
    "RateLimitError": 429,
    "UnsupportedParameterError": 400,
}
"""What an error of any-llm means where the provider told no status."""
LANE = SlowLane("slipway any-llm", at_once=AT_ONCE)
_decode = msgspec.json.Decoder(dict[str, Any])
_clients: dict[tuple[str, str, str], Any] = {}


@cache
def _sdk() -> Any:
    """Raises `PackageMissing`. Takes two seconds the first time."""
    try:
        return importlib.import_module("any_llm")
    except ModuleNotFoundError as missing:
        raise PackageMissing("engine 'any_llm'", "any-llm-sdk", "pip install 'slipway[providers]'") from missing


@cache
def _taken() -> frozenset[str]:
    """Fields of a chat completion that any-llm knows."""
    return frozenset(inspect.signature(_sdk().AnyLLM.acompletion).parameters) - {"self", "kwargs"}


@engines.register("any_llm")
@dataclass(frozen=True, slots=True, kw_only=True)
class AnyLlm(ChatEngine):
    """Some fifty more providers over any-llm, `provider` by name; slower than every other engine. Extra `providers`.

    Most providers need a package of their own, as `pip install 'any-llm-sdk[mistral]'`. `base_url` empty is the
    provider's own address. Times are seconds.
    """

    provider: str
    first_byte_s: float = 120.0
    name: str = "any_llm"

    def __post_init__(self) -> None:
        ChatEngine.__post_init__(self)
        known = _sdk().AnyLLM.get_supported_providers()
        if self.provider not in known:
            raise ValueError(f"any-llm knows no provider '{self.provider}'.{did_you_mean(self.provider, known)}")

    def address(self, model: str, *, stream: bool) -> str:
        return self.base_url or f"https://{self.provider}/"

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
        origin = self.prepare_chat(str(chat.get("model") or ""), b"", stream=False).origin
        taken = _taken()
        asked = {name: value for name, value in chat.items() if name in taken or name not in ONLY_HINTS} | self.extra
        response = LaneResponse(origin, deadlines or self.deadlines)
        await response.start(LANE, self._begin(asked, origin))
        return response

    # On the lane ---------------------------------------------------------------------------------------------------

    async def _begin(self, asked: dict[str, Any], origin: str) -> Begun:
        try:
            found = await self._client().acompletion(**asked)
        except TypeError as wrong:
            return self._refusal(400, f"any-llm cannot pass this on to {self.provider}: {wrong}")
        except ImportError as missing:
            raise ConnectFailed(origin, str(missing)) from missing
        except Exception as wrong:
            return self._failure(origin, wrong)
        if asked.get("stream"):
            headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
            return 200, headers, self._events(origin, found)
        return 200, [(b"content-type", b"application/json")], _once(msgspec.json.encode(_completion(found)))

    def _client(self) -> Any:
        """Made once for each key and address, with the provider's own client inside."""
        key = (self.provider, self.api_key.reveal(), self.base_url)
        if key not in _clients:
            given = {"api_key": key[1] or None, "api_base": self.base_url or None, "unified_exceptions": True}
            create, exceptions = _sdk().AnyLLM.create, _sdk().exceptions
            try:
                # The gateway retries by itself, within its budget.
                _clients[key] = create(self.provider, max_retries=0, **given)
            except exceptions.UnsupportedParameterError:
                _clients[key] = create(self.provider, **given)
        return _clients[key]

    async def _events(self, origin: str, found: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in found:
                yield write_event(msgspec.json.encode(_chunk(chunk)))
        except Exception as wrong:
            raise ResponseGarbled(origin, str(wrong)) from wrong
        yield DONE

    def _failure(self, origin: str, wrong: Exception) -> Begun:
        """What the provider refused as an answer with its status. Raises `UpstreamError` where nobody answered."""
        kind = type(wrong).__name__
        cause = getattr(wrong, "original_exception", None) or wrong
        status = getattr(wrong, "status_code", None) or getattr(cause, "status_code", None) or STATUSES.get(kind)
        if isinstance(status, int) and status >= 400:
            code = "content_filter" if kind == "ContentFilterError" else getattr(wrong, "code", None)
            waits = getattr(wrong, "retry_after", None)
            return self._refusal(status, getattr(wrong, "message", "") or str(wrong), code=code, retry_after=waits)
        names = {one.__name__ for one in type(cause).__mro__}
        if names & {"TimeoutError", "APITimeoutError", "TimeoutException"}:
            raise UpstreamTimeout(origin, "first byte", self.first_byte_s) from wrong
        if names & {"ConnectionError", "APIConnectionError", "ConnectError", "TransportError"}:
            raise ConnectFailed(origin, str(cause)) from wrong
        raise ResponseGarbled(origin, str(wrong)) from wrong

    def _refusal(self, status: int, message: str, *, code: Any = None, retry_after: Any = None) -> Begun:
        headers = [(b"content-type", b"application/json")]
        if retry_after is not None:
            headers.append((b"retry-after", str(retry_after).encode("ascii", "replace")))
        error = write_error(message, kind=error_kind(status), code=str(code) if code else None)
        return status, headers, _once(error)


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _completion(found: Any) -> dict[str, Any]:
    shape: dict[str, Any] = found.model_dump(mode="json", exclude_none=True)
    for choice in shape.get("choices", ()):
        message = choice.get("message", {})
        message.setdefault("content", None)
        _say_thoughts(message)
        choice.setdefault("finish_reason", "stop")
    return shape | {"created": shape.get("created") or int(time.time())}


def _chunk(found: Any) -> dict[str, Any]:
    shape: dict[str, Any] = found.model_dump(mode="json", exclude_none=True)
    for choice in shape.get("choices", ()):
        _say_thoughts(choice.setdefault("delta", {}))
        choice.setdefault("finish_reason", None)
    return shape


def _say_thoughts(message: dict[str, Any]) -> None:
    """any-llm says what a model thinks as `reasoning`; everybody here as `reasoning_content`."""
    reasoning = message.pop("reasoning", None)
    text = reasoning.get("content") if isinstance(reasoning, Mapping) else reasoning
    if isinstance(text, str) and text and not message.get("reasoning_content"):
        message["reasoning_content"] = text
