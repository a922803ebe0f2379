"""Similarity of one vector to many: cosine, dot product or nearness by Euclidean distance."""

from typing import assert_never

import numpy
from numpy.typing import NDArray

from slipway.domain.index import Similarity

Floats = NDArray[numpy.float32]


def similarities(matrix: Floats, vector: Floats, *, kind: Similarity) -> Floats:
    """Shape (rows,): the score of each row of `matrix` (rows, dimensions) against `vector` (dimensions,).

    Higher is more alike. Cosine expects rows of unit length, as embedders give them. Euclidean distance d gives
    1 / (1 + d), so that it can be fused with other scores.
    """
    match kind:
        case "cosine" | "dot":
            product: Floats = matrix @ vector
            return product
        case "euclid":
            squared = numpy.einsum("ij,ij->i", matrix, matrix) - 2 * (matrix @ vector) + vector @ vector
            nearness: Floats = 1 / (1 + numpy.sqrt(numpy.maximum(squared, 0, dtype=numpy.float32)))
            return nearness
        case _:
            assert_never(kind)
