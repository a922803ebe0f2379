"""The embedder for OpenAI-shaped endpoints."""

import numpy
import pytest

from slipway.domain.errors import EngineError, EngineUnreachable
from slipway.embedders.openai import OpenAIEmbedder


def test_vectors_are_of_unit_length_and_in_order(upstream):
    embedder = OpenAIEmbedder(base_url=upstream.url, model="m", batch=2)
    vectors = embedder.embed(["a", "bb", "", "dddd", "eeeee"])
    assert vectors.shape == (5, 4)
    assert vectors.dtype == numpy.float32
    assert numpy.allclose(numpy.linalg.norm(vectors, axis=1), 1)
    # The mock's first component is the length of the text; an empty text is sent as a space.
    assert numpy.allclose(vectors[:, 0] / vectors[:, 1], [1, 2, 1, 4, 5], atol=1e-5)
    assert [len(request["input"]) for request in upstream.state.requests] == [2, 2, 1]


def test_dimensions_are_asked_for_once(upstream):
    embedder = OpenAIEmbedder(base_url=upstream.url, model="m")
    assert (embedder.dimensions, embedder.dimensions) == (4, 4)
    assert len(upstream.state.requests) == 1
    assert embedder.embed([]).shape == (0, 4)


def test_the_id_tells_endpoint_and_model_apart(upstream):
    one = OpenAIEmbedder(base_url=upstream.url, model="m")
    assert one.id != OpenAIEmbedder(base_url=upstream.url, model="n").id
    assert one.id != OpenAIEmbedder(base_url=upstream.url, model="m", size=2).id


def test_nobody_at_home(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("slipway.embedders.openai.ATTEMPTS", 1)
    with pytest.raises(EngineUnreachable):
        OpenAIEmbedder(base_url="http://127.0.0.1:1/v1", model="m").embed(["a"])


def test_an_address_that_is_wrong_is_an_input_error():
    with pytest.raises(Exception, match="is not an address") as wrong:
        OpenAIEmbedder(base_url="nowhere", model="m").embed(["a"])
    assert not isinstance(wrong.value, EngineError)
