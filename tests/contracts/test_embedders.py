"""What every embedder promises: unit vectors of its dimensions, the same for the same text, whatever the batch."""

from __future__ import annotations

import numpy
import pytest

from slipway.domain.errors import FileMissing, PackageMissing
from slipway.embedders.base import Embedder, embedders

NEEDS_A_SERVER = {"openai"}
TEXTS = ["A lamp has a warranty of five years.", "", "12 euros", "lamp " * 400, "漢字 — naïve 😀"]


@pytest.fixture(scope="module", params=sorted(set(embedders.names()) - NEEDS_A_SERVER))
def embedder(request: pytest.FixtureRequest) -> Embedder:
    try:
        return embedders.make(request.param)
    except (PackageMissing, FileMissing) as missing:
        pytest.skip(str(missing))


def test_vectors_have_unit_length_and_the_right_shape(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimensions)
    assert vectors.dtype == numpy.float32
    assert numpy.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_nothing_gives_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, embedder.dimensions)


def test_a_text_has_the_same_vector_in_every_batch(embedder: Embedder) -> None:
    alone = numpy.concatenate([embedder.embed([text]) for text in TEXTS])
    together = embedder.embed(TEXTS)
    assert numpy.abs(alone - together).max() < 1e-5
    assert numpy.abs(embedder.embed(TEXTS[::-1])[::-1] - together).max() < 1e-5


def test_like_texts_are_nearer_than_unlike_ones(embedder: Embedder) -> None:
    lamp, light, bread = embedder.embed(["How long is the lamp covered?", "Warranty of lights", "Bake bread slowly"])
    assert lamp @ light > lamp @ bread + 0.1


def test_the_id_pins_the_model(embedder: Embedder) -> None:
    assert len(embedder.id) > 8
    assert embedder.id == embedder.id
