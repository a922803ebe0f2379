"""The SQLite index files: whole or absent, gone without a trace, immutable while read."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy
import pytest

from slipway.domain.document import Chunk, Document
from slipway.domain.errors import FileBroken, NotFound
from slipway.domain.ids import ContentHash, hash_text
from slipway.vectors.sqlite import SQLiteIndexes, match_any_word

VERSION = hash_text("a version")
SECRET = "the quick kangaroo owes 4711 crowns"


def write(store: SQLiteIndexes, version: ContentHash = VERSION, *, text: str = SECRET, times: int = 1) -> None:
    made = [
        Document(id=f"{place}.txt", title="", text=f"{text} {place}", source="", content_hash=hash_text(str(place)))
        for place in range(times)
    ]
    cut = [Chunk(document=one.id, start=0, end=len(one.text), text=one.text) for one in made]
    vectors = numpy.full((times, 8), 0.35355338, dtype=numpy.float32)
    store.write(version, documents=made, chunks=cut, vectors=vectors)


def test_a_removed_version_leaves_no_byte_in_any_file(tmp_path: Path) -> None:
    store = SQLiteIndexes(tmp_path)
    write(store)
    write(store, hash_text("other"), text="nothing of the kind")
    vector = numpy.full(8, 0.35355338, dtype="<f4").tobytes()
    assert any(SECRET.encode() in path.read_bytes() and vector in path.read_bytes() for path in tmp_path.iterdir())
    store.open(VERSION).lexical("kangaroo", limit=1)
    store.remove(VERSION)
    assert [path.name for path in tmp_path.iterdir()] == [f"{hash_text('other')}.sqlite"]
    assert not any(b"kangaroo" in path.read_bytes() for path in tmp_path.iterdir())


def test_no_side_files_appear_while_a_version_is_read(tmp_path: Path) -> None:
    store = SQLiteIndexes(tmp_path)
    write(store)
    before = (tmp_path / f"{VERSION}.sqlite").read_bytes()
    store.open(VERSION).lexical("kangaroo", limit=1)
    store.open(VERSION).frequencies(["kangaroo"])
    assert [path.name for path in tmp_path.iterdir()] == [f"{VERSION}.sqlite"]
    assert (tmp_path / f"{VERSION}.sqlite").read_bytes() == before


def test_a_half_built_file_is_no_version(tmp_path: Path) -> None:
    (tmp_path / f"{VERSION}.99.1.half").write_bytes(b"half")
    store = SQLiteIndexes(tmp_path)
    assert store.versions() == []
    with pytest.raises(NotFound):
        store.open(VERSION)


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a thing of Unix")
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    script = """
        import resource, signal, sys
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        from test_sqlite import SQLiteIndexes, write
        from slipway.domain.errors import DiskFull
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            write(SQLiteIndexes(Path(sys.argv[1])), times=5000)
        except DiskFull as full:
            print(full)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert "the disk is full. Free some space and run the command again." in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"not a database at all, but text that is long enough to be one" * 40, id="no database"),
        pytest.param(b"", id="an empty file"),
    ],
)
def test_a_broken_file_is_named_with_the_next_step(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"{VERSION}.sqlite").write_bytes(content)
    with pytest.raises(FileBroken, match="Build it again: slipway retrieve build"):
        SQLiteIndexes(tmp_path).open(VERSION)


def test_a_closed_reader_opens_itself_again(tmp_path: Path) -> None:
    store = SQLiteIndexes(tmp_path)
    write(store)
    reader = store.open(VERSION)
    reader.close()
    assert len(reader.lexical("kangaroo", limit=3)) == 1


QUERIES = [
    pytest.param("What does the lamp cost?", '"lamp" OR "cost"', id="stop words go"),
    pytest.param("lamp lamp LAMP", '"lamp"', id="a word counts once"),
    pytest.param("who is it", '"who" OR "is" OR "it"', id="of stop words only, they all count"),
    pytest.param("…", "", id="no word"),
]


@pytest.mark.parametrize(("question", "query"), QUERIES)
def test_a_question_becomes_a_query_for_any_of_its_words(question: str, query: str) -> None:
    assert match_any_word(question) == query
