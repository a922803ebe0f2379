"""Whether the answer cites the place that holds the answer."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slipway.domain.dataset import Case
from slipway.domain.evaluation import Score
from slipway.metrics.base import AnswerView, metrics


@metrics.register("citation")
@dataclass(frozen=True)
class CitationMetric:
    """1 when a citation touches the span that holds the answer, or lies in its document where no span is known.

    Abstentions have no score here; `answered` counts them.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""

    def score(self, case: Case, answer: AnswerView) -> Score:
        if not case.spans and not case.documents:
            return Score(metric="citation", value=None, reason="the place of the answer is not known")
        if not answer.answered:
            return Score(metric="citation", value=None, reason="nothing was answered")
        if not answer.citations:
            return Score(metric="citation", value=0.0, reason="nothing is cited")
        if case.spans:
            hit = any(
                citation.document == document and citation.start < end and start < citation.end
                for citation in answer.citations
                for document, start, end in case.spans
            )
            place = "span"
        else:
            hit = any(citation.document in case.documents for citation in answer.citations)
            place = "document"
        cited = ", ".join(dict.fromkeys(citation.document for citation in answer.citations))
        reason = f"cites the right {place}" if hit else f"cites {cited}, not the {place} that holds the answer"
        return Score(metric="citation", value=float(hit), reason=reason)
