"""Exact search of vectors costs little more than numpy's own product and selection, at 10,000 and 100,000 chunks."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy
from data import Figure, print_table

from slipway.domain.document import Chunk, Document
from slipway.domain.ids import hash_text
from slipway.embedders.base import Vectors
from slipway.retrieve.query import POOL
from slipway.vectors.sqlite import SQLiteIndexes

DIMENSIONS = 384
SIZES = (10_000, 100_000)
ROUNDS = 5
SEARCHES = 10
MOST_TIMES_NUMPY = 2.0


def unit(rows: int, seed: int) -> Vectors:
    drawn = numpy.random.default_rng(seed).normal(size=(rows, DIMENSIONS)).astype(numpy.float32)
    drawn /= numpy.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def numpy_search(matrix: Vectors, question: Vectors, limit: int) -> list[int]:
    """The rival: one product, one selection, the best in order."""
    scores = matrix @ question
    best = numpy.argpartition(-scores, limit)[:limit]
    found: list[int] = best[numpy.argsort(-scores[best], kind="stable")].tolist()
    return found


def cpu_ms(search: Callable[[Vectors], object], questions: Vectors) -> float:
    """CPU milliseconds of one search."""
    began = time.process_time()
    for question in questions:
        search(question)
    return 1000 * (time.process_time() - began) / len(questions)


def measure(rows: int) -> list[Figure]:
    matrix, questions = unit(rows, 0), unit(SEARCHES, 1)
    text = "x " * rows
    document = Document(id="a.txt", title="", text=text, source="", content_hash=hash_text(text))
    chunks = [Chunk(document="a.txt", start=2 * row, end=2 * row + 1, text="x") for row in range(rows)]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteIndexes(Path(folder))
        store.write(document.content_hash, documents=[document], chunks=chunks, vectors=matrix)
        reader = store.open(document.content_hash)
        some = list(range(0, rows, 100))
        for limit in (10, POOL):

            def plain(question: Vectors, limit: int = limit) -> list[int]:
                return numpy_search(matrix, question, limit)

            def ours(question: Vectors, limit: int = limit) -> list[int]:
                return [hit.chunk for hit in reader.dense(question, similarity="cosine", limit=limit)]

            assert all(plain(question) == ours(question) for question in questions), "both find the same, in order"
            # Turn about, and the least of each: what else the machine does then falls on both.
            times = [(cpu_ms(plain, questions), cpu_ms(ours, questions)) for _ in range(ROUNDS)]
            rival, own = (min(column) for column in zip(*times, strict=True))
            what = f"{rows:,} vectors, best {limit}"
            figures.append(Figure(f"{what}: numpy", rival, "ms CPU"))
            figures.append(
                Figure(f"{what}: search against numpy", own / rival, "x", MOST_TIMES_NUMPY, f"{own:.2f} ms CPU")
            )
        masked = min(
            cpu_ms(lambda question: reader.dense(question, similarity="cosine", limit=10, chunks=some), questions)
            for _ in range(ROUNDS)
        )
        figures.append(Figure(f"{rows:,} vectors, kept to {len(some):,} of them", masked, "ms CPU"))
        store.close()
    return figures


def main() -> int:
    """Measure both sizes; the search must stay within twice numpy's own."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        # So that CPU time of both sides is that of the work and not of threads that wait. Read when numpy is loaded.
        one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **one_thread})
    return print_table("Exact search in SQLite files, one thread", [one for rows in SIZES for one in measure(rows)])


if __name__ == "__main__":
    sys.exit(main())
