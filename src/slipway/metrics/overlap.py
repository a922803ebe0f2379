"""How many words the answer shares with the expected one: token F1."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slipway.domain.dataset import Case
from slipway.domain.evaluation import Score
from slipway.metrics.base import AnswerView, is_answerable, metrics, references
from slipway.text.overlap import token_f1, words


@metrics.register("overlap")
@dataclass(frozen=True)
class Overlap:
    """Harmonic mean of precision and recall over words, 0 to 1, against the nearest of the expected answers.

    Source: the F1 of SQuAD (Rajpurkar et al., 2016). A right answer with a long explanation scores low.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""

    def score(self, case: Case, answer: AnswerView) -> Score:
        expected = references(case)
        if not expected or not is_answerable(case):
            return Score(metric="overlap", value=None, reason="the case has no expected answer")
        if not answer.answered:
            return Score(metric="overlap", value=0.0, reason="nothing was answered")
        best = max(token_f1(words(answer.text), words(text)) for text in expected)
        return Score(metric="overlap", value=best, reason=f"F1 {best:.2f} with the expected answer")
