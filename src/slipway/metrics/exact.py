"""Whether the answer is the expected one, word for word, but for case, punctuation and articles."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slipway.domain.dataset import Case
from slipway.domain.evaluation import Score
from slipway.metrics.base import AnswerView, is_answerable, metrics, references
from slipway.text.overlap import words

ARTICLES = frozenset({"a", "an", "the"})


@metrics.register("exact")
@dataclass(frozen=True)
class Exact:
    """1 when the answer equals the expected one after normalising, else 0.

    Normalised as in SQuAD (Rajpurkar et al., 2016): lower case, without punctuation and English articles.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""

    def score(self, case: Case, answer: AnswerView) -> Score:
        expected = references(case)
        if not expected or not is_answerable(case):
            return Score(metric="exact", value=None, reason="the case has no expected answer")
        if not answer.answered:
            return Score(metric="exact", value=0.0, reason="nothing was answered")
        same = normalised(answer.text) in {normalised(text) for text in expected}
        return Score(metric="exact", value=float(same), reason="the same words" if same else "other words")


def normalised(text: str) -> tuple[str, ...]:
    """The words that are compared."""
    return tuple(word for word in words(text) if word not in ARTICLES)
