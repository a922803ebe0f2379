"""How much of the answer stands in the passages it cites; it flags answers that ignore them, not changed facts."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slipway.domain.dataset import Case
from slipway.domain.document import Citation, Passage
from slipway.domain.evaluation import Score
from slipway.metrics.base import AnswerView, metrics
from slipway.text.overlap import content_words, coverage


@metrics.register("context_overlap")
@dataclass(frozen=True)
class ContextOverlap:
    """Share of the answer's content words that stand in the cited passages, 0 to 1.

    It is called context overlap and not groundedness on purpose: a wrong number or a swapped name in a sentence that
    otherwise follows its source goes unseen. docs/evaluate.md gives the measured error rates.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""

    def score(self, case: Case, answer: AnswerView) -> Score:
        said = content_words(answer.text) if answer.answered else []
        if not said or not answer.passages:
            why = "nothing was answered" if not said else "the answer had no passages to rest on"
            return Score(metric="context_overlap", value=None, reason=why)
        cited = cited_passages(answer.passages, answer.citations)
        given = content_words("\n".join(passage.text for passage in cited or answer.passages))
        value = coverage(said, given)
        missing = [word for word in dict.fromkeys(said) if word not in set(given)]
        source = f"{len(cited)} cited passages" if cited else "the passages (none is cited)"
        absent = f"; not there: {', '.join(missing[:5])}" if missing else ""
        return Score(metric="context_overlap", value=value, reason=f"{value:.0%} of the words in {source}{absent}")


def cited_passages(passages: tuple[Passage, ...], citations: tuple[Citation, ...]) -> tuple[Passage, ...]:
    """The passages that a citation touches, in their order."""
    return tuple(
        passage
        for passage in passages
        if any(
            citation.document == passage.document and citation.start < passage.end and passage.start < citation.end
            for citation in citations
        )
    )
