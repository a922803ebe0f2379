"""The graph of neighbours: near the exact result, inside filters, never used when it is not that of the vectors."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy
import pytest

from slipway.domain.document import Chunk, Document
from slipway.domain.ids import ContentHash, hash_text
from slipway.embedders.base import Vectors
from slipway.vectors.base import Candidate
from slipway.vectors.sqlite import SQLiteIndexes, SQLiteReader, graph_path
from slipway.wire import neighbours

pytest.importorskip("faiss", reason="faiss is not installed (pip install 'slipway[neighbours]')")

ROWS = 3000
VERSION = hash_text("a version")


def unit(rows: int, seed: int = 0) -> Vectors:
    drawn = numpy.random.default_rng(seed).normal(size=(rows, 16)).astype(numpy.float32)
    return drawn / numpy.linalg.norm(drawn, axis=1, keepdims=True)


def write(store: SQLiteIndexes, version: ContentHash = VERSION, seed: int = 0) -> Path:
    made = [Document(id=f"{name}.txt", title="", text="x " * ROWS, source="", content_hash=version) for name in "ab"]
    cut = [
        Chunk(document=one.id, start=2 * place, end=2 * place + 1, text="x")
        for one in made
        for place in range(ROWS // 2)
    ]
    store.write(version, documents=made, chunks=cut, vectors=unit(ROWS, seed))
    return graph_path(store.folder / f"{version}.sqlite")


@pytest.fixture
def store(tmp_path: Path) -> SQLiteIndexes:
    return SQLiteIndexes(tmp_path, approximate_from=1000)


def search(store: SQLiteIndexes, question: Vectors, **kept_to: list[str] | list[int]) -> list[Candidate]:
    return store.open(VERSION).dense(question, similarity="cosine", limit=10, **kept_to)  # type: ignore[arg-type]


def exact(store: SQLiteIndexes, question: Vectors, **kept_to: list[str] | list[int]) -> list[Candidate]:
    return search(SQLiteIndexes(store.folder, approximate_from=0), question, **kept_to)


def overlap(store: SQLiteIndexes, **kept_to: list[str] | list[int]) -> float:
    shares = []
    for question in unit(30, seed=1):
        found, wanted = search(store, question, **kept_to), exact(store, question, **kept_to)
        scores = {hit.chunk: hit.score for hit in wanted}
        assert all(abs(hit.score - scores.get(hit.chunk, hit.score)) < 1e-6 for hit in found), "scores are exact"
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        shares.append(len({hit.chunk for hit in found} & set(scores)) / 10)
    return float(numpy.mean(shares))


def asked_of_graph(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every search that the graph answers."""
    counts: list[int] = []
    near = neighbours.Neighbours.near

    def spy(self: neighbours.Neighbours, vector: Vectors, count: int, **rest: object) -> object:
        counts.append(count)
        return near(self, vector, count, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(neighbours.Neighbours, "near", spy)
    return counts


def test_the_graph_finds_nearly_what_exact_search_finds(store: SQLiteIndexes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write(store).exists()
    asked = asked_of_graph(monkeypatch)
    assert overlap(store) >= 0.95
    assert len(asked) == 30


def test_filters_hold_and_a_narrow_one_is_searched_exactly(
    store: SQLiteIndexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store)
    asked = asked_of_graph(monkeypatch)
    assert overlap(store, documents=["b.txt"]) >= 0.95
    assert all(hit.chunk >= ROWS // 2 for hit in search(store, unit(1, 2)[0], documents=["b.txt"]))
    assert asked
    asked.clear()
    some = list(range(0, ROWS, 20))
    assert overlap(store, chunks=some) == 1.0
    assert not asked


def test_few_vectors_get_no_graph(tmp_path: Path) -> None:
    assert not write(SQLiteIndexes(tmp_path, approximate_from=ROWS + 1)).exists()
    assert not write(SQLiteIndexes(tmp_path, approximate_from=0), hash_text("another")).exists()


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def something_else(path: Path) -> None:
    path.write_bytes(b"nothing of the kind")


def of_other_vectors(path: Path) -> None:
    store = SQLiteIndexes(path.parent / "other", approximate_from=1000)
    path.write_bytes(write(store, VERSION, seed=9).read_bytes())


@pytest.mark.parametrize("spoil", [damaged, cut_short, something_else, of_other_vectors])
def test_a_graph_that_is_not_that_of_the_vectors_is_told_not_used_and_made_again(
    store: SQLiteIndexes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, spoil: object
) -> None:
    graph = write(store)
    spoil(graph)  # type: ignore[operator]
    asked = asked_of_graph(monkeypatch)
    with caplog.at_level(logging.WARNING, logger="slipway.vectors"):
        assert overlap(store) == 1.0
    assert not asked
    assert [record.getMessage() for record in caplog.records if "is not used" in record.getMessage()]
    store.close()
    store.mend(VERSION)
    assert overlap(store) >= 0.95
    assert asked


def test_a_removed_version_leaves_no_byte_of_its_graph(store: SQLiteIndexes) -> None:
    graph = write(store)
    (graph.parent / f"{VERSION}.99.half").write_bytes(b"of a build that was killed")
    search(store, unit(1)[0])
    store.remove(VERSION)
    assert list(store.folder.iterdir()) == []


def test_a_graph_that_cannot_be_written_costs_speed_only(
    store: SQLiteIndexes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("slipway.vectors.sqlite.write_neighbours", full)
    assert not write(store).exists()
    assert "was not written" in caplog.text
    assert overlap(store) == 1.0


def test_without_faiss_search_is_exact(store: SQLiteIndexes, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store)
    monkeypatch.setattr("slipway.vectors.sqlite.can_build", lambda: False)
    assert overlap(store) == 1.0
    assert isinstance(store.open(VERSION), SQLiteReader)
