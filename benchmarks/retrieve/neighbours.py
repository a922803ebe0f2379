"""The graph of neighbours against exact search in numpy, at 100,000 vectors: CPU, recall, filters, size, erasure."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy
from data import CACHE, Figure, print_table, read_rows
from exact_search import cpu_ms, numpy_search

from slipway.domain.document import Chunk, Document
from slipway.domain.ids import hash_text
from slipway.embedders.base import Vectors
from slipway.embedders.minilm import MiniLM
from slipway.retrieve.embeddings import Embeddings
from slipway.retrieve.query import POOL
from slipway.vectors.sqlite import SQLiteIndexes, graph_path

ROWS = 100_000
SEARCHES = 200
ROUNDS = 3
NOISE = 0.6
"""Length of the noise beside the mean of two abstracts' vectors."""
MOST_OF_NUMPY = 0.1
LEAST_RECALL = 0.96


def vectors_like_real_ones() -> tuple[Vectors, Vectors]:
    """Means of two abstracts of SciFact with noise, shape (rows, 384), and the claims as questions."""
    abstracts = [row["text"] for row in read_rows("retrieval/scifact/corpus.jsonl.gz")]
    claims = [row["query"] for row in read_rows("retrieval/scifact/queries.jsonl.gz")][:SEARCHES]
    embedder = MiniLM()
    with Embeddings(CACHE) as kept:
        real = kept.embed(embedder, abstracts[:2000])
        questions = kept.embed(embedder, claims)
    random = numpy.random.default_rng(0)
    first, second = random.integers(0, len(real), (2, ROWS))
    noise = random.normal(size=(ROWS, real.shape[1])).astype(numpy.float32) / numpy.sqrt(real.shape[1])
    rows = real[first] + real[second] + 2 * NOISE * noise.astype(numpy.float32)
    rows /= numpy.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(numpy.float32), questions


def main() -> int:
    """Build, search, filter and remove; the graph must take a tenth of numpy's CPU at a recall of 0.96."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **one_thread})
    matrix, questions = vectors_like_real_ones()
    text = "x " * ROWS
    document = Document(id="a.txt", title="", text=text, source="", content_hash=hash_text(text))
    chunks = [Chunk(document="a.txt", start=2 * row, end=2 * row + 1, text="x") for row in range(ROWS)]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteIndexes(Path(folder), approximate_from=0)
        store.write(document.content_hash, documents=[document], chunks=chunks, vectors=matrix)
        store.close()
        store = SQLiteIndexes(Path(folder), approximate_from=ROWS)
        began = time.process_time()
        store.mend(document.content_hash)
        built = time.process_time() - began
        file = graph_path(Path(folder) / f"{document.content_hash}.sqlite")
        figures.append(Figure("building the graph", built, "CPU s", note=f"{file.stat().st_size / 1e6:.0f} MB"))
        reader = store.open(document.content_hash)
        half = list(range(0, ROWS, 2))
        for limit in (10, POOL):
            exact = [set(numpy_search(matrix, question, 10)) for question in questions]
            found = [reader.dense(question, similarity="cosine", limit=limit) for question in questions]
            shares = [len(want & {hit.chunk for hit in got[:10]}) / 10 for want, got in zip(exact, found, strict=True)]
            some = questions[:20]
            times = []
            for _ in range(ROUNDS):
                rival = cpu_ms(lambda question, limit=limit: numpy_search(matrix, question, limit), some)  # type: ignore[misc]
                own = cpu_ms(
                    lambda question, limit=limit: reader.dense(question, similarity="cosine", limit=limit),  # type: ignore[misc]
                    questions,
                )
                times.append((rival, own))
            rival, own = (min(column) for column in zip(*times, strict=True))
            figures.append(Figure(f"best {limit}: numpy", rival, "ms CPU"))
            figures.append(
                Figure(f"best {limit}: graph against numpy", own / rival, "x", MOST_OF_NUMPY, f"{own:.2f} ms CPU")
            )
            missed = 1 - float(numpy.mean(shares))
            # The last of two hundred hardly count in the fusion, so only the first ten have a limit.
            figures.append(
                Figure(f"first 10 of {limit}: missed", missed, "", 1 - LEAST_RECALL, f"recall@10 {1 - missed:.3f}")
            )
        want = [set(numpy.asarray(half)[numpy_search(matrix[half], question, 10)].tolist()) for question in questions]
        got = [reader.dense(question, similarity="cosine", limit=10, chunks=half) for question in questions]
        inside = all(hit.chunk % 2 == 0 for hits in got for hit in hits)
        missed = 1 - float(
            numpy.mean([len(w & {hit.chunk for hit in hits}) / 10 for w, hits in zip(want, got, strict=True)])
        )
        figures.append(Figure("kept to half: missed", missed, "", 1 - LEAST_RECALL, f"all inside: {inside}"))
        store.remove(document.content_hash)
        left = sum(path.stat().st_size for path in Path(folder).rglob("*"))
        figures.append(Figure("bytes left after removal", left, "bytes", 0))
        store.close()
    return print_table(f"Approximate search of {ROWS:,} vectors, one thread", figures)


if __name__ == "__main__":
    sys.exit(main())
