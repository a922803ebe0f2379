"""The engine for Amazon Bedrock's Converse API."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import quote

from slipway.config.secrets import Secret
from slipway.engines.base import engines
from slipway.upstream.client import Prepared, prepare
from slipway.upstream.translated import Dialect, TranslatedEngine
from slipway.wire import bedrock
from slipway.wire.sigv4 import Credentials, sign

DIALECT = Dialect(
    write_request=bedrock.write_request,
    read_answer=bedrock.read_answer,
    read_error=bedrock.read_error,
    read_stream=bedrock.StreamReader,
    stream_type=b"application/vnd.amazon.eventstream",
)


@engines.register("bedrock")
@dataclass(frozen=True, slots=True, kw_only=True)
class Bedrock(TranslatedEngine):
    """Models of Amazon Bedrock over the Converse API, with streams, images and calls of functions.

    Requests are signed with `access_key` and `secret_key` (and `session_token` of temporary keys), or carry a Bedrock
    `api_key`. `base_url` is by default that of `region`. `extra` is added to every request. Times are seconds.
    """

    region: str = "us-east-1"
    access_key: Secret = field(default_factory=lambda: Secret(""))
    secret_key: Secret = field(default_factory=lambda: Secret(""))
    session_token: Secret = field(default_factory=lambda: Secret(""))
    name: str = "bedrock"

    @property
    def dialect(self) -> Dialect:
        return DIALECT

    def address(self, model: str, *, stream: bool) -> str:
        base = self.base_url.rstrip("/") or f"https://bedrock-runtime.{self.region}.amazonaws.com"
        return f"{base}/model/{quote(model, safe='')}/{'converse-stream' if stream else 'converse'}"

    def prepare_chat(self, model: str, body: bytes, *, stream: bool) -> Prepared:
        headers = {"content-type": "application/json", **self.headers}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key.reveal()}"
        unsigned = prepare("POST", self.address(model, stream=stream), list(headers.items()))
        if self.api_key:
            return unsigned
        host = unsigned.origin.partition("://")[2]
        added = sign(
            "POST",
            unsigned.head.split(b" ", 2)[1].decode("ascii"),
            headers={"host": host, "content-type": "application/json"},
            body=body,
            credentials=Credentials(self.access_key.reveal(), self.secret_key.reveal(), self.session_token.reveal()),
            region=self.region,
            service="bedrock",
            now=datetime.now(UTC),
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in added.items())
        return replace(unsigned, head=unsigned.head + lines.encode("ascii"))
