"""What an engine promises, and the registry of engines."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from slipway.domain.message import Delta, Reply, Request
from slipway.embedders.base import Embedder
from slipway.plugins import Registry
from slipway.upstream.client import HttpClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Handles that an engine may need: the HTTP client, and the embedder of the index where there is one."""

    http: HttpClient
    embedder: Embedder | None = None


class Engine(Protocol):
    """Completes requests. An engine is a frozen dataclass of settings; what it needs at run time comes as `tools`.

    Raises the `EngineError` family and nothing else for what goes wrong at the other end.
    """

    async def complete(self, request: Request, *, tools: Tools) -> Reply: ...

    def stream(self, request: Request, *, tools: Tools) -> AsyncIterator[Delta]:
        """Pieces of the reply as they come; the last one carries `finish` and the usage where it is known."""
        ...


engines: Registry[Engine] = Registry("engine", package="slipway.engines")
