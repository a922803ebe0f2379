"""Whether a question that the documents answer was answered."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slipway.domain.dataset import Case
from slipway.domain.evaluation import Score
from slipway.metrics.base import AnswerView, is_answerable, metrics


@metrics.register("answered")
@dataclass(frozen=True)
class Answered:
    """1 when an answerable question got an answer, 0 when the release abstained or a guardrail stopped it.

    It does not look at whether the answer is right. Questions that are not known to be answerable have no score.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""

    def score(self, case: Case, answer: AnswerView) -> Score:
        if not is_answerable(case):
            return Score(metric="answered", value=None, reason="the question is not known to be answerable")
        if answer.blocked:
            return Score(metric="answered", value=0.0, reason="a guardrail stopped it")
        if answer.abstained:
            return Score(metric="answered", value=0.0, reason="abstained although the documents hold the answer")
        return Score(metric="answered", value=1.0, reason="answered")
