"""Search quality out of the box: each leg and their fusion, on abstracts, encyclopaedia questions and marked spans."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data import CACHE, Figure, print_table, read_rows

from slipway.domain.document import Chunk, Document
from slipway.domain.ids import hash_parts, hash_text
from slipway.domain.index import AlphaFit, SearchSettings
from slipway.embedders.minilm import MiniLM
from slipway.retrieve.alpha import TRIED, fit_alpha
from slipway.retrieve.embeddings import Embeddings
from slipway.retrieve.fusion import cut_off, fuse
from slipway.retrieve.index import cut_documents, embedded_text, lean_on_neighbours, make_chunker
from slipway.retrieve.query import search_legs
from slipway.retrieve.ranking import ndcg_at
from slipway.vectors.base import IndexReader
from slipway.vectors.sqlite import SQLiteIndexes

SHIPPED = SearchSettings()
ALPHAS = tuple(sorted({0.0, 1.0, SHIPPED.alpha, *TRIED}))
LOST_AT_MOST = 0.5
"""Points of nDCG@10 that the fusion may lie below its better leg."""


@dataclass(frozen=True, slots=True)
class Task:
    """Documents, and questions with the judgement of a chunk."""

    name: str
    documents: list[Document]
    questions: list[tuple[str, Callable[[Chunk], bool], int]]
    """Question, whether a chunk is relevant, and how many are."""


def document(id: str, text: str) -> Document:
    return Document(id=id, title="", text=text, source="", content_hash=hash_text(text))


def by_document(relevant: Sequence[str]) -> tuple[Callable[[Chunk], bool], int]:
    wanted = frozenset(relevant)
    return (lambda chunk: chunk.document in wanted), len(wanted)


def scifact() -> Task:
    documents = [document(row["id"], row["text"]) for row in read_rows("retrieval/scifact/corpus.jsonl.gz")]
    asked = [(row["query"], *by_document(row["relevant"])) for row in read_rows("retrieval/scifact/queries.jsonl.gz")]
    return Task("SciFact (809 claims)", documents, asked)


def squad() -> Task:
    documents = [document(row["id"], row["text"]) for row in read_rows("retrieval/squad/paragraphs.jsonl.gz")]
    rows = [row for row in read_rows("retrieval/squad/questions.jsonl.gz") if row["answerable"]]
    asked = [(row["query"], *by_document(row["relevant"])) for row in rows[::2]]
    return Task(f"SQuAD ({len(asked)} questions)", documents, asked)


def clapnq() -> Task:
    rows = read_rows("retrieval/clapnq/questions.jsonl.gz")
    documents = [document(row["id"], row["passage"]) for row in rows]
    asked = [(row["query"], *by_document([row["id"]])) for row in rows if row["answerable"]]
    return Task(f"ClapNQ ({len(asked)} answerable)", documents, asked)


def index_of(folder: Path, documents: Sequence[Document], embedder: MiniLM) -> tuple[IndexReader, list[Chunk]]:
    """The index as it is built out of the box: recursive chunks of 200 tokens."""
    chunker, cut_id, tokens = make_chunker({"kind": "recursive", "size": 200}, embedder)
    chunks = cut_documents(sorted(documents, key=lambda one: one.id), chunker, cut_id, tokens)
    with Embeddings(CACHE) as kept:
        vectors = kept.embed(embedder, [embedded_text(chunk) for chunk in chunks])
    store = SQLiteIndexes(folder)
    version = hash_parts({"documents": len(documents)})
    store.write(version, documents=documents, chunks=chunks, vectors=lean_on_neighbours(vectors, chunks))
    return store.open(version), chunks


def run(task: Task, embedder: MiniLM) -> tuple[dict[float, float], AlphaFit | None]:
    """nDCG@10 of documents in points by alpha, a document counting at its best chunk; and the alpha that is fitted to
    the index without looking at the questions."""
    with Embeddings(CACHE) as kept:
        asked = kept.embed(embedder, [question for question, _, _ in task.questions])
    with tempfile.TemporaryDirectory() as folder:
        reader, chunks = index_of(Path(folder), task.documents, embedder)
        fit = fit_alpha(reader, task.documents, search=SHIPPED, embedder=embedder)
        totals = dict.fromkeys((*ALPHAS, *([fit.alpha] if fit else [])), 0.0)
        for (question, relevant, there), vector in zip(task.questions, asked, strict=True):
            legs = search_legs(reader, question, vector, SHIPPED)
            for alpha in totals:
                best: dict[str, Chunk] = {}
                for hit in fuse(legs.lexical, legs.dense, alpha=alpha):
                    best.setdefault(chunks[hit.chunk].document, chunks[hit.chunk])
                    if len(best) == 10:
                        break
                totals[alpha] += ndcg_at([relevant(chunk) for chunk in best.values()], there)
    return {alpha: 100 * total / len(task.questions) for alpha, total in totals.items()}, fit


def spans(embedder: MiniLM) -> list[Figure]:
    """Recall and IoU by characters of what a search returns, on questions whose answers are marked."""
    documents = [document(row["id"], row["text"]) for row in read_rows("retrieval/chunking/corpora.jsonl.gz")]
    rows = read_rows("retrieval/chunking/questions.jsonl.gz")
    with Embeddings(CACHE) as kept:
        asked = kept.embed(embedder, [row["query"] for row in rows])
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        reader, chunks = index_of(Path(folder), documents, embedder)
        legs = [search_legs(reader, row["query"], vector, SHIPPED) for row, vector in zip(rows, asked, strict=True)]
        for cut in (SHIPPED.cut - 0.06, SHIPPED.cut, SHIPPED.cut + 0.06):
            scores = []
            for row, found in zip(rows, legs, strict=True):
                hits = cut_off(fuse(found.lexical, found.dense, alpha=SHIPPED.alpha), cut=cut, limit=SHIPPED.limit)
                scores.append(span_scores(row["doc"], row["spans"], [chunks[hit.chunk] for hit in hits]))
            recall, iou, characters = (sum(column) / len(scores) for column in zip(*scores, strict=True))
            what = f"marked spans, alpha {SHIPPED.alpha}, cut {cut:.2f}, at most {SHIPPED.limit}: recall"
            note = f"IoU {100 * iou:.1f}, {characters:,.0f} characters a question"
            figures.append(Figure(what, 100 * recall, "%", note=note))
    return figures


def span_scores(own: str, wanted: Sequence[Sequence[int]], found: Sequence[Chunk]) -> tuple[float, float, float]:
    """(recall, intersection over union, characters returned) of the characters marked in document `own`."""
    marked = {(own, place) for start, end in wanted for place in range(start, end)}
    returned = {(chunk.document, place) for chunk in found for place in range(chunk.start, chunk.end)}
    both = len(marked & returned)
    return both / len(marked), both / len(marked | returned), float(len(returned))


def main() -> int:
    """Measure; the fusion must not fall behind its better leg by more than half a point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["scifact", "squad", "clapnq", "spans"], help="Run one set.")
    only = parser.parse_args().only
    embedder = MiniLM()
    figures: list[Figure] = []
    for name, make in (("scifact", scifact), ("squad", squad), ("clapnq", clapnq)):
        if only not in {None, name}:
            continue
        task = make()
        points, fit = run(task, embedder)
        fitted = fit.alpha if fit else SHIPPED.alpha
        better = max(points[1.0], points[0.0])
        note = ", ".join(f"alpha {alpha}: {points[alpha]:.1f}" for alpha in TRIED)
        how = f"on {fit.questions} made questions" if fit else "to nothing: too few questions can be made"
        figures += [
            Figure(f"{task.name}: words alone", points[1.0], "nDCG@10"),
            Figure(f"{task.name}: vectors alone", points[0.0], "nDCG@10"),
            Figure(f"{task.name}: fused, alpha {SHIPPED.alpha}", points[SHIPPED.alpha], "nDCG@10", note=note),
            Figure(
                f"{task.name}: lost to the better leg", better - points[SHIPPED.alpha], "points", limit=LOST_AT_MOST
            ),
            Figure(f"{task.name}: fused, alpha {fitted} fitted {how}", points[fitted], "nDCG@10"),
            Figure(
                f"{task.name}: lost to the better leg, fitted", better - points[fitted], "points", limit=LOST_AT_MOST
            ),
        ]
    if only in {None, "spans"}:
        figures += spans(embedder)
    return print_table("Search quality out of the box, MiniLM on the CPU", figures)


if __name__ == "__main__":
    sys.exit(main())
