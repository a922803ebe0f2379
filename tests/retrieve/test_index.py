"""Index versions: saved once, rebuilt only where something changed, whole or not at all."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from slipway.config.reader import load_settings
from slipway.domain.errors import ConfigError, NameInvalid, NotFound, NothingToIndex
from slipway.domain.index import Index
from slipway.retrieve.chunkers.base import chunkers
from slipway.retrieve.chunkers.recursive import Recursive
from slipway.retrieve.comparison import compare_settings
from slipway.retrieve.documents import load_documents
from slipway.retrieve.embeddings import Embeddings, forget_documents, forget_texts
from slipway.retrieve.index import (
    build_index,
    embedded_text,
    known_documents,
    load_index,
    load_sources,
    outdated,
    remove_index,
)
from slipway.retrieve.query import read_document, search_index
from slipway.retrieve.questions import make_questions
from slipway.workspace import Workspace, open_workspace


def write(workspace: Workspace, name: str, text: str) -> Path:
    path = workspace.folder / "documents" / name
    path.write_text(text, encoding="utf-8")
    return path


def test_an_index_tells_what_it_was_built_from(workspace: Workspace) -> None:
    index = build_index(workspace)
    assert (index.name, index.version) == ("documents", 1)
    assert [entry.id for entry in index.documents] == ["returns.md", "shipping.md", "warranty.md"]
    assert index.chunks == sum(entry.chunks for entry in index.documents) == 3
    assert (index.embedder, index.dimensions) == ("", 0)
    assert index.chunker == "recursive(size=200, overlap=0) in estimate tokens"
    assert load_index(workspace, "documents") == load_index(workspace, "documents@1") == index


def test_the_same_documents_are_the_same_version(workspace: Workspace) -> None:
    assert build_index(workspace) == build_index(workspace)
    assert len(workspace.store.records.list(Index)) == 1


def test_the_order_of_documents_does_not_matter(workspace: Workspace) -> None:
    documents = load_sources(workspace).documents
    assert build_index(workspace, documents=documents) == build_index(workspace, documents=documents[::-1])


CHANGES = [
    pytest.param(lambda w: write(w, "new.md", "# New\n\nSolar lamps."), ["new.md"], id="a document is added"),
    pytest.param(lambda w: write(w, "returns.md", "# Returns\n\nNever."), ["returns.md"], id="a document changes"),
    pytest.param(lambda w: (w.folder / "documents" / "returns.md").unlink(), ["returns.md"], id="a document goes"),
]


@pytest.mark.parametrize(("change", "named"), CHANGES)
def test_a_change_makes_the_index_outdated_and_the_next_build_a_new_version(
    workspace: Workspace, change: object, named: list[str]
) -> None:
    first = build_index(workspace)
    assert outdated(first, load_sources(workspace).documents) == []
    change(workspace)  # type: ignore[operator]
    now = load_sources(workspace)
    assert outdated(first, now.documents) == named
    second = build_index(workspace)
    assert second.version == 2
    assert second.hash != first.hash
    assert outdated(second, now.documents) == []
    assert load_index(workspace, "documents@1") == first, "the first version stays as it was"


def test_going_back_to_earlier_documents_is_a_new_version_with_the_old_file(workspace: Workspace) -> None:
    first = build_index(workspace)
    path = write(workspace, "new.md", "# New\n\nSolar lamps.")
    build_index(workspace)
    path.unlink()
    third = build_index(workspace)
    assert (third.version, third.hash) == (3, first.hash)
    assert len(workspace.indexes.versions()) == 2


def test_a_search_setting_is_part_of_the_version(workspace: Workspace, application: Path) -> None:
    first = build_index(workspace)
    settings = application / "slipway.toml"
    settings.write_text(settings.read_text().replace("[retrieve]", "[retrieve]\ncut = 0.9"))
    with open_workspace(application, settings=load_settings(application)) as changed:
        second = build_index(changed)
    assert second.search.cut == 0.9
    assert second.hash != first.hash


def test_only_what_changed_is_cut_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(workspace)
    write(workspace, "new.md", "# New\n\nSolar lamps.")
    seen: list[str] = []
    cut = Recursive.cut

    def watched(self: Recursive, document: object, tokens: object) -> object:
        seen.append(document.id)  # type: ignore[attr-defined]
        return cut(self, document, tokens)  # type: ignore[arg-type]

    monkeypatch.setattr(Recursive, "cut", watched)
    build_index(workspace)
    assert seen == ["new.md"]


def test_a_lost_file_is_built_again(workspace: Workspace) -> None:
    first = build_index(workspace)
    workspace.indexes.remove(first.hash)
    second = build_index(workspace)
    assert second.hash == first.hash
    assert workspace.indexes.open(second.hash).chunk_count == first.chunks


def test_a_removed_version_is_gone_with_its_text(workspace: Workspace) -> None:
    index = build_index(workspace)
    remove_index(workspace, index)
    with pytest.raises(NotFound):
        load_index(workspace, "documents@1")
    assert workspace.indexes.versions() == []
    assert not any(b"Leipzig" in path.read_bytes() for path in (workspace.state / "indexes").iterdir())


def test_a_removed_version_leaves_no_vector_of_documents_that_only_it_held(with_vectors: Workspace) -> None:
    secret = write(with_vectors, "secret.md", "# Secret\n\nThe quick kangaroo owes 4711 crowns.")
    first = build_index(with_vectors)
    reader = with_vectors.indexes.open(first.hash)
    [vector] = reader.vectors(reader.chunk_numbers("secret.md"))
    [shared] = reader.vectors(reader.chunk_numbers("returns.md"))
    secret.unlink()
    build_index(with_vectors)
    remove_index(with_vectors, first)
    files = [path for path in with_vectors.state.rglob("*") if path.is_file()]
    everything = b"".join(path.read_bytes() for path in files)
    assert b"kangaroo" not in everything
    assert not any(vector[place : place + 16].tobytes() in everything for place in range(0, 384, 16))
    assert shared[:16].tobytes() in everything


def test_a_file_that_another_version_shares_stays(workspace: Workspace) -> None:
    index = build_index(workspace)
    other = build_index(workspace, "second", documents=load_sources(workspace).documents)
    assert other.hash == index.hash
    remove_index(workspace, index)
    assert workspace.indexes.versions() == [other.hash]


def test_nothing_to_index_is_told_with_examples(workspace: Workspace) -> None:
    for path in (workspace.folder / "documents").iterdir():
        path.unlink()
    with pytest.raises(NothingToIndex, match="There are no files"):
        build_index(workspace)
    write(workspace, "a.png", "x")
    with pytest.raises(NothingToIndex, match=r"1 files cannot be read: .*a\.png: files of type \.png are not read"):
        build_index(workspace)
    assert workspace.store.records.list(Index) == []


def test_a_bad_name_is_refused(workspace: Workspace) -> None:
    with pytest.raises(NameInvalid, match="lower case"):
        build_index(workspace, "My Index")


def test_an_unknown_index_is_named_with_a_near_one(workspace: Workspace) -> None:
    build_index(workspace)
    with pytest.raises(NotFound, match="Did you mean 'documents'"):
        load_index(workspace, "documnets")
    with pytest.raises(NotFound, match="Did you mean 'documents@1'"):
        load_index(workspace, "documents@7")


WRONG_CHUNKERS = [
    pytest.param('{ kind = "recursiv" }', "Did you mean 'recursive'", id="unknown kind"),
    pytest.param('{ kind = "fixed", sise = 3 }', "unknown key 'sise'. Did you mean 'size'", id="unknown key"),
    pytest.param('{ kind = "fixed", size = 3 }', "at least 8 tokens", id="too small"),
]


@pytest.mark.parametrize(("table", "message"), WRONG_CHUNKERS)
def test_a_wrong_chunker_names_its_place(application: Path, table: str, message: str) -> None:
    settings = application / "slipway.toml"
    settings.write_text(settings.read_text().replace("[retrieve]", f"[retrieve]\nchunker = {table}"))
    with (
        open_workspace(application) as opened,
        pytest.raises(ConfigError, match=r"\[retrieve\] chunker.*" + message.replace(".", r"\.")),
    ):
        build_index(opened)


def test_every_chunker_can_be_named_in_the_settings(application: Path) -> None:
    for kind in sorted({*chunkers.names()} - {"semantic"}):  # which needs an embedder: see test_semantic.py
        with open_workspace(application) as opened:
            opened.settings.retrieve.chunker.clear()
            opened.settings.retrieve.chunker.update({"kind": kind, "size": 50, "overlap": 0})
            assert build_index(opened).chunker.startswith(f"{kind}(size=50, overlap=0)")


def test_known_documents_carry_over_without_parsing(workspace: Workspace) -> None:
    build_index(workspace)
    known = known_documents(workspace)
    assert sorted(document.id for document in known.values()) == ["returns.md", "shipping.md", "warranty.md"]
    again = load_documents([workspace.folder / "documents"], known=known)
    assert [document.content_hash for document in again.documents] == [
        entry.content_hash for entry in load_index(workspace, "documents").documents
    ]


def test_vectors_are_kept_and_not_made_twice(with_vectors: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    index = build_index(with_vectors)
    assert index.dimensions == 384
    assert index.embedder.startswith("all-MiniLM-L6-v2")
    assert index.chunker.endswith("in all-MiniLM-L6-v2 tokens")
    write(with_vectors, "new.md", "# New\n\nSolar lamps are charged by the sun.")
    asked: list[str] = []
    embed = type(with_vectors.embedder).embed

    def watched(self: object, texts: list[str]) -> object:
        asked.extend(texts)
        return embed(self, texts)  # type: ignore[arg-type]

    monkeypatch.setattr(type(with_vectors.embedder), "embed", watched)
    build_index(with_vectors)
    assert [text for text in asked if "Leipzig" in text or "30 days" in text] == []
    assert any("Solar lamps are charged by the sun." in text for text in asked)


def test_a_stopped_build_resumes_where_it_was(with_vectors: Workspace) -> None:
    assert with_vectors.embedder is not None
    texts = [f"lamp number {place}" for place in range(300)]

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 100:
            raise Stop

    with Embeddings(with_vectors.state) as kept, pytest.raises(Stop):
        kept.embed(with_vectors.embedder, texts, on_progress=stop)
    told: list[tuple[int, int]] = []
    with Embeddings(with_vectors.state) as kept:
        vectors = kept.embed(with_vectors.embedder, texts, on_progress=lambda *step: told.append(step))
    assert told[0][0] > 128, "what was done before is not done again"
    assert told[-1] == (300, 300)
    assert abs(vectors - with_vectors.embedder.embed(texts)).max() < 1e-5


def test_forgotten_texts_leave_no_vector(with_vectors: Workspace) -> None:
    assert with_vectors.embedder is not None
    with Embeddings(with_vectors.state) as kept:
        secret, other = kept.embed(with_vectors.embedder, ["a secret lamp", "another lamp"])
    path = with_vectors.state / "embeddings.db"
    # A row may lie on two pages, so its beginning is searched for.
    assert secret[:16].tobytes() in path.read_bytes()
    assert forget_texts(with_vectors.state, ["a secret lamp", "never embedded"]) == 1
    left = b"".join(file.read_bytes() for file in with_vectors.state.glob("embeddings.db*"))
    assert not any(secret[place : place + 16].tobytes() in left for place in range(0, 384, 16))
    assert other[:16].tobytes() in left


def test_a_forgotten_document_loses_the_vectors_of_every_chunker(with_vectors: Workspace) -> None:
    index = build_index(with_vectors)
    compare_settings(with_vectors, cases=make_questions(load_sources(with_vectors).documents), sizes=[20, 100])
    path = with_vectors.state / "embeddings.db"

    def count() -> dict[str, int]:
        connection = sqlite3.connect(path)
        rows = dict(connection.execute("select document, count(*) from embeddings group by document"))
        connection.close()
        return rows

    before = count()
    gone = index.documents[0].content_hash
    assert before[gone] > 2, "whole and in pieces"
    assert forget_documents(with_vectors.state, [gone]) == before[gone]
    assert count() == {document: n for document, n in before.items() if document != gone}


def test_a_text_is_forgotten_as_it_stands_in_the_document(with_vectors: Workspace) -> None:
    build_index(with_vectors)
    [chunk] = with_vectors.indexes.open(build_index(with_vectors).hash).chunks([0])
    assert forget_texts(with_vectors.state, [chunk.text]) == 1


def test_forgetting_without_a_cache_is_no_error(tmp_path: Path) -> None:
    assert forget_texts(tmp_path, ["x"]) == forget_documents(tmp_path, ["y"]) == 0


def test_what_is_embedded_has_no_marks(workspace: Workspace) -> None:
    index = build_index(workspace)
    [chunk, *_] = workspace.indexes.open(index.hash).chunks([0])
    assert "#" in chunk.text
    assert embedded_text(chunk) == chunk.text.replace("**", "")


def test_readers_see_whole_versions_while_a_writer_builds(application: Path) -> None:
    with open_workspace(application) as opened:
        build_index(opened)
    done = threading.Event()
    wrong: list[object] = []
    seen: set[int] = set()

    def read() -> None:
        with open_workspace(application) as own:
            while not done.is_set():
                try:
                    index = load_index(own, "documents")
                    found = search_index(own, index, "lamp number warranty parcel")
                    there = {entry.id for entry in index.documents}
                    if not found or not {passage.document for passage in found} <= there:
                        wrong.append((index.version, [passage.document for passage in found]))
                    texts = [read_document(own, index, one.document).text[one.start : one.end] for one in found]
                    if texts != [passage.text for passage in found]:
                        wrong.append(texts)
                    seen.add(index.version)
                except Exception as error:  # any error at all is what this test looks for
                    wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(8)]
    for reader in readers:
        reader.start()
    try:
        with open_workspace(application) as writer:
            for number in range(8):
                (application / "documents" / f"new{number}.md").write_text(f"# New {number}\n\nLamp number {number}.")
                build_index(writer)
    finally:
        done.set()
        for reader in readers:
            reader.join(60)
    assert wrong == []
    assert not any(reader.is_alive() for reader in readers)
    assert seen <= set(range(1, 10))
    assert seen
