"""Search: fusion, cut, filters, and passages that slice back."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.domain.document import Chunk, Document
from slipway.domain.errors import EmbedderChanged, FileBroken, NotFound
from slipway.domain.ids import hash_text
from slipway.domain.index import Index, SearchSettings
from slipway.retrieve.batch import search_questions
from slipway.retrieve.coverage import answerable_probability
from slipway.retrieve.fusion import Fused, cut_off, fuse
from slipway.retrieve.index import build_index, lean_on_neighbours
from slipway.retrieve.query import read_document, search_index
from slipway.workspace import Workspace

FUSIONS = [
    pytest.param({1: 10.0, 2: 5.0}, {1: 0.5, 3: 0.8}, 0.5, {1: (0.5, 0.3125), 2: (0.25, 0), 3: (0, 0.5)}, id="even"),
    pytest.param({1: 10.0}, {2: 0.8}, 1.0, {1: (1, 0), 2: (0, 0)}, id="alpha 1 counts words only"),
    pytest.param({1: 10.0}, {2: 0.8}, 0.0, {1: (0, 0), 2: (0, 1)}, id="alpha 0 counts vectors only"),
    pytest.param({1: 4.0, 2: 2.0}, {}, 0.3, {1: (1, 0), 2: (0.5, 0)}, id="without vectors alpha does not count"),
    pytest.param({}, {1: 0.4}, 1.0, {1: (0, 0)}, id="alpha 1 leaves vectors out even where no word matches"),
    pytest.param({}, {1: 0.4}, 0.7, {1: (0, 1)}, id="without a word in common the vectors count alone"),
    pytest.param({1: 1.0}, {1: -0.2, 2: 0.5}, 0.5, {1: (0.5, 0), 2: (0, 0.5)}, id="a negative similarity counts as 0"),
    pytest.param({}, {1: -0.2}, 0.5, {1: (0, 0)}, id="nothing alike at all"),
    pytest.param({}, {}, 0.5, {}, id="nothing"),
]


@pytest.mark.parametrize(("lexical", "dense", "alpha", "expected"), FUSIONS)
def test_alpha_weighs_the_lexical_leg(
    lexical: dict[int, float], dense: dict[int, float], alpha: float, expected: dict[int, tuple[float, float]]
) -> None:
    found = fuse(lexical, dense, alpha=alpha)
    assert {hit.chunk: (hit.lexical, hit.dense) for hit in found} == {
        chunk: pytest.approx(shares) for chunk, shares in expected.items()
    }


Scores = st.dictionaries(st.integers(0, 20), st.floats(-1, 30, allow_nan=False), max_size=12)


@given(lexical=Scores, dense=Scores, alpha=st.floats(0, 1))
def test_scores_are_between_0_and_1_sorted_and_the_sum_of_their_legs(
    lexical: dict[int, float], dense: dict[int, float], alpha: float
) -> None:
    found = fuse(lexical, dense, alpha=alpha)
    assert all(0 <= hit.score <= 1 + 1e-9 for hit in found)
    assert all(hit.score == pytest.approx(hit.lexical + hit.dense) for hit in found)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert {hit.chunk for hit in found} == lexical.keys() | dense.keys()


HITS = [Fused(1, 1.0, 1, 0), Fused(2, 0.7, 0.7, 0), Fused(3, 0.6, 0.6, 0), Fused(4, 0.0, 0, 0)]
CUTS = [
    pytest.param(0.65, 10, [1, 2], id="below the share of the best they go"),
    pytest.param(0.0, 10, [1, 2, 3], id="no cut leaves all that scored"),
    pytest.param(0.0, 2, [1, 2], id="at most the limit"),
    pytest.param(1.0, 10, [1], id="only the best"),
]


@pytest.mark.parametrize(("cut", "limit", "left"), CUTS)
def test_the_cut_is_relative_to_the_best(cut: float, limit: int, left: list[int]) -> None:
    assert [hit.chunk for hit in cut_off(HITS, cut=cut, limit=limit)] == left


def test_passages_slice_back_and_name_their_document(workspace: Workspace) -> None:
    index = build_index(workspace)
    found = search_index(workspace, index, "What does express shipping cost?")
    assert found[0].document == "shipping.md"
    assert found[0].title == "Shipping"
    assert (found[0].score, found[0].lexical, found[0].dense) == (1.0, 1.0, 0.0)
    for passage in found:
        assert read_document(workspace, index, passage.document).text[passage.start : passage.end] == passage.text


def test_a_search_keeps_to_the_named_documents(workspace: Workspace) -> None:
    index = build_index(workspace)
    found = search_index(workspace, index, "shipping warranty", documents=["warranty.md"])
    assert {passage.document for passage in found} == {"warranty.md"}


@pytest.mark.parametrize("question", ["", "   ", "zebra quagga", "?"])
def test_what_matches_nothing_finds_nothing(workspace: Workspace, question: str) -> None:
    assert search_index(workspace, build_index(workspace), question) == []


def test_an_unknown_document_is_named_with_a_near_one(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match=r"Did you mean 'returns\.md'"):
        read_document(workspace, build_index(workspace), "return.md")


def test_vectors_find_what_words_do_not(with_vectors: Workspace) -> None:
    index = build_index(with_vectors)
    question = "mailing goods back"
    everything = SearchSettings(alpha=0.5, cut=0.0)
    assert search_index(with_vectors, index, question, settings=replace(everything, alpha=1.0)) == []
    found = search_index(with_vectors, index, question, settings=everything)
    assert found[0].document == "returns.md"
    assert found[0].dense > 0 == found[0].lexical


def test_both_legs_show_their_share(with_vectors: Workspace) -> None:
    found = search_index(with_vectors, build_index(with_vectors), "How long can I return a parcel?")
    assert found[0].lexical == pytest.approx(0.45)
    assert found[0].dense == pytest.approx(0.55)


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclid"])
def test_every_similarity_searches(with_vectors: Workspace, similarity: str) -> None:
    index = build_index(with_vectors)
    settings = SearchSettings(similarity=similarity, cut=0.0)  # type: ignore[arg-type]
    found = search_index(with_vectors, index, "How long can I return a parcel?", settings=settings)
    assert found[0].document == "returns.md"


def test_an_index_with_vectors_needs_its_embedder(with_vectors: Workspace) -> None:
    index = build_index(with_vectors)
    without = replace(with_vectors, embedder=None)
    with pytest.raises(EmbedderChanged, match=r"built with the embedder 'all-MiniLM.*but none is there now"):
        search_index(without, index, "return")


def many(workspace: Workspace, texts: dict[str, str], name: str = "many") -> Index:
    documents = [
        Document(id=id, title="", text=text, source="", content_hash=hash_text(text)) for id, text in texts.items()
    ]
    return build_index(workspace, name, documents=documents)


def test_what_stands_around_a_chunk_helps_to_find_it(workspace: Workspace) -> None:
    filler = " ".join(f"Filler sentence number {place} says nothing of use." for place in range(40))
    texts = {
        "a.txt": f"The heron nests at the northern lake.\n\n{filler}\n\nIts eggs are blue and it lays four of them.",
        "b.txt": f"{filler}\n\nIts eggs are blue and it lays four of them.",
        "c.txt": f"{filler}\n\nThe heron eats fish.",
    }
    settings = SearchSettings(cut=0.0, limit=50)
    near = "The heron nests.\n\n" + "One more word about the lake. " * 25 + "\n\nIts eggs are blue."
    index = many(workspace, {**texts, "near.txt": near})
    found = search_index(workspace, index, "heron eggs", settings=settings)
    alone = search_index(workspace, index, "heron eggs", settings=settings, documents=["b.txt"])
    assert found[0].document == "near.txt", "heron and eggs stand in neighbouring chunks of one document"
    assert alone
    assert alone[0].score == 1.0


def test_words_side_by_side_count_more_than_apart(workspace: Workspace) -> None:
    index = many(
        workspace,
        {
            "apart.txt": "A lake is near. The house stands there. Water from the house runs to a lake.",
            "together.txt": "A lake house is near. The garden stands there. Water from the tap runs to a pond.",
            **{f"{place}.txt": f"Something else altogether number {place}." for place in range(8)},
        },
    )
    reader = workspace.indexes.open(index.hash)
    scores = {reader.chunks([hit.chunk])[0].document: hit.score for hit in reader.lexical("lake house", limit=5)}
    swapped = {reader.chunks([hit.chunk])[0].document: hit.score for hit in reader.lexical("house lake", limit=5)}
    assert scores["together.txt"] > swapped["together.txt"]
    assert scores["apart.txt"] == pytest.approx(swapped["apart.txt"])


def test_vectors_lean_on_their_neighbours_in_the_same_document_only() -> None:
    chunks = [Chunk(document=id, start=0, end=1, text="x") for id in ("a", "a", "b")]
    unit = numpy.eye(3, dtype=numpy.float32)
    leaning = lean_on_neighbours(unit, chunks)
    assert leaning[0] @ unit[1] > 0.2
    assert leaning[0] @ unit[0] > leaning[0] @ unit[1]
    assert leaning[:, 2].tolist() == [0, 0, 1], "a document of one chunk is not changed, nor does it reach others"
    assert numpy.linalg.norm(leaning, axis=1) == pytest.approx(1)


def test_many_questions_give_what_each_gives_alone(with_vectors: Workspace) -> None:
    index = build_index(with_vectors)
    questions = ["How long can I return a parcel?", "How do I bake bread?", "What does express shipping cost?"]
    found = search_questions(with_vectors, index, [(str(place), text) for place, text in enumerate(questions)])
    assert [one.id for one in found] == ["0", "1", "2"]
    for one in found:
        assert list(one.passages) == search_index(with_vectors, index, one.question)
        assert one.answerable == pytest.approx(answerable_probability(with_vectors, index, one.question))
        assert len(one.ranking) == index.chunks, "the ranking is not cut"
        assert [hit.score for hit in one.ranking] == sorted((hit.score for hit in one.ranking), reverse=True)
        assert (one.ranking[0].document, one.ranking[0].start) == (one.passages[0].document, one.passages[0].start)


def test_an_index_of_an_older_format_is_built_anew(workspace: Workspace) -> None:
    index = build_index(workspace)
    path = workspace.state / "indexes" / f"{index.hash}.sqlite"
    workspace.indexes.close()
    connection = sqlite3.connect(path)
    connection.execute("update facts set format = 1")
    connection.commit()
    connection.close()
    with pytest.raises(FileBroken, match="format 1"):
        search_index(workspace, index, "lamp")
    (workspace.folder / "documents" / "new.md").write_text("# New\n\nSolar lamps.", encoding="utf-8")
    assert search_index(workspace, build_index(workspace), "solar")[0].document == "new.md"
