"""The embedder for every endpoint in the shape of the OpenAI API."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import numpy

from slipway.config.secrets import Secret
from slipway.domain.errors import EngineGarbled, EngineRefused, EngineUnreachable, UpstreamError
from slipway.embedders.base import Vectors, embedders
from slipway.upstream.backoff import wait_s
from slipway.upstream.client import Deadlines, HttpClient, prepare
from slipway.upstream.engine_errors import engine_error, refused
from slipway.wire.embeddings import read_embeddings, write_embedding_request
from slipway.wire.errors import error_text

ATTEMPTS = 4
AT_ONCE = 4
Result = TypeVar("Result")


@embedders.register("openai")
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIEmbedder:
    """Asks an endpoint in the shape of the OpenAI API; `base_url` ends in /v1 for most of them.

    `batch` texts go into one request, four requests run at once. `size` asks for that many dimensions, 0 takes the
    model's own. Raises the `EngineError` family.
    """

    base_url: str
    model: str
    api_key: Secret = field(default_factory=lambda: Secret(""))
    batch: int = 64
    size: int = 0
    timeout_s: float = 60.0

    @property
    def id(self) -> str:
        return f"openai:{self.base_url.rstrip('/')}:{self.model}" + (f":{self.size}" if self.size else "")

    @property
    def dimensions(self) -> int:
        return self.size or _dimensions(self.base_url, self.model, self.api_key.reveal(), self.timeout_s)

    def embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return numpy.zeros((0, self.dimensions), dtype=numpy.float32)
        rows = _wait_for(self._embed(texts))
        vectors = numpy.asarray(rows, dtype=numpy.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise EngineGarbled(self.id, f"{len(rows)} vectors came back for {len(texts)} texts")
        lengths = numpy.linalg.norm(vectors, axis=1, keepdims=True)
        return numpy.asarray(vectors / numpy.maximum(lengths, 1e-12), dtype=numpy.float32)

    async def _embed(self, texts: Sequence[str]) -> list[list[float]]:
        places = asyncio.Semaphore(AT_ONCE)

        async def some(batch: Sequence[str]) -> list[list[float]]:
            async with places:
                return await self._ask(batch)

        batches = [texts[start : start + self.batch] for start in range(0, len(texts), self.batch)]
        return [row for rows in await asyncio.gather(*map(some, batches)) for row in rows]

    async def _ask(self, texts: Sequence[str]) -> list[list[float]]:
        # An empty text is refused by most endpoints; a space stands in for it.
        body = write_embedding_request(self.model, [text or " " for text in texts], dimensions=self.size)
        for attempt in range(ATTEMPTS):
            try:
                return await self._send(body)
            except (EngineRefused, EngineUnreachable) as failed:
                if not failed.retryable or attempt == ATTEMPTS - 1:
                    raise
                asked_for = failed.retry_after_s if isinstance(failed, EngineRefused) else None
                await asyncio.sleep(wait_s(attempt, asked_for_s=asked_for, chance=random.random()))
        raise AssertionError("unreachable")

    async def _send(self, body: bytes) -> list[list[float]]:
        headers = [("content-type", "application/json"), ("accept-encoding", "identity")]
        if self.api_key:
            headers.append(("authorization", f"Bearer {self.api_key.reveal()}"))
        request = prepare("POST", f"{self.base_url.rstrip('/')}/embeddings", headers)
        deadlines = Deadlines(first_byte_s=self.timeout_s, total_s=self.timeout_s)
        try:
            response = await _client.send_prepared(request, body=body, deadlines=deadlines)
            answer = await response.read()
        except UpstreamError as error:
            raise engine_error(self.id, request.origin, error) from error
        if response.status >= 400:
            raise refused(self.id, response, error_text(answer))
        try:
            return read_embeddings(answer)
        except ValueError as wrong:
            raise EngineGarbled(self.id, str(wrong)) from wrong


@lru_cache(maxsize=64)
def _dimensions(base_url: str, model: str, api_key: str, timeout_s: float) -> int:
    probe = OpenAIEmbedder(base_url=base_url, model=model, api_key=Secret(api_key), timeout_s=timeout_s)
    return int(probe.embed(["dimensions"]).shape[1])


# Embedding is a plain call, the HTTP client is not: one loop in a thread of its own keeps connections alive between
# calls, whoever makes them.
_client = HttpClient(per_host=AT_ONCE * 2)
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="embedder", daemon=True).start()
    return asyncio.run_coroutine_threadsafe(work, _loop).result()
