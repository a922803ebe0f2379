"""An answer: what a release said to one question, where it comes from and what it cost."""

from dataclasses import dataclass

from slipway.domain.document import Citation, Passage
from slipway.domain.guardrail import Verdict
from slipway.domain.ids import ReleaseId, TraceId
from slipway.domain.message import FinishReason, Usage
from slipway.domain.money import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`abstained` when the release said that its documents do not hold the answer."""

    text: str
    citations: tuple[Citation, ...]
    passages: tuple[Passage, ...]
    verdicts: tuple[Verdict, ...]
    abstained: bool
    finish: FinishReason
    usage: Usage
    cost: Money
    seconds: float
    trace: TraceId
    release: ReleaseId


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPiece:
    """A stretch of a streamed answer that the guardrails let through."""

    text: str
