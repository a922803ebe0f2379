"""Keeps each index version in a Postgres schema of its own: documents, BM25 postings and pgvector."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy
import sqlalchemy
from sqlalchemy import Connection, Engine, text

from slipway.domain.document import Chunk, Document
from slipway.domain.errors import DiskFull, NotFound, PackageMissing, StoreUnavailable
from slipway.domain.ids import ContentHash, SubjectId
from slipway.domain.index import Similarity
from slipway.embedders.base import Vectors
from slipway.text.overlap import words
from slipway.text.stems import stem
from slipway.text.stop_words import STOP_WORDS
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

VERSIONS = """
create table if not exists slipway_index_version (
    version text primary key, dimensions integer not null, chunks integer not null, words double precision not null,
    subjects text[] not null
)
"""
TABLES = """
create table {schema}.document (
    number integer primary key, id text not null unique, title text not null, text text not null, source text not null,
    content_hash text not null, subject text, metadata text not null
);
create table {schema}.chunk (
    number integer primary key, document integer not null, start integer not null, "end" integer not null,
    heading text not null, vector vector
);
create table {schema}.word (
    word text not null, chunk integer not null, own boolean not null, times real not null, length integer not null
);
"""
INDEXES = """
create index on {schema}.chunk (document);
create index on {schema}.word (word) include (chunk, own, times, length);
"""
# Okapi BM25 with k1 1.2 and b 0.75, as the SQLite store has it; Postgres' own ts_rank knows no document frequency.
MATCH = """
select word.chunk, sum(asked.idf * word.times * 2.2 / (word.times + 1.2 * (0.25 + 0.75 * word.length / :mean))) as score
from {schema}.word join unnest(cast(:words as text[]), cast(:idfs as float8[])) as asked (word, idf) using (word)
{inside} group by word.chunk order by score desc, word.chunk limit :limit
"""
IN_DOCUMENTS = (
    "join {schema}.chunk on chunk.number = word.chunk and chunk.document = any(cast(:documents as integer[]))"
)
IN_CHUNKS = "join unnest(cast(:chunks as integer[])) as kept (number) on kept.number = word.chunk"
DISTANCES: dict[Similarity, tuple[str, str]] = {
    "cosine": ("<=>", "1 - (vector <=> cast(:vector as vector))"),
    "dot": ("<#>", "-(vector <#> cast(:vector as vector))"),
    "euclid": ("<->", "1 / (1 + (vector <-> cast(:vector as vector)))"),
}


@index_stores.register("postgres")
@dataclass(frozen=True)
class PostgresIndexes:
    """Keeps each index version in a Postgres schema of its own; needs pgvector where an embedder is used."""

    url: str
    _engine: list[Engine] = field(default_factory=list, init=False, repr=False, compare=False)
    _open: dict[ContentHash, PostgresReader] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    def write(
        self, version: ContentHash, *, documents: Iterable[Document], chunks: Sequence[Chunk], vectors: Vectors | None
    ) -> None:
        schema = schema_of(version)
        with self._begin() as connection:
            # Two writers of the same version would collide on its schema: the second waits and finds it done.
            connection.execute(text("select pg_advisory_xact_lock(hashtext(:name))"), {"name": schema})
            if connection.execute(
                text("select 1 from slipway_index_version where version = :v"), {"v": version}
            ).first():
                return
            connection.execute(text(f"create schema {schema}"))
            tables = TABLES.format(schema=schema)
            connection.exec_driver_sql(
                tables if vectors is not None else tables.replace("vector vector", "vector text")
            )
            kept = list(documents)
            mean = _copy_all(connection, schema, kept, chunks, vectors)
            connection.exec_driver_sql(INDEXES.format(schema=schema))
            connection.execute(
                text("insert into slipway_index_version values (:version, :dimensions, :chunks, :words, :subjects)"),
                {
                    "version": version,
                    "dimensions": 0 if vectors is None else vectors.shape[1],
                    "chunks": len(chunks),
                    "words": mean,
                    "subjects": sorted({document.subject for document in kept if document.subject}),
                },
            )

    def open(self, version: ContentHash) -> IndexReader:
        with self._lock:
            if version not in self._open:
                with self._begin() as connection:
                    row = connection.execute(
                        text("select dimensions, chunks, words from slipway_index_version where version = :v"),
                        {"v": version},
                    ).first()
                if row is None:
                    raise NotFound("index file", version[:12], next_step="Build it: slipway retrieve build")
                self._open[version] = PostgresReader(self._connected(), schema_of(version), *row)
            return self._open[version]

    def versions(self) -> list[ContentHash]:
        with self._begin() as connection:
            rows = connection.execute(text("select version from slipway_index_version order by version"))
            return [ContentHash(version) for (version,) in rows]

    def remove(self, version: ContentHash) -> None:
        """Drops the schema, whose files go at once. What its writing left in the write-ahead log goes when Postgres
        recycles that log."""
        with self._lock:
            self._open.pop(version, None)
        with self._begin() as connection:
            connection.execute(text(f"drop schema if exists {schema_of(version)} cascade"))
            connection.execute(text("delete from slipway_index_version where version = :v"), {"v": version})
        with self._connected().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("vacuum full slipway_index_version"))

    def mend(self, version: ContentHash) -> None:
        """Nothing: Postgres looks after its own indexes."""

    def about(self, subject: SubjectId) -> list[ContentHash]:
        with self._begin() as connection:
            rows = connection.execute(
                text("select version from slipway_index_version where :subject = any(subjects) order by version"),
                {"subject": subject},
            )
            return [ContentHash(version) for (version,) in rows]

    def close(self) -> None:
        """Gives the connections back."""
        with self._lock:
            self._open.clear()
            while self._engine:
                self._engine.pop().dispose()

    def _connected(self) -> Engine:
        with self._lock:
            if not self._engine:
                self._engine.append(_connect(self.url))
            return self._engine[0]

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        try:
            with self._connected().begin() as connection:
                yield connection
        except sqlalchemy.exc.OperationalError as wrong:
            if "No space left" in str(wrong.orig):
                raise DiskFull("the index in Postgres") from wrong
            raise _unavailable(self.url, wrong) from wrong


class PostgresReader:
    """One version, open for any number of threads."""

    def __init__(self, engine: Engine, schema: str, dimensions: int, chunks: int, mean_words: float) -> None:
        self._engine, self._schema = engine, schema
        self._dimensions, self._chunk_count, self._mean_words = dimensions, chunks, mean_words
        self._ids: dict[int, str] = dict(self._rows("select number, id from {schema}.document order by number"))
        self._numbers = {id: number for number, id in self._ids.items()}
        self._metadata: dict[str, dict[str, str]] | None = None

    @property
    def chunk_count(self) -> int:
        return self._chunk_count

    @property
    def dimensions(self) -> int:
        return self._dimensions

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
        stems = list(dict.fromkeys(stem(word) for word in asked_words(question)))
        pairs = list(dict.fromkeys(f"{stem(a)} {stem(b)}" for a, b in asked_pairs(question)))
        asked = stems + pairs
        if not asked or limit < 1:
            return []
        total = self.chunk_count
        # Never below a millionth, so that a word in most chunks still counts a little (as in SQLite's bm25).
        idfs = [max(math.log((total - n + 0.5) / (n + 0.5)), 1e-6) for n in self._frequencies(asked, "")]
        idfs[len(stems) :] = [PHRASE_WEIGHT * idf for idf in idfs[len(stems) :]]
        values: dict[str, Any] = {"words": asked, "idfs": idfs, "mean": self._mean_words, "limit": limit}
        inside = []
        if documents is not None:
            inside.append(IN_DOCUMENTS)
            values["documents"] = self._numbers_of(documents)
        if chunks is not None:
            inside.append(IN_CHUNKS)
            values["chunks"] = sorted({int(chunk) for chunk in chunks})
        rows = self._rows(MATCH.replace("{inside}", " ".join(inside)), values)
        return [Candidate(int(chunk), float(score)) for chunk, score in rows]

    def frequencies(self, stems: Sequence[str]) -> list[int]:
        return self._frequencies(stems, "and own")

    def _frequencies(self, asked: Sequence[str], which: str) -> list[int]:
        counted = "select word, count(*) from {schema}.word where word = any(cast(:words as text[]))"
        rows = self._rows(f"{counted} {which} group by word", {"words": list(asked)})
        found = {word: int(count) for word, count in rows}
        return [found.get(word, 0) for word in asked]

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
        operator, score = DISTANCES[similarity]
        values: dict[str, Any] = {"vector": _literal(vector), "limit": limit}
        inside = "where true"
        if documents is not None:
            inside += " and document = any(cast(:documents as integer[]))"
            values["documents"] = self._numbers_of(documents)
        if chunks is not None:
            inside += " and number = any(cast(:chunks as integer[]))"
            values["chunks"] = [int(chunk) for chunk in chunks]
        rows = self._rows(
            f"select number, {score} from {{schema}}.chunk {inside} "
            f"order by vector {operator} cast(:vector as vector), number limit :limit",
            values,
        )
        return [Candidate(int(number), float(value)) for number, value in rows]

    def similarities(self, vector: Vectors, chunks: Sequence[int], *, similarity: Similarity) -> list[float]:
        if not self.dimensions:
            return [0.0] * len(chunks)
        rows = self._rows(
            f"select number, {DISTANCES[similarity][1]} from {{schema}}.chunk where number = any(:numbers)",
            {"vector": _literal(vector), "numbers": [int(chunk) for chunk in chunks]},
        )
        found = {number: float(value) for number, value in rows}
        return [found[chunk] for chunk in chunks]

    def vectors(self, chunks: Sequence[int]) -> Vectors:
        rows = self._rows(
            "select number, cast(vector as text) from {schema}.chunk where number = any(:numbers)",
            {"numbers": [int(chunk) for chunk in chunks]},
        )
        found = {number: json.loads(value) for number, value in rows}
        return numpy.asarray([found[chunk] for chunk in chunks], dtype=numpy.float32)

    def chunks(self, numbers: Sequence[int]) -> list[Chunk]:
        # Postgres counts characters from 1.
        rows = self._rows(
            'select chunk.number, document.id, start, "end", substr(text, start + 1, "end" - start), heading '
            "from {schema}.chunk join {schema}.document on document.number = chunk.document "
            "where chunk.number = any(:numbers)",
            {"numbers": [int(number) for number in numbers]},
        )
        found = {
            number: Chunk(document=document, start=start, end=end, text=piece, heading=heading)
            for number, document, start, end, piece, heading in rows
        }
        return [found[number] for number in numbers]

    def chunk_numbers(self, document: str) -> list[int]:
        rows = self._rows(
            "select number from {schema}.chunk where document = :document order by number",
            {"document": self._numbers.get(document, -1)},
        )
        return [number for (number,) in rows]

    def chunk_numbers_in(self, documents: Sequence[str]) -> list[int]:
        rows = self._rows(
            "select number from {schema}.chunk where document = any(cast(:documents as integer[])) order by number",
            {"documents": self._numbers_of(documents)},
        )
        return [number for (number,) in rows]

    def metadata(self) -> Mapping[str, Mapping[str, str]]:
        if self._metadata is None:
            rows = self._rows("select id, metadata from {schema}.document order by number")
            self._metadata = {id: json.loads(metadata) for id, metadata in rows}
        return self._metadata

    def document(self, id: str) -> Document:
        rows = self._rows(
            "select id, title, text, source, content_hash, subject, metadata from {schema}.document where id = :id",
            {"id": id},
        )
        if not rows:
            raise NotFound("document", id, known=list(self._numbers))
        id, title, body, source, content_hash, subject, metadata = rows[0]
        return Document(
            id=id,
            title=title,
            text=body,
            source=source,
            content_hash=content_hash,
            subject=subject,
            metadata=json.loads(metadata),
        )

    def close(self) -> None:
        """Nothing is held: connections belong to the store."""

    def _rows(self, sql: str, values: dict[str, Any] | None = None) -> list[Any]:
        try:
            with self._engine.connect() as connection:
                return list(connection.execute(text(sql.replace("{schema}", self._schema)), values or {}).all())
        except sqlalchemy.exc.ProgrammingError as wrong:
            if "does not exist" in str(wrong.orig):
                raise NotFound("index file", self._schema, next_step="Build it: slipway retrieve build") from wrong
            raise

    def _numbers_of(self, documents: Sequence[str]) -> list[int]:
        return [self._numbers[id] for id in documents if id in self._numbers]


def schema_of(version: ContentHash) -> str:
    """Name of the schema of a version; 32 hex digits of the hash keep it unique and short enough."""
    return f"slipway_index_{version[:32]}"


def _connect(url: str) -> Engine:
    url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        engine = sqlalchemy.create_engine(url, pool_size=5, max_overflow=5, pool_pre_ping=True)
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(hashtext('slipway_index_version'))"))
            connection.exec_driver_sql("create extension if not exists vector")
            connection.exec_driver_sql(VERSIONS)
    except ModuleNotFoundError as missing:
        raise PackageMissing("vector store 'postgres'", "psycopg", "pip install 'slipway[postgres]'") from missing
    except sqlalchemy.exc.DBAPIError as wrong:
        raise _unavailable(url, wrong) from wrong
    return engine


def _unavailable(url: str, wrong: sqlalchemy.exc.DBAPIError) -> StoreUnavailable:
    shown = sqlalchemy.make_url(url).render_as_string(hide_password=True)
    reason = str(wrong.orig).strip().split("\n")[0]
    return StoreUnavailable(
        shown, reason, next_step="Check that it runs and that its extension pgvector (0.8 or newer) is installed."
    )


def _copy_all(
    connection: Connection,
    schema: str,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    vectors: Vectors | None,
) -> float:
    """Fills the tables; returns the mean number of words of a chunk."""
    numbers = {document.id: number for number, document in enumerate(documents)}
    titles = {document.id: document.title for document in documents}
    counted = [
        _count(_headings(titles[chunk.document], chunk.heading), chunk.text, text_around(chunks, place))
        for place, chunk in enumerate(chunks)
    ]
    lengths = [length for _, _, length in counted]
    cursor: Any = connection.connection.cursor()
    with cursor.copy(f"copy {schema}.document from stdin") as copy:
        for document in documents:
            copy.write_row(_document_row(numbers[document.id], document))
    with cursor.copy(f"copy {schema}.chunk from stdin") as copy:
        for number, chunk in enumerate(chunks):
            vector = None if vectors is None else _literal(vectors[number])
            copy.write_row((number, numbers[chunk.document], chunk.start, chunk.end, chunk.heading, vector))
    with cursor.copy(f"copy {schema}.word from stdin") as copy:
        for number, (own, around, length) in enumerate(counted):
            for word in own.keys() | around.keys():
                times = own[word] + AROUND_WEIGHT * around[word]
                copy.write_row((word, number, own[word] > 0, times, length))
    cursor.close()
    return sum(lengths) / len(lengths) if lengths else 1.0


def _count(heading: str, text: str, around: str) -> tuple[Counter[str], Counter[str], int]:
    """Stems and pairs of stems of a chunk, those of the chunks around, and the number of words of all."""
    own: Counter[str] = Counter()
    beside: Counter[str] = Counter()
    length = 0
    for column, counter in ((heading, own), (text, own), (around, beside)):
        found = words(column)
        stems = [stem(word) for word in found]
        length += len(stems)
        counter.update(stems)
        counter.update(
            f"{stems[place]} {stems[place + 1]}"
            for place, pair in enumerate(pairwise(found))
            if not STOP_WORDS.intersection(pair)
        )
    return own, beside, length


def _document_row(number: int, document: Document) -> tuple[Any, ...]:
    return (
        number,
        document.id,
        document.title,
        document.text.replace("\x00", "\ufffd"),  # Postgres holds no NUL; the same length keeps every offset
        document.source,
        document.content_hash,
        document.subject,
        json.dumps(document.metadata, ensure_ascii=False, sort_keys=True),
    )


def _headings(title: str, heading: str) -> str:
    """The title once, then the headings below it."""
    return heading if title and heading.startswith(title) else f"{title} {heading}".strip()


def _literal(vector: Vectors) -> str:
    return "[" + ",".join(f"{value:.9g}" for value in vector) + "]"
