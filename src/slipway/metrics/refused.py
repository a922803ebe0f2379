"""Whether the release abstained on a question that the documents do not answer."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slipway.domain.dataset import Case
from slipway.domain.evaluation import Score
from slipway.metrics.base import AnswerView, is_answerable, metrics


@metrics.register("refused")
@dataclass(frozen=True)
class Refused:
    """1 when the release abstained on an unanswerable question, 0 when it answered anyway.

    A guardrail that stops the question counts 0: the user was not told that the documents lack the answer.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""

    def score(self, case: Case, answer: AnswerView) -> Score:
        if is_answerable(case) is not False:
            return Score(metric="refused", value=None, reason="the question is not known to be unanswerable")
        if answer.blocked:
            return Score(metric="refused", value=0.0, reason="a guardrail stopped it")
        if answer.abstained:
            return Score(metric="refused", value=1.0, reason="abstained, as it should")
        return Score(metric="refused", value=0.0, reason="answered although the documents do not hold the answer")
