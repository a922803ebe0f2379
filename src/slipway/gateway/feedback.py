"""POST /v1/feedback: a user's word on one trace."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import msgspec

from slipway.domain.errors import NotFound, RequestInvalid
from slipway.domain.feedback import Feedback
from slipway.domain.ids import SubjectId, TraceId, new_id
from slipway.gateway.call import Call
from slipway.gateway.services import Services
from slipway.store.store import Store
from slipway.wire.errors import invalid_body

LONGEST_COMMENT = 20_000
ARRIVES_WITHIN_S = 5.0
"""How long a trace may take from the journal into the store before it counts as unknown."""
THUMBS = {"up": 1.0, "down": -1.0}


class FeedbackRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What a client sends: the trace, and a score from -1 to 1, a thumb, a comment or a correction."""

    trace: str
    score: float | None = None
    thumbs: Literal["up", "down"] | None = None
    comment: str = ""
    correction: str = ""
    user: str | None = None


_request = msgspec.json.Decoder(FeedbackRequest)


async def take_feedback(call: Call, services: Services) -> None:
    body = await call.body()
    try:
        given = _request.decode(body)
    except (ValueError, RecursionError) as wrong:
        raise invalid_body(wrong) from None
    score = _score(given)
    call.identify(given.user)
    store = call.snapshot.workspace.store
    found = await asyncio.to_thread(_subject_of, store, given.trace)
    feedback = Feedback(
        id=new_id(),
        trace=TraceId(given.trace),
        score=score,
        comment=given.comment,
        correction=given.correction,
        subject=call.subject or found,
        created_at=call.snapshot.workspace.now(),
    )
    await asyncio.to_thread(store.records.save, feedback, parents=[("trace", given.trace)], transform="feedback")
    await call.reply(
        200, msgspec.json.encode({"id": feedback.id, "object": "feedback", "trace": given.trace, "score": score})
    )


def _score(given: FeedbackRequest) -> float:
    for name in ("comment", "correction"):
        if len(getattr(given, name)) > LONGEST_COMMENT:
            raise RequestInvalid(f"'{name}' is longer than {LONGEST_COMMENT} characters.", param=name)
    if given.score is None and given.thumbs is None and not (given.comment or given.correction):
        raise RequestInvalid("The feedback is empty: send 'score', 'thumbs', 'comment' or 'correction'.", param="score")
    if given.thumbs is not None:
        return THUMBS[given.thumbs]
    if given.score is None:
        # A correction says that the answer was wrong; a comment alone says neither.
        return -1.0 if given.correction else 0.0
    if not -1 <= given.score <= 1:
        raise RequestInvalid("'score' lies between -1 (bad) and 1 (good).", param="score")
    return given.score


def _subject_of(store: Store, trace: str) -> SubjectId | None:
    """Whom a trace is about. Waits for one that is on its way. Raises `NotFound`."""
    until = time.monotonic() + ARRIVES_WITHIN_S
    while True:
        try:
            return store.traces.summary(trace).subject
        except NotFound:
            if time.monotonic() >= until:
                raise
            time.sleep(0.1)
