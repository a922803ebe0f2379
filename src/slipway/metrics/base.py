"""What a metric promises: one number with its reason for one answer, or none where it does not apply."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from slipway.domain.answer import Answer
from slipway.domain.dataset import Case
from slipway.domain.document import Citation, Passage
from slipway.domain.evaluation import Score
from slipway.domain.message import Usage
from slipway.domain.money import Money
from slipway.plugins import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerView:
    """What a metric may look at. `blocked` when a guardrail stopped the request or the answer."""

    text: str
    passages: tuple[Passage, ...] = ()
    citations: tuple[Citation, ...] = ()
    abstained: bool = False
    blocked: bool = False
    seconds: float = 0.0
    first_piece_s: float | None = None
    """Seconds to the first piece, where the answer was streamed."""
    usage: Usage = field(default_factory=Usage)
    cost: Money = field(default_factory=Money)

    @property
    def answered(self) -> bool:
        return not self.abstained and not self.blocked


def view_of(answer: Answer, *, first_piece_s: float | None = None) -> AnswerView:
    """An answer as metrics see it."""
    return AnswerView(
        text=answer.text,
        passages=answer.passages,
        citations=answer.citations,
        abstained=answer.abstained,
        seconds=answer.seconds,
        first_piece_s=first_piece_s,
        usage=answer.usage,
        cost=answer.cost,
    )


class Metric(Protocol):
    """A frozen dataclass of settings with one verb. `Score.value` is None where the metric does not apply."""

    better: ClassVar[Literal["higher", "lower"]]
    unit: ClassVar[str]

    def score(self, case: Case, answer: AnswerView) -> Score: ...


metrics: Registry[Metric] = Registry("metric", package="slipway.metrics")


def references(case: Case) -> tuple[str, ...]:
    """Every wording that counts as the expected answer."""
    return tuple(text for text in (case.expected, *case.alternatives) if text.strip())


def is_answerable(case: Case) -> bool | None:
    """Whether the documents hold an answer: as the case says, or because somebody wrote one down. None is unknown."""
    if case.answerable is not None:
        return case.answerable
    return True if references(case) or case.spans or case.documents else None
