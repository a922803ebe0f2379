"""The weight of the lexical leg, fitted to an index without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import pytest

from slipway.domain.document import Document
from slipway.domain.ids import hash_text
from slipway.embedders.base import Vectors
from slipway.retrieve.index import GENERAL_ALPHA, build_index, search_settings
from slipway.text.overlap import words
from slipway.workspace import Workspace, open_workspace

THINGS = [f"{first}{second}" for first in ("lamp", "bulb", "shade", "cable", "plug", "dimmer") for second in "bdfgklmn"]


@dataclass(frozen=True)
class Noise:
    """Vectors that say nothing about a text."""

    dimensions: int = 32

    @property
    def id(self) -> str:
        return "noise"

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [numpy.random.default_rng(int(hash_text(text)[:8], 16)).normal(size=self.dimensions) for text in texts]
        return _unit(rows, self.dimensions)


@dataclass(frozen=True)
class Words:
    """Vectors that know the words of a text as well as the lexical leg does."""

    dimensions: int = 512

    @property
    def id(self) -> str:
        return "words"

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = numpy.zeros((len(texts), self.dimensions))
        for place, text in enumerate(texts):
            for word in words(text):
                if word in THINGS:
                    rows[place, THINGS.index(word)] += 1
        return _unit(list(rows + 1e-3), self.dimensions)


def _unit(rows: list[numpy.typing.NDArray[numpy.float64]], dimensions: int) -> Vectors:
    matrix = numpy.asarray(rows, dtype=numpy.float32).reshape(-1, dimensions)
    return matrix / numpy.linalg.norm(matrix, axis=1, keepdims=True)


def documents(count: int) -> list[Document]:
    texts = [
        f"The {thing} is a part that an electrician mounts in a house.\n\nIt has to do with {THINGS[place - 1]}."
        for place, thing in enumerate(THINGS[:count])
    ]
    return [
        Document(id=f"{place:02}.txt", title="", text=text, source="", content_hash=hash_text(text))
        for place, text in enumerate(texts)
    ]


@pytest.fixture
def automatic(application: Path) -> Path:
    path = application / "slipway.toml"
    settings = path.read_text(encoding="utf-8").replace("[retrieve]\n", '[retrieve]\nalpha = "auto"\n')
    path.write_text(settings, encoding="utf-8")
    return application


def test_where_vectors_say_nothing_words_weigh_more(automatic: Path) -> None:
    with open_workspace(automatic) as opened:
        workspace = replace(opened, embedder=Noise())
        index = build_index(workspace, documents=documents(48))
        fit = index.alpha_fit
        assert fit is not None
        assert index.search.alpha == fit.alpha > GENERAL_ALPHA
        assert fit.ndcg > fit.ndcg_before
        assert fit.questions >= 30
        assert search_settings(workspace).alpha == fit.alpha, "a comparison starts from what the index has"
        assert build_index(workspace, documents=documents(48)) == index, "nothing changed, so nothing is built"


def test_without_a_clear_difference_the_general_weight_stays(automatic: Path) -> None:
    with open_workspace(automatic) as opened:
        index = build_index(replace(opened, embedder=Words()), documents=documents(48))
        assert index.alpha_fit is not None
        assert index.search.alpha == index.alpha_fit.alpha == GENERAL_ALPHA


def test_too_few_questions_fit_nothing(automatic: Path) -> None:
    with open_workspace(automatic) as opened:
        index = build_index(replace(opened, embedder=Noise()), documents=documents(10))
        assert (index.search.alpha, index.alpha_fit) == (GENERAL_ALPHA, None)


def test_without_vectors_nothing_is_fitted(automatic: Path) -> None:
    with open_workspace(automatic) as workspace:
        index = build_index(workspace, documents=documents(48))
        assert (index.search.alpha, index.alpha_fit) == (GENERAL_ALPHA, None)


def test_a_number_in_the_settings_is_kept(workspace: Workspace) -> None:
    index = build_index(replace(workspace, embedder=Noise()), documents=documents(48))
    assert (index.search.alpha, index.alpha_fit) == (workspace.settings.retrieve.alpha, None)
