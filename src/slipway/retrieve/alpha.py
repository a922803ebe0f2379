"""Fits the weight of the lexical leg to one index, on questions made from its own documents."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.domain.document import Document
from slipway.domain.index import AlphaFit, SearchSettings
from slipway.embedders.base import Embedder
from slipway.intervals import paired_bootstrap
from slipway.retrieve.fusion import fuse
from slipway.retrieve.query import Legs, search_legs
from slipway.retrieve.questions import make_questions
from slipway.retrieve.ranking import ndcg_at
from slipway.vectors.base import IndexReader

TRIED = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Beside the general one. Never a leg alone: made questions repeat the words of the documents, real ones less so."""
QUESTIONS = 240
FEWEST_QUESTIONS = 30
OWN = 0.5
"""How far the weight goes from the general one to the one that made questions ask for."""
MOST_TOWARDS_WORDS = 0.05
"""How far it goes towards words at most. Made questions repeat the words of the documents more than real ones do: that
they ask for words tells little, that they ask for vectors in spite of it tells something."""


def fit_alpha(
    reader: IndexReader, documents: Sequence[Document], *, search: SearchSettings, embedder: Embedder, seed: int = 0
) -> AlphaFit | None:
    """Half way from the weight of `search` to the nearest that is not clearly worse on made questions than the best.

    Each question is asked once; its answer's place is known. "Clearly" is a paired 95 % interval of nDCG@10 above
    zero, so that few or easy questions change nothing. None where fewer than 30 questions can be made.
    """
    made = [case for case in make_questions(documents, limit=QUESTIONS, seed=seed) if case.spans]
    if len(made) < FEWEST_QUESTIONS:
        return None
    vectors = embedder.embed([case.question for case in made])
    tried = sorted({*TRIED, search.alpha})
    asked: list[tuple[Legs, set[int]]] = []
    for case, vector in zip(made, vectors, strict=True):
        document, start, end = case.spans[0]
        numbers = reader.chunk_numbers(document)
        spans = zip(numbers, reader.chunks(numbers), strict=True)
        answering = {number for number, chunk in spans if chunk.start < end and chunk.end > start}
        asked.append((search_legs(reader, case.question, vector, search), answering))
    gains = {alpha: _gains(asked, alpha) for alpha in tried}
    best = max(tried, key=lambda alpha: (sum(gains[alpha]), -abs(alpha - search.alpha)))
    as_good = [alpha for alpha in tried if alpha == best or not _clearly_less(gains[alpha], gains[best])]
    nearest = min(as_good, key=lambda alpha: abs(alpha - search.alpha))
    fitted = round(search.alpha + min(OWN * (nearest - search.alpha), MOST_TOWARDS_WORDS), 3)
    return AlphaFit(
        alpha=fitted,
        questions=len(made),
        ndcg=sum(_gains(asked, fitted)) / len(made),
        ndcg_before=sum(gains[search.alpha]) / len(made),
    )


def _gains(asked: Sequence[tuple[Legs, set[int]]], alpha: float) -> list[float]:
    """nDCG@10 of every question with this weight."""
    rankings = [(fuse(legs.lexical, legs.dense, alpha=alpha), answering) for legs, answering in asked]
    return [ndcg_at([hit.chunk in answering for hit in ranking], len(answering)) for ranking, answering in rankings]


def _clearly_less(gains: Sequence[float], than: Sequence[float]) -> bool:
    return paired_bootstrap([other - own for own, other in zip(gains, than, strict=True)]).low > 0
