"""Keeps a graph of near vectors (faiss) in a file of its own that is checked before use and can be made again."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

MAGIC = b"slipway neighbours 1\n"
LINKS = 16
LOOKED_AT_WHEN_BUILT = 100
LOOKED_AT = 200
"""Vectors that a search looks at, at least, or as many as it wants; the more, the fewer a filter lets through."""
SAMPLE = 64
"""Vectors by which a file is known to be that of a matrix."""

Floats = NDArray[numpy.float32]
Places = NDArray[numpy.int64]


class NeighboursUnusable(Exception):
    """The file of a graph cannot be used; the text says why."""


class Neighbours:
    """A graph in memory, for any number of threads. Vectors in it are rounded to 8 bits, so rescore what it finds."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def near(self, vector: Floats, count: int, *, only: Places | None = None) -> Places:
        """Places of about `count` rows with the largest product with `vector` (dimensions,); fewer when none are left.

        `only` keeps to these rows.
        """
        faiss = _faiss()
        looked_at = max(LOOKED_AT, count)
        if only is not None:
            looked_at = looked_at * self._graph.ntotal // max(len(only), 1)
        settings = faiss.SearchParametersHNSW(efSearch=looked_at)
        if only is not None:
            allowed = numpy.zeros(self._graph.ntotal, dtype=bool)
            allowed[only] = True
            bits = numpy.packbits(allowed, bitorder="little")
            settings.sel = faiss.IDSelectorBitmap(bits)
        _, found = self._graph.search(vector[None].astype(numpy.float32), count, params=settings)
        places: Places = found[0][found[0] >= 0]
        return places


def can_build() -> bool:
    """Whether faiss is installed."""
    return importlib.util.find_spec("faiss") is not None


def write_neighbours(path: Path, matrix: Floats, *, version: str) -> None:
    """Builds the graph (Malkov and Yashunin, HNSW, 2018) of unit rows and puts the file there, whole or not at all.

    It takes every core, some 40 CPU seconds for 100,000 rows of 384 dimensions. Raises `OSError`.
    """
    faiss = _faiss()
    dimensions = matrix.shape[1]
    graph = faiss.IndexHNSWSQ(dimensions, faiss.ScalarQuantizer.QT_8bit, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = LOOKED_AT_WHEN_BUILT
    rows = numpy.ascontiguousarray(matrix, dtype=numpy.float32)
    graph.train(rows)
    graph.add(rows)
    content = faiss.serialize_index(graph).tobytes()
    facts = {**_facts(matrix, version), "digest": hashlib.sha256(content).hexdigest()}
    half_built = path.with_suffix(f".{os.getpid()}.half")
    try:
        with half_built.open("wb") as file:
            file.write(MAGIC + json.dumps(facts).encode() + b"\n")
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half_built, path)
    finally:
        half_built.unlink(missing_ok=True)


def read_neighbours(path: Path, matrix: Floats, *, version: str) -> Neighbours:
    """The graph of exactly this matrix. Raises `NeighboursUnusable` for any other file; nothing of that is read."""
    faiss = _faiss()
    try:
        with path.open("rb") as file:
            if file.readline(len(MAGIC)) != MAGIC:
                raise NeighboursUnusable("it is no graph of vectors")
            facts = json.loads(file.readline(4096))
            content = file.read()
    except (OSError, ValueError) as wrong:
        raise NeighboursUnusable(f"it cannot be read ({wrong})") from None
    expected = _facts(matrix, version)
    if not isinstance(facts, dict) or any(facts.get(name) != value for name, value in expected.items()):
        raise NeighboursUnusable("it belongs to other vectors")
    if facts.get("digest") != hashlib.sha256(content).hexdigest():
        raise NeighboursUnusable("it is damaged")
    try:
        return Neighbours(faiss.deserialize_index(numpy.frombuffer(content, dtype=numpy.uint8)))
    except RuntimeError:
        raise NeighboursUnusable("another version of faiss wrote it") from None


def _faiss() -> Any:
    return importlib.import_module("faiss")


def _facts(matrix: Floats, version: str) -> dict[str, object]:
    rows, dimensions = matrix.shape
    some = numpy.ascontiguousarray(matrix[numpy.linspace(0, rows - 1, min(SAMPLE, rows)).astype(numpy.int64)])
    return {
        "version": version,
        "rows": rows,
        "dimensions": dimensions,
        "sample": hashlib.sha256(some.astype("<f4").tobytes()).hexdigest(),
    }
