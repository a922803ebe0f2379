"""What the answer cost."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slipway.domain.dataset import Case
from slipway.domain.evaluation import Score
from slipway.metrics.base import AnswerView, metrics


@metrics.register("cost")
@dataclass(frozen=True)
class Cost:
    """Dollars for the tokens of one answer at the price of the day; what runs in this process costs 0."""

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    unit: ClassVar[str] = "$"

    def score(self, case: Case, answer: AnswerView) -> Score:
        if answer.blocked:
            return Score(metric="cost", value=None, reason="a guardrail stopped it; what was used is not known")
        counted = "estimated" if answer.usage.estimated else "counted"
        return Score(metric="cost", value=answer.cost.amount, reason=f"{answer.usage.total_tokens} tokens, {counted}")
