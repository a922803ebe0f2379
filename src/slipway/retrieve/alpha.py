"""Fits the weight of the lexical leg to one index, on questions made from its own documents."""

from __future__ import annotations

from collections.abc import Sequence

from slipway.domain.document import Document
from slipway.domain.index import AlphaFit, SearchSettings
from slipway.embedders.base import Embedder
from slipway.intervals import paired_bootstrap
from slipway.retrieve.fusion import fuse
from slipway.retrieve.query import search_legs
from slipway.retrieve.questions import make_questions
from slipway.retrieve.ranking import ndcg_at
from slipway.vectors.base import IndexReader

TRIED = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Beside the general one. Never a leg alone: made questions repeat the words of the documents, real ones less so."""
QUESTIONS = 240
FEWEST_QUESTIONS = 30


def fit_alpha(
    reader: IndexReader, documents: Sequence[Document], *, search: SearchSettings, embedder: Embedder, seed: int = 0
) -> AlphaFit | None:
    """The weight nearest to that of `search` that is not clearly worse on made questions than the best of all.

    Each question is asked once; its answer's place is known. "Clearly" is a paired 95 % interval of nDCG@10 above
    zero, so that few or easy questions change nothing. None where fewer than 30 questions can be made.
    """
    made = [case for case in make_questions(documents, limit=QUESTIONS, seed=seed) if case.spans]
    if len(made) < FEWEST_QUESTIONS:
        return None
    vectors = embedder.embed([case.question for case in made])
    tried = sorted({*TRIED, search.alpha})
    gains: dict[float, list[float]] = {alpha: [] for alpha in tried}
    for case, vector in zip(made, vectors, strict=True):
        document, start, end = case.spans[0]
        numbers = reader.chunk_numbers(document)
        spans = zip(numbers, reader.chunks(numbers), strict=True)
        answering = {number for number, chunk in spans if chunk.start < end and chunk.end > start}
        legs = search_legs(reader, case.question, vector, search)
        for alpha in tried:
            ranking = fuse(legs.lexical, legs.dense, alpha=alpha)
            gains[alpha].append(ndcg_at([hit.chunk in answering for hit in ranking], len(answering)))
    best = max(tried, key=lambda alpha: (sum(gains[alpha]), -abs(alpha - search.alpha)))
    for alpha in sorted(tried, key=lambda one: abs(one - search.alpha)):
        worse_by = [top - here for top, here in zip(gains[best], gains[alpha], strict=True)]
        if alpha == best or paired_bootstrap(worse_by).low <= 0:
            return AlphaFit(
                alpha=alpha,
                questions=len(made),
                ndcg=sum(gains[alpha]) / len(made),
                ndcg_before=sum(gains[search.alpha]) / len(made),
            )
    return None
