"""What an embedder promises, and the registry of embedders."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

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


class TokenVectors(NamedTuple):
    """A text with the vectors of its tokens in their context. `vector` is that of the whole text."""

    vector: Vectors
    """Shape (dimensions,), of unit length."""
    tokens: Vectors
    """Shape (tokens, dimensions), rows of unit length."""
    words: tuple[int, ...]
    """Which word each token belongs to, counted from 0."""
    spans: tuple[tuple[int, int], ...]
    """[start, end) of each token in the text."""


@runtime_checkable
class TokenEmbedder(Embedder, Protocol):
    """An embedder that runs here and shows the vectors of tokens as well."""

    def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]: ...


embedders: Registry[Embedder] = Registry("embedder", package="slipway.embedders")
