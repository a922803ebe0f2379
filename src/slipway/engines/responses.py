"""The engine for OpenAI's Responses API, for models that chat completions do not offer."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.engines.base import engines
from slipway.upstream.translated import Dialect, TranslatedEngine
from slipway.wire import responses_engine

DIALECT = Dialect(
    write_request=responses_engine.write_request,
    read_answer=responses_engine.read_answer,
    read_error=responses_engine.read_error,
    read_stream=responses_engine.StreamReader,
)


@engines.register("responses")
@dataclass(frozen=True, slots=True, kw_only=True)
class Responses(TranslatedEngine):
    """Any endpoint of the Responses API; requests of clients that speak it are passed on as they are.

    All others use it without its kept state, and `extra` is added to their requests. Times are seconds.
    """

    base_url: str = "https://api.openai.com/v1"
    name: str = "responses"

    @property
    def dialect(self) -> Dialect:
        return DIALECT

    def address(self, model: str, *, stream: bool) -> str:
        return f"{self.base_url.rstrip('/')}/responses"

    def credentials(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key.reveal()}"} if self.api_key else {}
