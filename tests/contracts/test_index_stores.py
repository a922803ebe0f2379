"""What every store of index versions promises: exact places, exact search, whole versions, nothing left behind."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from slipway.domain.document import Chunk, Document
from slipway.domain.errors import NotFound
from slipway.domain.ids import ContentHash, SubjectId, hash_text
from slipway.domain.index import Similarity
from slipway.embedders.base import Vectors
from slipway.text.overlap import asked_stems, content_words
from slipway.vectors.base import IndexReader, IndexStore, index_stores

TEXTS = {
    "lamps.md": "# Lamps\n\nA lamp has a warranty of five years. The bulb is not covered — “never”.\n\n"
    "Send the lamp to Leipzig.",
    "shipping.md": "# Shipping\n\nExpress shipping costs 12 euros. Standard shipping costs 4.90 euros.",
    "notes/räder.txt": "Räder und Lampen: naïve café 漢字 😀 wheels are shipped by express.",
}
VERSION = hash_text("a version")


@pytest.fixture(params=index_stores.names())
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[IndexStore]:
    if request.param == "postgres":
        made = index_stores.make("postgres", {"url": request.getfixturevalue("postgres_url")})
        for version in made.versions():
            made.remove(version)
        yield made
        made.close()  # type: ignore[attr-defined]
    else:
        yield index_stores.make(request.param, {"folder": tmp_path / "indexes"})


def documents(*, subject: str | None = None) -> list[Document]:
    return [
        Document(
            id=id,
            title=id.split(".")[0].title(),
            text=text,
            source=f"/somewhere/{id}",
            content_hash=hash_text(text),
            subject=SubjectId(subject) if subject and id == "lamps.md" else None,
            metadata={"format": "markdown", "language": "en"},
        )
        for id, text in TEXTS.items()
    ]


def chunks() -> list[Chunk]:
    made = []
    for id, text in TEXTS.items():
        start = 0
        for piece in text.split("\n\n"):
            start = text.index(piece, start)
            made.append(Chunk(document=id, start=start, end=start + len(piece), text=piece, heading="Prices"))
    return made


def unit_vectors(count: int, dimensions: int = 16, seed: int = 0) -> Vectors:
    drawn = numpy.random.default_rng(seed).normal(size=(count, dimensions)).astype(numpy.float32)
    return drawn / numpy.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture
def reader(store: IndexStore) -> IndexReader:
    store.write(VERSION, documents=documents(), chunks=chunks(), vectors=unit_vectors(len(chunks())))
    return store.open(VERSION)


def test_what_is_written_is_read_back_exactly(reader: IndexReader) -> None:
    assert reader.chunk_count == len(chunks())
    assert reader.chunks(range(len(chunks()))) == chunks()
    assert [reader.document(id) for id in TEXTS] == documents()
    assert sorted(reader.document_ids()) == sorted(TEXTS)


def test_every_chunk_slices_back_to_its_text(reader: IndexReader) -> None:
    for chunk in reader.chunks(range(reader.chunk_count)):
        assert reader.document(chunk.document).text[chunk.start : chunk.end] == chunk.text


def test_chunks_come_in_the_order_asked_for(reader: IndexReader) -> None:
    assert reader.chunks([3, 0, 3]) == [chunks()[3], chunks()[0], chunks()[3]]


QUESTIONS = [
    pytest.param("What does express shipping cost?", "shipping.md", id="words of the text"),
    pytest.param("shipped wheel", "notes/räder.txt", id="other forms of the words"),
    pytest.param("warranties of lamps", "lamps.md", id="plurals"),
    pytest.param('leipzig" OR NEAR( *', "lamps.md", id="signs of the query language are plain text"),
]


@pytest.mark.parametrize(("question", "document"), QUESTIONS)
def test_words_find_their_chunk(reader: IndexReader, question: str, document: str) -> None:
    found = reader.lexical(question, limit=5)
    assert reader.chunks([found[0].chunk])[0].document == document
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert all(hit.score > 0 for hit in found)


@pytest.mark.parametrize("question", ["", "   ", "?!", "zzz qqq", "';--"])
def test_what_holds_no_known_word_finds_nothing(reader: IndexReader, question: str) -> None:
    assert reader.lexical(question, limit=5) == []


def test_headings_and_titles_are_found_by_words(reader: IndexReader) -> None:
    assert len(reader.lexical("prices", limit=50)) == len(chunks())


def test_a_search_keeps_to_the_named_documents(reader: IndexReader) -> None:
    only = reader.lexical("express shipping", limit=50, documents=["notes/räder.txt"])
    assert {reader.chunks([hit.chunk])[0].document for hit in only} == {"notes/räder.txt"}
    near = reader.dense(unit_vectors(1)[0], similarity="cosine", limit=50, documents=["lamps.md"])
    assert {reader.chunks([hit.chunk])[0].document for hit in near} == {"lamps.md"}
    assert reader.lexical("express shipping", limit=50, documents=[]) == []
    assert reader.lexical("express shipping", limit=50, documents=["never there.md"]) == []


@pytest.mark.parametrize("kept", [[1, 4], [4], [], [0, 1, 2, 3, 4, 5]], ids=str)
def test_a_search_keeps_to_the_named_chunks(reader: IndexReader, kept: list[int]) -> None:
    question = unit_vectors(1, seed=9)[0]
    by_words = reader.lexical("express shipping prices", limit=50, chunks=kept)
    assert {hit.chunk for hit in by_words} == {*kept}
    whole = dict(reader.lexical("express shipping prices", limit=50))
    assert dict(by_words) == pytest.approx({chunk: whole[chunk] for chunk in kept}), "scores are those of the whole"
    near = reader.dense(question, similarity="cosine", limit=50, chunks=kept)
    order = [hit.chunk for hit in reader.dense(question, similarity="cosine", limit=50)]
    assert [hit.chunk for hit in near] == [chunk for chunk in order if chunk in kept]


def test_named_chunks_and_documents_narrow_each_other(reader: IndexReader) -> None:
    question = unit_vectors(1)[0]
    assert {hit.chunk for hit in reader.lexical("prices", limit=50, documents=["lamps.md"], chunks=[1, 4])} == {1}
    near = reader.dense(question, similarity="cosine", limit=50, documents=["lamps.md"], chunks=[1, 4])
    assert {hit.chunk for hit in near} == {1}


def test_metadata_of_all_documents_is_read_at_once(reader: IndexReader) -> None:
    assert reader.metadata() == {id: {"format": "markdown", "language": "en"} for id in TEXTS}
    assert reader.chunk_numbers_in(["shipping.md", "lamps.md", "nowhere.md"]) == [0, 1, 2, 3, 4]
    assert reader.chunk_numbers_in([]) == []


def test_a_word_is_counted_in_chunks_by_its_stem(reader: IndexReader) -> None:
    assert reader.frequencies(["warranti", "price", "nowher"]) == [1, len(chunks()), 0]


@pytest.mark.parametrize("similarity", ["cosine", "dot", "euclid"])
def test_dense_search_is_exact(reader: IndexReader, similarity: Similarity) -> None:
    question = unit_vectors(1, seed=9)[0]
    matrix = unit_vectors(len(chunks()))
    expected = {
        "cosine": matrix @ question,
        "dot": matrix @ question,
        "euclid": 1 / (1 + numpy.linalg.norm(matrix - question, axis=1)),
    }[similarity]
    found = reader.dense(question, similarity=similarity, limit=len(matrix))
    assert [hit.chunk for hit in found] == list(numpy.argsort(-expected, kind="stable"))
    assert [hit.score for hit in found] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    named = reader.similarities(question, [4, 1], similarity=similarity)
    assert named == pytest.approx([float(expected[4]), float(expected[1])], abs=1e-5)


def test_vectors_come_back_for_the_next_version(reader: IndexReader) -> None:
    assert reader.vectors([2, 0]) == pytest.approx(unit_vectors(len(chunks()))[[2, 0]], abs=1e-7)


def test_a_version_without_vectors_says_so(store: IndexStore) -> None:
    store.write(VERSION, documents=documents(), chunks=chunks(), vectors=None)
    reader = store.open(VERSION)
    assert reader.dimensions == 0
    assert reader.dense(unit_vectors(1)[0], similarity="cosine", limit=3) == []
    assert reader.lexical("warranty", limit=3)


def test_chunks_of_a_document_are_listed(reader: IndexReader) -> None:
    assert reader.chunk_numbers("lamps.md") == [0, 1, 2]
    assert reader.chunk_numbers("nowhere.md") == []


def test_a_document_that_is_not_there_is_named_with_a_near_one(reader: IndexReader) -> None:
    with pytest.raises(NotFound, match=r"Did you mean 'lamps\.md'"):
        reader.document("lamp.md")


def test_writing_a_version_again_changes_nothing(store: IndexStore, reader: IndexReader) -> None:
    store.write(VERSION, documents=[], chunks=[], vectors=None)
    assert store.open(VERSION).chunk_count == len(chunks())


def test_a_failed_write_leaves_no_version(store: IndexStore) -> None:
    strangers = [Chunk(document="nowhere.md", start=0, end=1, text="x")]
    with pytest.raises(KeyError):
        store.write(VERSION, documents=documents(), chunks=strangers, vectors=None)
    assert store.versions() == []
    with pytest.raises(NotFound, match="slipway retrieve build"):
        store.open(VERSION)
    store.write(VERSION, documents=documents(), chunks=chunks(), vectors=None)
    assert store.versions() == [VERSION]


def test_versions_are_kept_apart_and_removed_one_by_one(store: IndexStore) -> None:
    other = hash_text("another version")
    store.write(VERSION, documents=documents(), chunks=chunks(), vectors=None)
    store.write(other, documents=documents()[:1], chunks=chunks()[:3], vectors=None)
    assert store.versions() == sorted([VERSION, other])
    store.open(other)
    store.remove(other)
    assert store.versions() == [VERSION]
    with pytest.raises(NotFound):
        store.open(other)
    assert store.open(VERSION).chunk_count == len(chunks())


def test_removing_what_is_not_there_is_no_error(store: IndexStore) -> None:
    store.remove(ContentHash("0" * 64))


def test_versions_about_a_person_are_found(store: IndexStore) -> None:
    store.write(VERSION, documents=documents(subject="person-7"), chunks=chunks(), vectors=None)
    store.write(hash_text("other"), documents=documents(), chunks=chunks(), vectors=None)
    assert store.about(SubjectId("person-7")) == [VERSION]
    assert store.about(SubjectId("person-8")) == []


def test_many_threads_search_one_version_while_another_is_written(store: IndexStore, reader: IndexReader) -> None:
    wrong: list[object] = []
    stop = threading.Event()
    question = unit_vectors(1)[0]

    def search() -> None:
        try:
            while not stop.is_set():
                found = reader.lexical("express shipping costs", limit=3)
                near = reader.dense(question, similarity="cosine", limit=3)
                if len(found) != 3 or len(near) != 3 or len(reader.chunks([found[0].chunk])) != 1:
                    wrong.append(found)
        except Exception as error:  # handed to the test, which fails on it
            wrong.append(error)

    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(5):
        store.write(hash_text(f"next {number}"), documents=documents(), chunks=chunks(), vectors=None)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_stores_rank_alike(store: IndexStore, tmp_path: Path) -> None:
    """BM25 of every store follows the same formula; SQLite's own is the reference."""
    drawn = random.Random(0)
    vocabulary = ["lamp", "bulb", "shade", "switch", "cable", "socket", "euro", "parcel", "invoice", "garden"]
    texts = [" ".join(drawn.choices(vocabulary, k=drawn.randint(5, 40))) for _ in range(60)]
    texts = [f"{text} rare{place % 7}" for place, text in enumerate(texts)]
    made = [
        Document(id=f"{place}", title="", text=text, source="", content_hash=hash_text(text))
        for place, text in enumerate(texts)
    ]
    cut = [Chunk(document=one.id, start=0, end=len(one.text), text=one.text) for one in made]
    reference = index_stores.make("sqlite", {"folder": tmp_path / "reference"})
    for one in (reference, store):
        one.write(VERSION, documents=made, chunks=cut, vectors=None)
    for question in ["rare3 lamp", "socket invoice rare1", "garden"]:
        expected = reference.open(VERSION).lexical(question, limit=60)
        found = store.open(VERSION).lexical(question, limit=60)
        assert dict(found) == pytest.approx(dict(expected), rel=1e-6, abs=1e-5)


OTHER_LANGUAGES = {
    "zh.md": "顾客可以在收到商品后三十天内退货。退款会在五个工作日内完成。",
    "zh2.md": "员工每年有十五天年假。申请需要提前两周提交。",
    "de.md": "Die Prüfung der Straße kostet 1,000 Euro, die größere 2.5 Millionen.",
}


@pytest.mark.parametrize(
    ("question", "found"),
    [
        pytest.param("多少天内可以退货？", "zh.md", id="Chinese sets no spaces"),
        pytest.param("年假申请", "zh2.md", id="Chinese keywords"),
        pytest.param("Was kostet eine Prufung?", "de.md", id="an umlaut that was left out"),
        pytest.param("größere Prüfung", "de.md", id="an umlaut"),
        pytest.param("who pays 1,000?", "de.md", id="a number with a comma"),
    ],
)
def test_words_of_other_languages_are_found_and_counted_as_a_question_has_them(
    store: IndexStore, question: str, found: str
) -> None:
    made = [
        Document(id=id, title=id, text=text, source="", content_hash=hash_text(text))
        for id, text in OTHER_LANGUAGES.items()
    ]
    whole = [Chunk(document=one.id, start=0, end=len(one.text), text=one.text) for one in made]
    store.write(VERSION, documents=made, chunks=whole, vectors=None)
    reader = store.open(VERSION)
    best = reader.lexical(question, limit=5)[0]
    assert reader.chunks([best.chunk])[0].document == found
    # A word that the chunk holds is never counted as unknown.
    shared = set(asked_stems(question)) & set(content_words(OTHER_LANGUAGES[found]))
    assert shared
    assert min(reader.frequencies(sorted(shared))) >= 1
