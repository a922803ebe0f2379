"""Keeps each index version in one immutable SQLite file: text, full-text index and vectors."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from slipway.domain.document import Chunk, Document
from slipway.domain.errors import DiskFull, FileBroken, NotFound
from slipway.domain.ids import ContentHash, SubjectId
from slipway.domain.index import Similarity
from slipway.embedders.base import Vectors
from slipway.text.overlap import space_out, words
from slipway.text.similarity import similarities
from slipway.text.stems import stem
from slipway.vectors.base import (
    AROUND_WEIGHT,
    PHRASE_WEIGHT,
    Candidate,
    IndexReader,
    asked_pairs,
    asked_words,
    index_stores,
    text_around,
)
from slipway.wire.neighbours import Neighbours, NeighboursUnusable, can_build, read_neighbours, write_neighbours

FORMAT = 3
ROWS_PER_BLOB = 4096
APPROXIMATE_FROM = 200_000
"""Vectors from which a graph of neighbours is worth its making."""
NARROW = 0.1
"""Share of the vectors below which exact search of those that a filter leaves is cheaper than the graph."""
RESCORED = 40
"""Vectors more than wanted that the graph gives, so that those it rounded out of order come back."""
log = logging.getLogger("slipway.vectors")
VERSION_FILE = re.compile(r"[0-9a-f]{64}\.sqlite")

SCHEMA = """
create table facts (format integer not null, dimensions integer not null, chunks integer not null);
create table documents (
    number integer primary key, id text not null unique, title text not null, text text not null, source text not null,
    content_hash text not null, subject text, metadata text not null
);
create table chunks (
    number integer primary key, document integer not null, start integer not null, "end" integer not null,
    heading text not null
);
create index chunks_of_document on chunks (document);
create table vectors (first integer primary key, rows blob not null);
create virtual table words using fts5(
    heading, text, around, content='', columnsize=1, tokenize='porter unicode61 remove_diacritics 2'
);
create table terms (term text primary key, chunks integer not null) without rowid;
"""
# BM25 over all columns: text under a heading is often about what the heading names, and what a chunk is about is often
# said beside it. A word of another column counts towards the same term frequency.
RANK = f"bm25(words, 1.0, 1.0, {AROUND_WEIGHT})"
MATCH = f"""
select rowid, -{RANK} as score from words where words match :query
order by {RANK}, rowid limit :limit
"""
MATCH_INSIDE = f"""
select rowid, -{RANK} as score from words where words match :query
and rowid in (select value from json_each(:chunks))
order by {RANK}, rowid limit :limit
"""


@index_stores.register("sqlite")
@dataclass(frozen=True)
class SQLiteIndexes:
    """Keeps each index version in one SQLite file that is never changed: FTS5 for words, exact search for vectors.

    From `approximate_from` vectors on, where faiss is installed, a graph of neighbours beside it takes the place of
    exact search; it is never the source of a vector or a score, and can be made again.
    """

    folder: Path
    approximate_from: int = APPROXIMATE_FROM
    """0 is never."""
    _open: dict[ContentHash, SQLiteReader] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.approximate_from < 0:
            raise ValueError("`approximate_from` is 0 (never) or a number of vectors")

    def write(
        self, version: ContentHash, *, documents: Iterable[Document], chunks: Sequence[Chunk], vectors: Vectors | None
    ) -> None:
        path = self._path(version)
        if path.exists():
            self.mend(version)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        half_built = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.half")
        try:
            with _disk_errors(path):
                _write_file(half_built, documents, chunks, vectors)
                _sync(half_built)
                os.replace(half_built, path)
                _sync(self.folder)
        finally:
            half_built.unlink(missing_ok=True)
        self.mend(version)

    def mend(self, version: ContentHash) -> None:
        """Makes the graph of neighbours where the version should have one and has none that can be used.

        A version is whole without it, so what fails here is told and costs speed only.
        """
        if not self.approximate_from or not can_build() or not self._path(version).exists():
            return
        reader = SQLiteReader(self._path(version), approximate_from=self.approximate_from)
        try:
            reader.mend()
        except OSError as wrong:
            log.warning("The graph of neighbours of index version %s was not written: %s.", version[:12], wrong)
        finally:
            reader.close()

    def open(self, version: ContentHash) -> IndexReader:
        with self._lock:
            reader = self._open.get(version)
            if reader is None:
                path = self._path(version)
                if not path.exists():
                    raise NotFound("index file", version[:12], next_step="Build it: slipway retrieve build")
                reader = self._open[version] = SQLiteReader(path, approximate_from=self.approximate_from)
            return reader

    def versions(self) -> list[ContentHash]:
        if not self.folder.is_dir():
            return []
        return sorted(ContentHash(path.stem) for path in self.folder.iterdir() if VERSION_FILE.fullmatch(path.name))

    def remove(self, version: ContentHash) -> None:
        with self._lock:
            reader = self._open.pop(version, None)
        if reader is not None:
            reader.close()
        # The graph holds rounded vectors, so it goes first: what is left of a stopped removal is still a version.
        graph = graph_path(self._path(version))
        for path in (graph, *self.folder.glob(f"{graph.stem}.*.half"), self._path(version)):
            path.unlink(missing_ok=True)

    def about(self, subject: SubjectId) -> list[ContentHash]:
        return [version for version in self.versions() if subject in self._subjects(version)]

    def close(self) -> None:
        with self._lock:
            readers = list(self._open.values())
            self._open.clear()
        for reader in readers:
            reader.close()

    def _subjects(self, version: ContentHash) -> set[str]:
        connection = _connect(self._path(version))
        try:
            rows = connection.execute("select distinct subject from documents where subject is not null")
            return {subject for (subject,) in rows}
        finally:
            connection.close()

    def _path(self, version: ContentHash) -> Path:
        return self.folder / f"{version}.sqlite"


class SQLiteReader:
    """One version, open for any number of threads. The matrix of vectors is read at the first dense search."""

    def __init__(self, path: Path, *, approximate_from: int = 0) -> None:
        self._path = path
        self._approximate_from = approximate_from
        self._graph: Neighbours | None = None
        self._graph_looked_for = False
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._matrix: Vectors | None = None
        self._texts: dict[int, str] = {}
        self._metadata: dict[str, dict[str, str]] | None = None
        try:
            format_, self._dimensions, self._chunk_count = self._rows("select format, dimensions, chunks from facts")[0]
            documents = self._rows("select number, id, title from documents order by number")
        except (sqlite3.DatabaseError, IndexError) as wrong:
            self.close()
            raise FileBroken(
                path, f"it is no index ({wrong})", next_step="Build it again: slipway retrieve build"
            ) from None
        if format_ != FORMAT:
            self.close()
            raise FileBroken(path, f"it has format {format_}", next_step="Build it again: slipway retrieve build")
        self._ids: dict[int, str] = {number: id for number, id, _ in documents}
        self._numbers = {id: number for number, id in self._ids.items()}

    @property
    def chunk_count(self) -> int:
        return int(self._chunk_count)

    @property
    def dimensions(self) -> int:
        return int(self._dimensions)

    def document_ids(self) -> list[str]:
        return list(self._numbers)

    def lexical(
        self,
        question: str,
        *,
        limit: int,
        documents: Sequence[str] | None = None,
        chunks: Sequence[int] | None = None,
    ) -> list[Candidate]:
        numbers = self._inside(documents, chunks)
        inside = None if numbers is None else json.dumps(numbers.tolist())
        found = self._match(match_any_word(question), limit, inside)
        pairs = self._match(match_any_pair(question), limit, inside)
        if pairs:
            found = {chunk: score + PHRASE_WEIGHT * pairs.get(chunk, 0.0) for chunk, score in found.items()}
        order = sorted(found.items(), key=lambda item: (-item[1], item[0]))
        return [Candidate(chunk, score) for chunk, score in order]

    def _match(self, query: str, limit: int, inside: str | None) -> dict[int, float]:
        if not query or limit < 1:
            return {}
        if inside is None:
            return dict(self._rows(MATCH, {"query": query, "limit": limit}))
        return dict(self._rows(MATCH_INSIDE, {"query": query, "limit": limit, "chunks": inside}))

    def frequencies(self, stems: Sequence[str]) -> list[int]:
        rows = self._rows(
            "select term, chunks from terms where term in (select value from json_each(?))",
            (json.dumps(list(stems)),),
        )
        found = dict(rows)
        return [found.get(stem, 0) for stem in stems]

    def dense(
        self,
        vector: Vectors,
        *,
        similarity: Similarity,
        limit: int,
        documents: Sequence[str] | None = None,
        chunks: Sequence[int] | None = None,
    ) -> list[Candidate]:
        if not self.dimensions or limit < 1:
            return []
        numbers = self._inside(documents, chunks)
        matrix = self._vectors()
        near = self._near(matrix, vector, limit, numbers)
        if near is not None:
            numbers = near
        # To score all is cheaper than to copy many rows first.
        if numbers is not None and len(numbers) < len(matrix) / 4:
            scores = similarities(matrix[numbers], vector, kind=similarity)
        else:
            scores = similarities(matrix, vector, kind=similarity)
            scores = scores if numbers is None else scores[numbers]
        best = numpy.argpartition(-scores, limit)[:limit] if limit < len(scores) else numpy.arange(len(scores))
        # Equal scores keep the order of the chunks, so that the same search gives the same list everywhere.
        best = best[numpy.lexsort((best, -scores[best]))]
        return [Candidate(int(place if numbers is None else numbers[place]), float(scores[place])) for place in best]

    def _near(
        self, matrix: Vectors, vector: Vectors, limit: int, only: numpy.typing.NDArray[numpy.int64] | None
    ) -> numpy.typing.NDArray[numpy.int64] | None:
        """Numbers of the chunks that the graph of neighbours finds, ascending; None where exact search is to be made.

        Vectors are of unit length, so the largest product is the nearest by every similarity.
        """
        if only is not None and len(only) < NARROW * len(matrix):
            return None
        graph = self._neighbours(matrix)
        wanted = limit + RESCORED
        if graph is None or 4 * wanted > len(matrix):
            return None
        found = graph.near(vector, wanted, only=only)
        return numpy.sort(found) if len(found) >= limit else None

    def _neighbours(self, matrix: Vectors) -> Neighbours | None:
        """The graph, read once; None where there is none or it cannot be used."""
        if not self._approximate_from or len(matrix) < self._approximate_from or not can_build():
            return None
        with self._lock:
            if not self._graph_looked_for:
                self._graph_looked_for = True
                path = graph_path(self._path)
                try:
                    self._graph = read_neighbours(path, matrix, version=self._path.stem) if path.exists() else None
                except NeighboursUnusable as wrong:
                    log.warning(
                        "%s is not used: %s. Search is exact and slower until it is made again: slipway retrieve build",
                        path,
                        wrong,
                    )
            return self._graph

    def mend(self) -> None:
        """Writes the graph of neighbours where one is due and none can be used. Raises `OSError`."""
        if not self.dimensions or self.chunk_count < self._approximate_from:
            return
        matrix = self._vectors()
        if self._neighbours(matrix) is None:
            write_neighbours(graph_path(self._path), matrix, version=self._path.stem)

    def similarities(self, vector: Vectors, chunks: Sequence[int], *, similarity: Similarity) -> list[float]:
        if not self.dimensions:
            return [0.0] * len(chunks)
        rows = self._vectors()[numpy.asarray(chunks, dtype=numpy.int64)]
        return [float(score) for score in similarities(rows, vector, kind=similarity)]

    def vectors(self, chunks: Sequence[int]) -> Vectors:
        rows: Vectors = self._vectors()[numpy.asarray(chunks, dtype=numpy.int64)]
        return rows

    def chunks(self, numbers: Sequence[int]) -> list[Chunk]:
        rows = self._rows(
            'select number, document, start, "end", heading from chunks '
            "where number in (select value from json_each(:numbers))",
            {"numbers": json.dumps([int(number) for number in numbers])},
        )
        found = {
            number: Chunk(
                document=self._ids[document],
                start=start,
                end=end,
                text=self._text(document)[start:end],
                heading=heading,
            )
            for number, document, start, end, heading in rows
        }
        return [found[number] for number in numbers]

    def chunk_numbers(self, document: str) -> list[int]:
        number = self._numbers.get(document)
        return [row[0] for row in self._rows("select number from chunks where document = ? order by number", (number,))]

    def chunk_numbers_in(self, documents: Sequence[str]) -> list[int]:
        numbers: list[int] = self._numbers_in(documents).tolist()
        return numbers

    def metadata(self) -> Mapping[str, Mapping[str, str]]:
        if self._metadata is None:
            rows = self._rows("select id, metadata from documents order by number")
            self._metadata = {id: json.loads(metadata) for id, metadata in rows}
        return self._metadata

    def document(self, id: str) -> Document:
        rows = self._rows(
            "select id, title, text, source, content_hash, subject, metadata from documents where id = ?", (id,)
        )
        if not rows:
            raise NotFound("document", id, known=list(self._numbers))
        id, title, text, source, content_hash, subject, metadata = rows[0]
        return Document(
            id=id,
            title=title,
            text=text,
            source=source,
            content_hash=content_hash,
            subject=subject,
            metadata=json.loads(metadata),
        )

    def close(self) -> None:
        with self._lock:
            connections, self._connections = self._connections, []
            self._matrix = None
            self._graph, self._graph_looked_for = None, False
            self._texts = {}
            self._metadata = None
        for connection in connections:
            connection.close()

    def _rows(self, sql: str, values: Any = ()) -> list[Any]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or connection not in self._connections:
            connection = self._local.connection = _connect(self._path)
            with self._lock:
                self._connections.append(connection)
        return connection.execute(sql, values).fetchall()

    def _text(self, document: int) -> str:
        text = self._texts.get(document)
        if text is None:
            text = self._rows("select text from documents where number = ?", (document,))[0][0]
            if len(self._texts) >= 256:
                self._texts.clear()
            self._texts[document] = text
        return text

    def _vectors(self) -> Vectors:
        with self._lock:
            matrix = self._matrix
        if matrix is None:
            blobs = [row[0] for row in self._rows("select rows from vectors order by first")]
            matrix = numpy.frombuffer(b"".join(blobs), dtype="<f4").reshape(-1, self.dimensions)
            with self._lock:
                self._matrix = matrix
        return matrix

    def _inside(
        self, documents: Sequence[str] | None, chunks: Sequence[int] | None
    ) -> numpy.typing.NDArray[numpy.int64] | None:
        """Numbers of the chunks that a search is kept to, ascending; None for all of them."""
        named = None if documents is None else self._numbers_in(documents)
        if chunks is None:
            return named
        numbers = numpy.unique(numpy.asarray(chunks, dtype=numpy.int64))
        return numbers if named is None else numpy.intersect1d(named, numbers, assume_unique=True)

    def _numbers_in(self, documents: Sequence[str]) -> numpy.typing.NDArray[numpy.int64]:
        rows = self._rows(
            "select number from chunks where document in (select value from json_each(?)) order by number",
            (json.dumps([self._numbers[id] for id in documents if id in self._numbers]),),
        )
        return numpy.asarray([row[0] for row in rows], dtype=numpy.int64)


def graph_path(path: Path) -> Path:
    """Where the graph of neighbours of a version lies."""
    return path.with_suffix(".neighbours")


def match_any_word(question: str) -> str:
    """The FTS5 query that finds any of the question's content words; of a question of stop words only, all of them."""
    return " OR ".join(f'"{word}"' for word in asked_words(question))


def match_any_pair(question: str) -> str:
    """The FTS5 query that finds two content words side by side; empty where no two stand so in the question."""
    return " OR ".join(f'"{first} {second}"' for first, second in asked_pairs(question))


def _write_file(path: Path, documents: Iterable[Document], chunks: Sequence[Chunk], vectors: Vectors | None) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # The file is built under another name and thrown away on any failure, so no journal is needed.
        connection.execute("pragma journal_mode = off")
        connection.execute("pragma synchronous = off")
        connection.executescript(SCHEMA)
        connection.execute("begin")
        numbers: dict[str, int] = {}
        titles: dict[str, str] = {}
        for number, document in enumerate(documents):
            numbers[document.id] = number
            titles[document.id] = document.title
            connection.execute("insert into documents values (?, ?, ?, ?, ?, ?, ?, ?)", _document_row(number, document))
        connection.executemany(
            "insert into chunks values (?, ?, ?, ?, ?)",
            (
                (number, numbers[chunk.document], chunk.start, chunk.end, chunk.heading)
                for number, chunk in enumerate(chunks)
            ),
        )
        headings = [_heading_words(titles[chunk.document], chunk.heading) for chunk in chunks]
        connection.executemany(
            "insert into words (rowid, heading, text, around) values (?, ?, ?, ?)",
            (
                (number, *map(space_out, (headings[number], chunk.text, text_around(chunks, number))))
                for number, chunk in enumerate(chunks)
            ),
        )
        connection.executemany("insert into vectors values (?, ?)", _blobs(vectors))
        dimensions = 0 if vectors is None else vectors.shape[1]
        connection.execute("insert into facts values (?, ?, ?)", (FORMAT, dimensions, len(chunks)))
        connection.execute("insert into words (words) values ('optimize')")
        # Counted by our own words and not by the index's, which cuts `1,000` in two: a question is taken apart alike.
        terms: Counter[str] = Counter()
        for heading, chunk in zip(headings, chunks, strict=True):
            terms.update({stem(word) for word in words(f"{heading} {chunk.text}")})
        connection.executemany("insert into terms values (?, ?)", terms.items())
        connection.execute("commit")
    finally:
        connection.close()


def _document_row(number: int, document: Document) -> tuple[Any, ...]:
    return (
        number,
        document.id,
        document.title,
        document.text,
        document.source,
        document.content_hash,
        document.subject,
        json.dumps(document.metadata, ensure_ascii=False, sort_keys=True),
    )


def _heading_words(title: str, heading: str) -> str:
    """The title once, then the headings below it."""
    return heading if title and heading.startswith(title) else f"{title} {heading}".strip()


def _blobs(vectors: Vectors | None) -> Iterator[tuple[int, bytes]]:
    if vectors is None:
        return
    for first in range(0, len(vectors), ROWS_PER_BLOB):
        yield first, numpy.ascontiguousarray(vectors[first : first + ROWS_PER_BLOB], dtype="<f4").tobytes()


def _connect(path: Path) -> sqlite3.Connection:
    # `immutable` takes no locks and writes no side files: the file never changes once it has its name.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turns the two ways in which a full disk shows into `DiskFull`."""
    try:
        yield
    except sqlite3.OperationalError as wrong:
        if wrong.sqlite_errorcode in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}:
            raise DiskFull(path) from wrong
        raise
    except OSError as wrong:
        if wrong.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise DiskFull(path) from wrong
        raise
