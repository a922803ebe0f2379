"""Embeddings in the shape of the OpenAI API, as numbers or packed in base64."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from slipway.domain.errors import RequestInvalid
from slipway.wire.errors import invalid_body


class EmbeddingRequest(msgspec.Struct):
    """An embedding request; texts only, since a list of token numbers fits one tokenizer alone."""

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class _Embedding(msgspec.Struct):
    embedding: list[float] | str
    index: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


_embedding = msgspec.json.Decoder(EmbeddingRequest)
_embeddings = msgspec.json.Decoder(_Embeddings)


def read_embedding_request(body: bytes) -> EmbeddingRequest:
    """An embedding request. Raises `RequestInvalid` naming the field that is wrong."""
    try:
        request = _embedding.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise invalid_body(wrong) from None
    if not request.input:
        raise RequestInvalid("'input' is empty: send a text or a list of texts.", param="input")
    return request


def write_embedding_request(model: str, texts: Sequence[str], *, dimensions: int = 0) -> bytes:
    fields: dict[str, Any] = {"model": model, "input": list(texts), "encoding_format": "float"}
    if dimensions:
        fields["dimensions"] = dimensions
    return msgspec.json.encode(fields)


def read_embeddings(body: bytes) -> list[list[float]]:
    """Vectors in the order of the texts. Raises `ValueError`."""
    data = sorted(_embeddings.decode(body).data, key=lambda item: item.index)
    return [_vector(item.embedding) for item in data]


def _vector(embedding: list[float] | str) -> list[float]:
    if isinstance(embedding, str):
        packed = base64.b64decode(embedding)
        if len(packed) % 4:
            raise ValueError(f"an embedding of {len(packed)} bytes is no list of 4-byte numbers")
        return list(struct.unpack(f"<{len(packed) // 4}f", packed))
    return embedding


def write_embeddings(vectors: Any, *, model: str, as_base64: bool, tokens: int) -> bytes:
    """An embeddings answer. `vectors` is an array of float32 with shape (texts, dimensions)."""
    rows = [
        base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") if as_base64 else row.tolist() for row in vectors
    ]
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )
