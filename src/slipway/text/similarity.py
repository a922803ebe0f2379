"""Similarity of one vector to many: cosine, dot product or negative Euclidean distance."""

from typing import assert_never

import numpy
from numpy.typing import NDArray

from slipway.domain.index import Similarity

Floats = NDArray[numpy.float32]


def similarities(matrix: Floats, vector: Floats, *, kind: Similarity) -> Floats:
    """Shape (rows,): the score of each row of `matrix` (rows, dimensions) against `vector` (dimensions,).

    Higher is more alike. Cosine expects rows of unit length, as embedders give them.
    """
    match kind:
        case "cosine" | "dot":
            product: Floats = matrix @ vector
            return product
        case "euclid":
            squared = numpy.einsum("ij,ij->i", matrix, matrix) - 2 * (matrix @ vector) + vector @ vector
            distance: Floats = -numpy.sqrt(numpy.maximum(squared, 0, dtype=numpy.float32))
            return distance
        case _:
            assert_never(kind)
