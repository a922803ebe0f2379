"""What every chunker promises: pieces of the document by offsets, in order, of the asked size, nothing lost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.domain.document import Document
from slipway.domain.errors import BackendSettingInvalid
from slipway.domain.ids import hash_text
from slipway.embedders.base import Vectors
from slipway.retrieve.chunkers.base import BySense, Chunker, chunker_id, chunkers
from slipway.text.tokens import EstimatedTokens, count_tokens

TOKENS = EstimatedTokens()
PROSE = "\n\n".join(
    f"Paragraph {place} speaks of lamps. It has {place + 3} sentences, more or less. " * (place % 4 + 1)
    for place in range(30)
)
PAGE = "# Lamps\n\nIntro.\n\n## Prices\n\nA lamp costs 12 euros.\n\n## Warranty\n\nFive years. " + "More words. " * 60


def document(text: str, *, format: str = "markdown") -> Document:
    return Document(
        id="a.md", title="A", text=text, source="a.md", content_hash=hash_text(text), metadata={"format": format}
    )


@pytest.fixture(params=chunkers.names())
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def make(kind: str, size: int, overlap: int = 0) -> Chunker:
    chunker = chunkers.make(kind, {"size": size, "overlap": overlap})
    return chunker.embedding_by(by_first_letter) if isinstance(chunker, BySense) else chunker


def by_first_letter(document: Document, texts: Sequence[str]) -> Vectors:
    """Texts that begin alike are alike: enough sense to cut by, without a model."""
    vectors = numpy.full((len(texts), 64), 0.1, dtype=numpy.float32)
    for place, text in enumerate(texts):
        vectors[place, ord(text[:1] or " ") % 64] = 1
    unit: Vectors = vectors / numpy.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


TEXTS = [
    pytest.param(PROSE, id="prose"),
    pytest.param(PAGE, id="a page with headings"),
    pytest.param("x" * 5000, id="one run without a space"),
    pytest.param("字" * 900, id="a script without spaces"),
    pytest.param(
        "---\ntitle: T\n---\n# T\n\n- a\n- b\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", id="front matter and lists"
    ),
    pytest.param("\n\n \n", id="nothing but space"),
    pytest.param("", id="nothing"),
]


@pytest.mark.parametrize("overlap", [0, 20], ids=["no overlap", "overlap"])
@pytest.mark.parametrize("text", TEXTS)
def test_chunks_slice_back_are_trimmed_and_in_order(kind: str, text: str, overlap: int) -> None:
    cut = list(make(kind, 50, overlap).cut(document(text), TOKENS))
    for chunk in cut:
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
    assert [chunk.start for chunk in cut] == sorted(chunk.start for chunk in cut)
    assert [chunk.end for chunk in cut] == sorted(chunk.end for chunk in cut)


@pytest.mark.parametrize("text", TEXTS[:4])
def test_without_overlap_no_word_is_lost_or_doubled(kind: str, text: str) -> None:
    cut = list(make(kind, 50).cut(document(text, format="text"), TOKENS))
    assert "".join("".join(chunk.text.split()) for chunk in cut) == "".join(text.split())


@pytest.mark.parametrize("size", [20, 50, 200])
def test_chunks_keep_to_their_size(kind: str, size: int) -> None:
    for chunk in make(kind, size).cut(document(PROSE), TOKENS):
        assert count_tokens(chunk.text) <= size


def test_overlap_repeats_the_end_of_the_chunk_before(kind: str) -> None:
    cut = list(make(kind, 60, 30).cut(document(PROSE), TOKENS))
    shared = [before.end - after.start for before, after in pairwise(cut)]
    assert sum(length > 0 for length in shared) > len(shared) / 2


def test_a_chunk_knows_the_headings_above_it(kind: str) -> None:
    cut = list(make(kind, 40).cut(document(PAGE), TOKENS))
    assert cut[-1].heading == "Lamps > Warranty"
    assert all(chunk.heading == "" for chunk in make(kind, 40).cut(document(PAGE, format="text"), TOKENS))


def test_the_id_tells_settings_and_tokens(kind: str) -> None:
    assert chunker_id(kind, make(kind, 50, 10), TOKENS) == f"{kind}(size=50, overlap=10) in estimate tokens"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"size": 4}, id="too small"),
        pytest.param({"size": 50, "overlap": 50}, id="overlap as large as the chunk"),
        pytest.param({"size": 50, "overlap": -1}, id="negative overlap"),
        pytest.param({"size": "many"}, id="no number"),
        pytest.param({"sise": 50}, id="unknown key"),
    ],
)
def test_wrong_settings_are_refused(kind: str, wrong: dict[str, object]) -> None:
    with pytest.raises(BackendSettingInvalid, match=kind):
        chunkers.make(kind, wrong)


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab .\n#-`|字!1"), max_size=400), size=st.integers(8, 30))
def test_any_text_is_cut_without_loss(text: str, size: int) -> None:
    for name in chunkers.names():
        cut = list(make(name, size).cut(document(text, format="text"), TOKENS))
        kept = "".join(chunk.text for chunk in cut)
        assert [sign for sign in text if sign.isalnum()] == [sign for sign in kept if sign.isalnum()]
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in cut)
