"""What an embedder promises, and the registry of embedders."""

from collections.abc import Sequence
from typing import Protocol

import numpy
from numpy.typing import NDArray

from slipway.plugins import Registry

Vectors = NDArray[numpy.float32]
"""Shape (texts, dimensions), rows of unit length."""


class Embedder(Protocol):
    """Turns texts into unit vectors, deterministically."""

    @property
    def id(self) -> str:
        """Pins model and digest; two embedders with the same id give the same vectors."""
        ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors: ...


embedders: Registry[Embedder] = Registry("embedder", package="slipway.embedders")
