"""The lane of releases with a prompt or an index: the pipeline answers, and its events become the client's shape."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from slipway.domain.answer import Answer, AnswerPiece
from slipway.domain.decoding import Decoding
from slipway.domain.errors import (
    OUR_ACCOUNT,
    Blocked,
    EngineError,
    EngineRefused,
    EngineResting,
    ReleaseUnavailable,
    RequestInvalid,
    SlipwayError,
    StoreError,
)
from slipway.domain.message import Message
from slipway.domain.model import Model
from slipway.domain.release import Release
from slipway.domain.routing import FailureKind
from slipway.gateway.call import Call
from slipway.gateway.failures import failure_kind, is_filtered
from slipway.gateway.services import Services
from slipway.gateway.targets import Target
from slipway.release.pipeline import Asked, answer, stream_answer


class Shape(Protocol):
    """How one API writes an answer, whole and as a stream."""

    def whole(self, answer: Answer, more: Mapping[str, Any]) -> bytes: ...

    def begin(self) -> bytes: ...

    def text(self, text: str) -> bytes: ...

    def end(self, answer: Answer, more: Mapping[str, Any]) -> bytes: ...

    def blocked(self, blocked: Blocked, more: Mapping[str, Any]) -> bytes: ...

    def failed(self, failed: SlipwayError) -> bytes:
        """The honest end of a stream that broke: nothing in it claims that the answer is whole."""
        ...


async def answer_call(
    call: Call,
    services: Services,
    *,
    target: Target,
    messages: Sequence[Message],
    decoding: Decoding,
    stream: bool,
    shape: Shape,
) -> None:
    """Answers with the target's release. The trace is written before the last byte goes out.

    Raises `RequestInvalid`, `Blocked`, `EngineError`, `ReleaseUnavailable`, `StoreError` while nothing was sent.
    """
    release = target.release
    if release is None:
        raise RequestInvalid(
            f"'{call.model}' is a model past every release; only /v1/chat/completions and /v1/embeddings take it.",
            param="model",
        )
    if target.plain:
        # Nothing is pinned here but the model: what the client wishes counts, as on the fast lane.
        release = replace(release, decoding=decoding)
    asked = _asked(call, messages)
    call.recorded = True  # by the pipeline, however it ends
    try:
        if stream:
            await _stream(call, services, target, release, asked, shape)
        else:
            workspace = call.snapshot.workspace
            recorder, detour = services.ledger.recorder, GatewayDetour(call, services, target)
            found = await answer(release, asked, workspace=workspace, recorder=recorder, detour=detour)
            _count(call, services, found)
            await call.reply(200, shape.whole(found, _facts(call, release, found)))
    except (RequestInvalid, Blocked, EngineError, StoreError, ReleaseUnavailable):
        raise
    except SlipwayError as wrong:
        # Whatever else is missing, it is missing on our side: the client's request was fine.
        raise ReleaseUnavailable(release.label, str(wrong)) from wrong


async def _stream(call: Call, services: Services, target: Target, release: Release, asked: Asked, shape: Shape) -> None:
    workspace = call.snapshot.workspace
    found: Answer | None = None
    asked = replace(asked, when_unfinished=lambda used, cost: services.ledger.count(call, used, cost.micros))
    events = cast(
        AsyncGenerator[AnswerPiece | Answer, None],
        stream_answer(
            release,
            asked,
            workspace=workspace,
            recorder=services.ledger.recorder,
            detour=GatewayDetour(call, services, target),
        ),
    )
    try:
        async with aclosing(events):
            async for event in events:
                if isinstance(event, AnswerPiece):
                    await _begin(call, shape)
                    await call.piece(shape.text(event.text))
                else:
                    found = event
    except Blocked as blocked:
        if not call.responded:
            raise
        notice = {"slipway": {"blocked": blocked.rail, "release": release.id, "trace": call.trace}}
        await call.end_stream(shape.blocked(blocked, notice))
        return
    except SlipwayError as failed:
        if not call.responded:
            raise
        call.outcome = failed.code
        await call.end_stream(shape.failed(failed))
        return
    assert found is not None
    await _begin(call, shape)
    _count(call, services, found)
    await call.end_stream(shape.end(found, _facts(call, release, found)))


class GatewayDetour:
    """The gateway's breakers and fallbacks, for a release that answers through the pipeline."""

    __slots__ = ("_call", "_failed", "_services", "_target", "_turn")

    def __init__(self, call: Call, services: Services, target: Target) -> None:
        self._call = call
        self._services = services
        self._target = target
        self._turn: Model | None = None
        """Who stands in and is asked now."""
        self._failed = False
        """Whether somebody was asked in vain."""

    @property
    def impatient(self) -> bool:
        return bool(self._call.shadow_of) or any(self._others(kind) for kind in ("rate_limit", "server_error"))

    def refusal(self, model: Model, address: str) -> EngineError | None:
        breakers, upstream = self._services.breakers, _upstream(model, address)
        caller = self._call.caller
        refusal = breakers.admit(*upstream, caller) if breakers else None
        # With nobody else to go to, one that answers 500, perhaps to certain requests only, is asked all the same.
        if refusal is not None and breakers.answers(*upstream, caller) and not self.impatient:
            return None
        if refusal is not None:
            self._end_turn(answered=False)
        return refusal

    def came_to(self, model: Model, address: str, failure: EngineError | None) -> None:
        breakers, counts = self._services.breakers, self._services.counts
        self._end_turn(answered=failure is None)
        if failure is None:
            breakers.succeeded(*_upstream(model, address), self._call.caller)
            if model.engine != self._target.engine or model.name != self._target.model:
                counts.fallbacks += 1
                self._call.fallback = f"{model.engine}/{model.name}"
            return
        self._failed = True
        counts.upstream_failed(model.engine, failure.code)
        match failure:
            case EngineRefused(status=429):
                breakers.limited(
                    *_upstream(model, address), failure, rest_s=failure.retry_after_s or 0.0, caller=self._call.caller
                )
            case EngineRefused() if failure.status < 500 and failure.status != 408:
                breakers.succeeded(*_upstream(model, address), self._call.caller)
            case _:
                breakers.failed(*_upstream(model, address), failure, caller=self._call.caller)

    def streamed(self, model: Model, address: str, failure: EngineError | None) -> None:
        self._services.breakers.streamed(*_upstream(model, address), failure, self._call.caller)

    async def turn(self, model: Model) -> bool:
        if not await self._services.breakers.stand_ins.turn(model.engine, model.name, first=not self._failed):
            return False
        self._turn = model
        return True

    def _end_turn(self, *, answered: bool | None) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            self._services.breakers.stand_ins.came_to(turn.engine, turn.name, answered)

    def left(self, model: Model, address: str) -> None:
        self._end_turn(answered=None)
        self._services.breakers.abandoned(*_upstream(model, address), self._call.caller)

    def others(self, failure: EngineError) -> list[Model]:
        """A request that is wrong in itself would be wrong for the others too."""
        ours = isinstance(failure, EngineRefused) and failure.status in OUR_ACCOUNT
        filtered = isinstance(failure, EngineRefused) and is_filtered(failure.status, failure.body.encode())
        if not (failure.retryable or ours or filtered or isinstance(failure, EngineResting)):
            return []
        targets = self._others("content_filter" if filtered else failure_kind(failure))
        return [Model(engine=target.engine, name=target.model) for target in targets]

    def _others(self, kind: FailureKind) -> list[Target]:
        call = self._call
        return [] if call.shadow_of else call.snapshot.fallbacks(call.channel, self._target, kind)


def _upstream(model: Model, address: str) -> tuple[str, str, str]:
    parts = urlsplit(address)
    return model.engine, f"{parts.scheme}://{parts.netloc}" if parts.netloc else address, model.name


async def _begin(call: Call, shape: Shape) -> None:
    if not call.responded:
        await call.begin_stream()
        if opening := shape.begin():
            await call.piece(opening)


def _asked(call: Call, messages: Sequence[Message]) -> Asked:
    """The last message of the user is the question; what was said before it is the history."""
    last = next((number for number in range(len(messages) - 1, -1, -1) if messages[number].role == "user"), None)
    if last is None or not messages[last].text.strip():
        raise RequestInvalid("The messages hold no question: the last message of the user is empty.", param="messages")
    return Asked(
        question=messages[last].text,
        history=tuple(messages[:last]),
        subject=call.subject,
        session=call.session,
        channel=call.channel,
        trace=call.trace,
    )


def _count(call: Call, services: Services, found: Answer) -> None:
    services.ledger.count(call, found.usage, found.cost.micros)
    if found.abstained:
        call.outcome = "abstained"


def _facts(call: Call, release: Release, found: Answer) -> dict[str, Any]:
    """What stands beside the answer, for clients that know Slipway."""
    return {
        "slipway": {
            "release": release.id,
            "label": release.label,
            "trace": call.trace,
            "abstained": found.abstained,
            "citations": [
                {
                    "document": citation.document,
                    "title": citation.title,
                    "start": citation.start,
                    "end": citation.end,
                    "text": citation.text,
                }
                for citation in found.citations
            ],
            "verdicts": {verdict.rail: verdict.decision for verdict in found.verdicts if verdict.decision != "allow"},
        }
    }
