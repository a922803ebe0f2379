"""The engine for Anthropic's Messages API."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.engines.base import engines
from slipway.upstream.request import Prepared, prepare
from slipway.upstream.translated import Dialect, TranslatedEngine
from slipway.wire import anthropic

DIALECT = Dialect(
    write_request=anthropic.write_request,
    read_answer=anthropic.read_answer,
    read_error=anthropic.read_error,
    read_stream=anthropic.StreamReader,
)


@engines.register("anthropic")
@dataclass(frozen=True, slots=True, kw_only=True)
class Anthropic(TranslatedEngine):
    """Claude over Anthropic's own API, with streams, images and calls of functions; clients may speak either shape.

    `version` is the API's own, sent with every request; `extra` is added to every request. Times are seconds.
    """

    base_url: str = "https://api.anthropic.com/v1"
    version: str = "2023-06-01"
    name: str = "anthropic"

    @property
    def dialect(self) -> Dialect:
        return DIALECT

    def address(self, model: str, *, stream: bool) -> str:
        return f"{self.base_url.rstrip('/')}/messages"

    def prepare_count(self) -> Prepared:
        """The request line and headers of a question how many tokens a request has."""
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            **self.credentials(),
            **self.headers,
        }
        return prepare("POST", f"{self.base_url.rstrip('/')}/messages/count_tokens", list(headers.items()))

    def credentials(self) -> dict[str, str]:
        return {"x-api-key": self.api_key.reveal(), "anthropic-version": self.version}
