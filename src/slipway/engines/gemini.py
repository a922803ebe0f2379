"""The engine for Google's Gemini API."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from slipway.engines.base import engines
from slipway.upstream.translated import Dialect, TranslatedEngine
from slipway.wire import gemini

DIALECT = Dialect(
    write_request=gemini.write_request,
    read_answer=gemini.read_answer,
    read_error=gemini.read_error,
    read_stream=gemini.StreamReader,
)


@engines.register("gemini")
@dataclass(frozen=True, slots=True, kw_only=True)
class Gemini(TranslatedEngine):
    """Gemini over Google's own API (generateContent), with streams, images and calls of functions.

    `extra` is added to every request. Times are seconds.
    """

    base_url: str = "https://generativelanguage.googleapis.com/v1beta"
    name: str = "gemini"

    @property
    def dialect(self) -> Dialect:
        return DIALECT

    def address(self, model: str, *, stream: bool) -> str:
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"{self.base_url.rstrip('/')}/models/{quote(model, safe='')}:{verb}"

    def credentials(self) -> dict[str, str]:
        return {"x-goog-api-key": self.api_key.reveal()}
