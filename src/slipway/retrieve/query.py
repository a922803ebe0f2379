"""Searches an index version; every passage slices back to exactly its place in its document."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from slipway.domain.document import Document, Passage
from slipway.domain.errors import EmbedderChanged
from slipway.domain.index import Index, SearchSettings
from slipway.domain.where import Where
from slipway.embedders.base import Vectors
from slipway.retrieve.fusion import Fused, cut_off, fuse, scores_of, weigh
from slipway.retrieve.reranking import before_reranking, rerank
from slipway.retrieve.where import chunks_that_meet, join_where, known_where
from slipway.vectors.base import IndexReader
from slipway.workspace import Workspace

POOL = 200
"""Candidates that each leg brings to the fusion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Legs:
    """What both legs found for one question: raw BM25 and raw similarity by chunk."""

    lexical: dict[int, float]
    dense: dict[int, float]


def search_index(
    workspace: Workspace,
    index: Index,
    question: str,
    *,
    limit: int | None = None,
    documents: Sequence[str] | None = None,
    where: Where | None = None,
    settings: SearchSettings | None = None,
) -> list[Passage]:
    """Passages that may answer the question, best first; none when nothing matches.

    `documents` keeps the search to these documents, `where` to those whose metadata meets it. `settings` replaces
    those of the index for this search. An index without vectors is searched by words only, whatever alpha says.
    A reranker is asked where the index has one, so this is not for an event loop: there, search with
    `before_reranking` and await `rerank`. Raises `EmbedderChanged`, `NotFound` when the index file is gone,
    `InputError` when `where` asks for a field that no document has.
    """
    search = settings or index.search
    if search.reranker:
        found = search_index(
            workspace, index, question, documents=documents, where=where, settings=before_reranking(search)
        )
        return asyncio.run(rerank(workspace, search, question, found, limit=limit or 0)).passages
    reader = workspace.indexes.open(index.hash)
    vector = embed_question(workspace, index, question)
    limit = limit or search.limit
    legs = search_legs(reader, question, vector, search, documents=documents, where=where, pool=max(POOL, limit))
    hits = fuse(legs.lexical, legs.dense, alpha=weigh(search, dense=vector is not None))
    return passages_of(reader, index, cut_off(hits, cut=search.cut, limit=limit))


def search_legs(
    reader: IndexReader,
    question: str,
    vector: Vectors | None,
    search: SearchSettings,
    *,
    documents: Sequence[str] | None = None,
    where: Where | None = None,
    pool: int = POOL,
) -> Legs:
    """The candidates of both legs; the dense leg scores what the lexical leg found as well.

    Both keep to what meets `where` and the condition of the settings.
    """
    asked = join_where(known_where(search.where), where)
    chunks = None if asked is None else chunks_that_meet(reader, asked)
    lexical = scores_of(reader.lexical(question, limit=pool, documents=documents, chunks=chunks))
    if vector is None:
        return Legs(lexical=lexical, dense={})
    similarity = search.similarity
    dense = scores_of(reader.dense(vector, similarity=similarity, limit=pool, documents=documents, chunks=chunks))
    missing = [chunk for chunk in lexical if chunk not in dense]
    dense |= dict(zip(missing, reader.similarities(vector, missing, similarity=similarity), strict=True))
    return Legs(lexical=lexical, dense=dense)


def embed_question(workspace: Workspace, index: Index, question: str) -> Vectors | None:
    """Shape (dimensions,), or None for an index without vectors. Raises `EmbedderChanged`."""
    vectors = embed_questions(workspace, index, [question])
    return None if vectors is None else vectors[0]


def embed_questions(workspace: Workspace, index: Index, questions: Sequence[str]) -> Vectors | None:
    """Shape (questions, dimensions), or None for an index without vectors. Raises `EmbedderChanged`."""
    if not index.dimensions:
        return None
    embedder = workspace.embedder
    if embedder is None or embedder.id != index.embedder:
        raise EmbedderChanged(
            f"{index.name}@{index.version}",
            built_with=index.embedder,
            there=f"'{embedder.id}'" if embedder else "",
        )
    return embedder.embed(questions)


def passages_of(reader: IndexReader, index: Index, hits: Sequence[Fused]) -> list[Passage]:
    """The hits with their texts, in the same order."""
    chunks = reader.chunks([hit.chunk for hit in hits])
    wanted = {chunk.document for chunk in chunks}
    titles = {entry.id: entry.title for entry in index.documents if entry.id in wanted}
    return [
        Passage(
            document=chunk.document,
            title=titles.get(chunk.document, chunk.document),
            start=chunk.start,
            end=chunk.end,
            text=chunk.text,
            score=hit.score,
            lexical=hit.lexical,
            dense=hit.dense,
            heading=chunk.heading,
        )
        for hit, chunk in zip(hits, chunks, strict=True)
    ]


def read_document(workspace: Workspace, index: Index, document: str) -> Document:
    """A document as this index version knows it. Raises `NotFound`."""
    return workspace.indexes.open(index.hash).document(document)
