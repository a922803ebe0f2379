"""Searches many questions at once: passages, the uncut ranking, and whether the documents cover each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipway.domain.document import Passage
from slipway.domain.index import Index, SearchSettings
from slipway.domain.where import Where
from slipway.retrieve.coverage import probability
from slipway.retrieve.fusion import cut_off, fuse, weigh
from slipway.retrieve.query import POOL, embed_questions, passages_of, search_legs
from slipway.retrieve.reranking import Reranked, before_reranking, rerank
from slipway.retrieve.signals import Known, describe_search
from slipway.workspace import Workspace

RANKED = 100
"""Hits of the uncut ranking that are told for a question."""
AT_ONCE = 256
"""Questions that are embedded together."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A place in a document with its fused score (0 to 1)."""

    document: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Reranking:
    """Who scored the passages again, and what that used; `failed` says why the order of the search stayed."""

    engine: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_micros: int
    failed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answerable:
    """What a search of one question gives. `answerable` is the probability that the documents cover it."""

    id: str
    question: str
    answerable: float
    passages: tuple[Passage, ...]
    """What an answer would be made from: those above the relative cut."""
    ranking: tuple[Ranked, ...]
    """The best hits without the cut and before a reranker, for measuring."""
    reranked: Reranking | None = None
    """What scoring the passages again used; None without a reranker."""


def search_questions(
    workspace: Workspace,
    index: Index,
    questions: Sequence[tuple[str, str]],
    *,
    limit: int | None = None,
    documents: Sequence[str] | None = None,
    where: Where | None = None,
    settings: SearchSettings | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Answerable]:
    """Results for (id, question) in the same order; questions are embedded in batches, each is searched once.

    Whether a question is covered is told of the whole index, also where `documents` or `where` keep the search
    to some.
    Raises what `search_index` raises.
    """
    search = settings or index.search
    reader = workspace.indexes.open(index.hash)
    known = Known(reader, workspace.embedder if index.dimensions else None)
    found: list[Answerable] = []
    for first in range(0, len(questions), AT_ONCE):
        some = questions[first : first + AT_ONCE]
        vectors = embed_questions(workspace, index, [question for _, question in some])
        for place, (id, question) in enumerate(some):
            vector = None if vectors is None else vectors[place]
            pool = max(POOL, limit or 0)
            legs = search_legs(reader, question, vector, search, documents=documents, where=where, pool=pool)
            whole = search_legs(reader, question, vector, index.search) if documents or where or settings else legs
            hits = fuse(legs.lexical, legs.dense, alpha=weigh(search, dense=vector is not None))
            ranked = hits[: max(RANKED, limit or 0)]
            chunks = reader.chunks([hit.chunk for hit in ranked])
            kept = cut_off(hits, cut=search.cut, limit=limit or search.limit)
            reranked: Reranking | None = None
            passages = passages_of(reader, index, kept)
            if search.reranker:
                wider = before_reranking(search)
                again = passages_of(reader, index, cut_off(hits, cut=wider.cut, limit=wider.limit))
                judged = asyncio.run(rerank(workspace, search, question, again, limit=limit or 0))
                passages, reranked = judged.passages, _told(judged)
            row = describe_search(known, question, whole, vector=vector, alpha=index.search.alpha)
            found.append(
                Answerable(
                    id=id,
                    question=question,
                    answerable=probability(row, index),
                    passages=tuple(passages),
                    ranking=tuple(
                        Ranked(chunk.document, chunk.start, chunk.end, hit.score)
                        for hit, chunk in zip(ranked, chunks, strict=True)
                    ),
                    reranked=reranked,
                )
            )
            if on_progress:
                on_progress(len(found), len(questions))
    return found


def _told(reranked: Reranked) -> Reranking:
    spent = reranked.spent
    usage = spent.usage
    return Reranking(
        spent.engine, spent.model, usage.input_tokens, usage.output_tokens, spent.cost.micros, reranked.failed
    )
