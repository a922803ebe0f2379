"""How long the whole answer took."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slipway.domain.dataset import Case
from slipway.domain.evaluation import Score
from slipway.metrics.base import AnswerView, metrics


@metrics.register("latency")
@dataclass(frozen=True)
class Latency:
    """Seconds from the question to the end of the answer, guardrails and search included."""

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    unit: ClassVar[str] = "s"

    def score(self, case: Case, answer: AnswerView) -> Score:
        return Score(metric="latency", value=answer.seconds, reason="from question to end of answer")
