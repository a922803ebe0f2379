"""An answer in pieces that are neither JSON nor a chat's events: passed on as they come, and listened to on the way."""

from __future__ import annotations

from slipway.domain.errors import EngineGarbled
from slipway.domain.guardrail import Verdict
from slipway.gateway.call import Call
from slipway.gateway.field_checks import check_text
from slipway.gateway.hearing import Heard, Hearing
from slipway.gateway.operations import Operation
from slipway.gateway.targets import Target
from slipway.gateway.upstream_calls import EVENTS, Passed
from slipway.upstream.client import Response

KEPT_HEADERS = frozenset({b"retry-after", b"content-encoding"})


def content_type_of(response: Response) -> bytes:
    return response.header(b"content-type") or b"application/json"


def kept_headers(response: Response) -> list[tuple[bytes, bytes]]:
    """What else of an engine's answer a client may need."""
    return [(name, value) for name, value in response.headers if name in KEPT_HEADERS]


class Pieces:
    """One such answer on its way to the client; what guardrails say of it is added to `verdicts`. HTTP alone says where
    it ends."""

    def __init__(self, passed: Passed, target: Target, operation: Operation, *, verdicts: list[Verdict]) -> None:
        self._response = passed.response
        self._piece = passed.body
        self._target = target
        self._operation = operation
        self._content_type = content_type_of(passed.response)
        self._hearing = Hearing(self._content_type, operation)
        self._heard: Heard | None = None
        self._verdicts = verdicts
        self.of_events = self._content_type.startswith(EVENTS)

    @property
    def heard(self) -> Heard:
        """What was said, once nothing more comes."""
        if self._heard is None:
            self._heard = self._hearing.close()
        return self._heard

    async def send_all_but_last(self, call: Call) -> None:
        """Raises `Blocked`, `EngineGarbled`, `UpstreamError`."""
        if self._target.guardrails.after and self._operation.said:
            self._piece = await self._checked(self._piece)
        while self._piece and not self._response.complete:
            self._hearing.feed(self._piece)
            if not call.responded:
                await call.begin_stream(self._content_type, more=kept_headers(self._response))
            await call.piece(self._piece)
            self._piece = await self._response.piece()
        self._hearing.feed(self._piece)

    async def send_last(self, call: Call) -> None:
        """The last piece, which may be all there is."""
        if call.responded:
            await call.end_stream(self._piece)
        else:
            more = kept_headers(self._response)
            await call.reply(200, self._piece, content_type=self._content_type, more=more)

    async def _checked(self, text: bytes) -> bytes:
        """An answer that is nothing but text, as the client may see it."""
        engine = self._target.engine
        if not self._content_type.startswith(b"text/plain"):
            kind = self._content_type.decode("latin-1")
            raise EngineGarbled(engine, f"it is '{kind}', which the guardrails of {self._target.label} cannot read")
        pieces = [text]
        while not self._response.complete and (more := await self._response.piece()):
            pieces.append(more)
        try:
            checked, verdicts = check_text(b"".join(pieces).decode("utf-8"), self._target.guardrails)
        except UnicodeDecodeError as wrong:
            raise EngineGarbled(engine, "it is not text in UTF-8") from wrong
        self._verdicts += verdicts
        return checked.encode()
