"""What each chunker finds of the characters that answer, on 231 questions whose answers are marked."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from data import CACHE, Figure, print_table, read_rows
from search import SHIPPED, document, span_scores

from slipway.domain.ids import hash_parts
from slipway.embedders.minilm import MiniLM
from slipway.retrieve.embeddings import Embeddings
from slipway.retrieve.fusion import cut_off, fuse
from slipway.retrieve.index import cut_documents, embedded_text, lean_on_neighbours, make_chunker
from slipway.retrieve.query import search_legs
from slipway.vectors.sqlite import SQLiteIndexes

CHUNKERS = ("recursive", "semantic", "sentence", "fixed")
SIZES = (100, 200)


def main() -> int:
    """Cut, embed and search as out of the box, with each chunker and size."""
    embedder = MiniLM()
    documents = [document(row["id"], row["text"]) for row in read_rows("retrieval/chunking/corpora.jsonl.gz")]
    rows = read_rows("retrieval/chunking/questions.jsonl.gz")
    CACHE.mkdir(parents=True, exist_ok=True)
    figures: list[Figure] = []
    with Embeddings(CACHE) as kept:
        asked = kept.embed(embedder, [row["query"] for row in rows])
    for kind in CHUNKERS:
        for size in SIZES:
            chunker, cut_id, tokens = make_chunker({"kind": kind, "size": size, "overlap": 0}, embedder, state=CACHE)
            chunks = cut_documents(sorted(documents, key=lambda one: one.id), chunker, cut_id, tokens)
            with Embeddings(CACHE) as kept:
                vectors = kept.embed(embedder, [embedded_text(chunk) for chunk in chunks])
            with tempfile.TemporaryDirectory() as folder:
                store = SQLiteIndexes(Path(folder))
                version = hash_parts({"chunker": cut_id})
                leaning = lean_on_neighbours(vectors, chunks)
                store.write(version, documents=documents, chunks=chunks, vectors=leaning)
                reader = store.open(version)
                scores = []
                for row, vector in zip(rows, asked, strict=True):
                    legs = search_legs(reader, row["query"], vector, SHIPPED)
                    fused = fuse(legs.lexical, legs.dense, alpha=SHIPPED.alpha)
                    hits = cut_off(fused, cut=SHIPPED.cut, limit=SHIPPED.limit)
                    scores.append(span_scores(row["doc"], row["spans"], [chunks[hit.chunk] for hit in hits]))
                store.close()
            recall, iou, characters = (sum(column) / len(scores) for column in zip(*scores, strict=True))
            note = f"IoU {100 * iou:.1f}, {characters:,.0f} characters a question, {len(chunks):,} chunks"
            figures.append(Figure(f"{kind}, {size} tokens: recall", 100 * recall, "%", note=note))
    return print_table("Chunkers on marked answers, MiniLM, cut and alpha as shipped", figures)


if __name__ == "__main__":
    sys.exit(main())
