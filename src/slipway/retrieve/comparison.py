"""Compares chunk sizes, fusion weights and cuts on the same questions, with intervals, and names the best."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from slipway.domain.dataset import Case
from slipway.domain.document import Chunk, Document
from slipway.domain.errors import InputError
from slipway.domain.ids import ContentHash, hash_parts, new_id
from slipway.domain.index import SearchSettings
from slipway.domain.release import Measure
from slipway.domain.settings_comparison import SettingsComparison, SettingsResult
from slipway.embedders.base import Vectors
from slipway.intervals import mean_interval, paired_bootstrap
from slipway.retrieve.fusion import Fused, cut_off, fuse
from slipway.retrieve.index import (
    cut_documents,
    embed_chunks,
    hash_documents,
    load_sources,
    make_chunker,
    search_settings,
)
from slipway.retrieve.query import Legs, search_legs
from slipway.retrieve.questions import MADE
from slipway.store.records import Kind, register
from slipway.vectors.sqlite import SQLiteIndexes
from slipway.workspace import Workspace

SIZES = (100, 200, 400)
ALPHAS = (0.3, 0.45, 0.6)
CUTS = (0.65, 0.78, 0.88)
DEPTH = 10

register(SettingsComparison, Kind(kind="settings_comparison", name="index"))


class Outcome(NamedTuple):
    """What one question gave under one setting."""

    ndcg: float
    recall: float
    mrr: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Searched:
    """Both legs of every question over one chunk size, with what judging needs."""

    size: int
    legs: list[Legs]
    chunks: list[Chunk]
    tokens: list[int]


def compare_settings(
    workspace: Workspace,
    *,
    cases: Sequence[Case],
    documents: Sequence[Document] | None = None,
    sizes: Sequence[int] | None = None,
    alphas: Sequence[float] | None = None,
    cuts: Sequence[float] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SettingsComparison:
    """Every combination on every case that says where its answer stands (`spans`, else `documents`); saved.

    The best is the one with the highest nDCG@10; of its cuts the sharpest that costs at most one point of recall.
    Without an embedder alpha does not count and only one is tried. Raises `InputError` when no case can be judged.
    """
    judged = [case for case in cases if case.answerable is not False and (case.spans or case.documents)]
    if not judged:
        raise InputError(
            "No case says where its answer stands. Give cases with `spans` or `documents`, or leave them out: "
            "questions are then made from the documents."
        )
    documents = documents if documents is not None else load_sources(workspace).documents
    embedder = workspace.embedder
    search = search_settings(workspace)
    table = dict(workspace.settings.retrieve.chunker)
    here = int(table.get("size", 200))
    sizes = sorted(set(sizes or (*SIZES, here)))
    alphas = sorted(set(alphas or (*ALPHAS, search.alpha))) if embedder is not None else [1.0]
    cuts = sorted(set(cuts or (*CUTS, search.cut)))
    vectors = embedder.embed([case.question for case in judged]) if embedder is not None else None
    outcomes: dict[tuple[int, float, float], list[Outcome]] = {}
    for number, size in enumerate(sizes):
        searched = _search_all(workspace, documents, judged, vectors, table | {"size": size}, search)
        for alpha in alphas:
            rankings = [fuse(legs.lexical, legs.dense, alpha=alpha) for legs in searched.legs]
            for cut in cuts:
                outcomes[size, alpha, cut] = [
                    judge(case, ranking, cut_off(ranking, cut=cut, limit=search.limit), searched)
                    for case, ranking in zip(judged, rankings, strict=True)
                ]
        if on_progress:
            on_progress(number + 1, len(sizes))
    rows = {key: _summary(key, found) for key, found in outcomes.items()}
    best = choose_best(rows)
    current = (here, search.alpha if embedder else 1.0, search.cut)
    comparison = SettingsComparison(
        id=new_id(),
        index=workspace.settings.retrieve.index,
        embedder=embedder.id if embedder else "",
        questions=len(judged),
        documents=len(documents),
        documents_hash=hash_documents(documents),
        made=all(MADE in case.tags for case in judged),
        rows=tuple(rows.values()),
        best=rows[best],
        current=rows.get(current),
        verdict=_verdict(outcomes, best, current),
        created_at=workspace.now(),
    )
    workspace.store.records.save(comparison)
    return comparison


def choose_best(rows: dict[tuple[int, float, float], SettingsResult]) -> tuple[int, float, float]:
    """The key with the highest nDCG@10, and of its cuts the sharpest that costs at most one point of recall."""
    size, alpha, _ = max(rows, key=lambda key: (rows[key].ndcg.value, -key[0]))
    same = [key for key in rows if key[:2] == (size, alpha)]
    most = max(rows[key].recall.value for key in same)
    return max((key for key in same if rows[key].recall.value >= most - 0.01), key=lambda key: key[2])


def judge(case: Case, ranking: Sequence[Fused], kept: Sequence[Fused], searched: Searched) -> Outcome:
    """nDCG@10 and MRR of the ranking; recall (of the answer's characters, else of documents) and tokens of `kept`."""
    chunks = searched.chunks
    tokens = sum(searched.tokens[hit.chunk] for hit in kept)
    if case.spans:
        relevant = [_overlap(case, chunks[hit.chunk]) > 0 for hit in ranking]
        there = sum(_overlap(case, chunk) > 0 for chunk in chunks)
        wanted = sum(end - start for _, start, end in case.spans)
        recall = min(sum(_overlap(case, chunks[hit.chunk]) for hit in kept) / wanted, 1.0) if wanted else 0.0
    else:
        # Ranked by document: each counts once, at its best chunk.
        order = list(dict.fromkeys(chunks[hit.chunk].document for hit in ranking))
        relevant = [document in case.documents for document in order]
        there = len(set(case.documents))
        returned = {chunks[hit.chunk].document for hit in kept}
        recall = len(returned & set(case.documents)) / there
    return Outcome(ndcg_at(relevant, there), recall, reciprocal_rank(relevant), tokens)


def ndcg_at(relevant: Sequence[bool], there: int, *, depth: int = DEPTH) -> float:
    """Discounted gain of the first `depth` against the best order (Järvelin and Kekäläinen 2002), binary relevance."""
    gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(relevant[:depth]) if hit)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(there, depth)))
    return gain / ideal if ideal else 0.0


def reciprocal_rank(relevant: Sequence[bool]) -> float:
    """1 / rank of the first that is relevant; 0 when none is."""
    return next((1 / (rank + 1) for rank, hit in enumerate(relevant) if hit), 0.0)


def _search_all(
    workspace: Workspace,
    documents: Sequence[Document],
    cases: Sequence[Case],
    vectors: Vectors | None,
    table: dict[str, object],
    search: SearchSettings,
) -> Searched:
    embedder = workspace.embedder
    chunker, cut_id, tokens = make_chunker(table, embedder)
    chunks = cut_documents(documents, chunker, cut_id, tokens)
    embedded = embed_chunks(workspace, documents, chunks)
    # In the application's own folder, so that a run that is killed leaves no text elsewhere.
    with tempfile.TemporaryDirectory(prefix="compare-", dir=workspace.state) as folder:
        store = SQLiteIndexes(Path(folder))
        version = ContentHash(hash_parts({"chunker": cut_id}))
        store.write(version, documents=documents, chunks=chunks, vectors=embedded)
        reader = store.open(version)
        legs = [
            search_legs(reader, case.question, None if vectors is None else vectors[place], search)
            for place, case in enumerate(cases)
        ]
        store.remove(version)
    lengths = [len(tokens.starts(chunk.text)) for chunk in chunks]
    return Searched(int(str(table["size"])), legs, chunks, lengths)


def _overlap(case: Case, chunk: Chunk) -> int:
    """Characters of the case's answer that lie in the chunk."""
    return sum(
        max(0, min(end, chunk.end) - max(start, chunk.start))
        for document, start, end in case.spans
        if document == chunk.document
    )


def _summary(key: tuple[int, float, float], outcomes: Sequence[Outcome]) -> SettingsResult:
    size, alpha, cut = key
    return SettingsResult(
        size=size,
        alpha=alpha,
        cut=cut,
        ndcg=_measure("nDCG@10", (outcome.ndcg for outcome in outcomes)),
        recall=_measure("recall", (outcome.recall for outcome in outcomes)),
        mrr=_measure("MRR", (outcome.mrr for outcome in outcomes)),
        tokens=sum(outcome.tokens for outcome in outcomes) / len(outcomes),
    )


def _measure(name: str, values: Iterable[float]) -> Measure:
    scores = list(values)
    interval = mean_interval(scores)
    return Measure(name=name, value=sum(scores) / len(scores), low=interval.low, high=interval.high, n=len(scores))


def _verdict(
    outcomes: dict[tuple[int, float, float], list[Outcome]],
    best: tuple[int, float, float],
    current: tuple[int, float, float],
) -> str:
    if current not in outcomes:
        return "The settings of slipway.toml were not among those tried."
    if current[:2] == best[:2]:
        same_cut = current == best
        return "These are the settings of slipway.toml." if same_cut else "Only its cut differs from slipway.toml."
    interval = paired_bootstrap(
        [after.ndcg - before.ndcg for before, after in zip(outcomes[current], outcomes[best], strict=True)]
    )
    if interval.low <= 0:
        return "No clear difference to the settings of slipway.toml on these questions."
    return (
        f"Better than the settings of slipway.toml by {interval.low * 100:.1f} to {interval.high * 100:.1f} points of "
        "nDCG@10 (95 % interval, paired)."
    )
