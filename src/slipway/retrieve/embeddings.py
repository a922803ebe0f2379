"""Keeps embeddings by embedder and text, so that no text is embedded twice and a stopped build resumes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy

from slipway.domain.errors import DiskFull
from slipway.domain.ids import hash_text
from slipway.embedders.base import Embedder, Vectors
from slipway.text.markdown import plain_text

FILE_NAME = "embeddings.db"
BATCH = 128
# `document` is the content hash of the document that a text was cut from, however it was cut.
SCHEMA = """
create table if not exists embeddings (
    text_hash text not null, embedder text not null, document text not null, vector blob not null,
    primary key (text_hash, embedder)
) without rowid;
create index if not exists embeddings_of_document on embeddings (document);
"""


class Embeddings:
    """The cache of one application: a small SQLite file whose deleted rows leave no bytes."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._path = state / FILE_NAME
        self._connection = sqlite3.connect(self._path, timeout=30)
        self._connection.execute("pragma secure_delete = on")
        self._connection.executescript(SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def embed(
        self,
        embedder: Embedder,
        texts: Sequence[str],
        *,
        documents: Sequence[str] = (),
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Vectors:
        """Shape (texts, dimensions). Each batch is kept as soon as it is done. Raises `DiskFull`.

        `documents` are the content hashes of the documents that the texts were cut from, one for each text.
        """
        hashes = [hash_text(text) for text in texts]
        owners: dict[str, str] = dict(zip(hashes, documents, strict=True)) if documents else {}
        vectors = numpy.zeros((len(texts), embedder.dimensions), dtype=numpy.float32)
        known = self._known(embedder.id, set(hashes))
        missing: dict[str, str] = {}
        for place, (text_hash, text) in enumerate(zip(hashes, texts, strict=True)):
            if text_hash in known:
                vectors[place] = known[text_hash]
            else:
                missing[text_hash] = text
        # Texts of like length share a batch, so that little is padded.
        waiting = sorted(missing, key=lambda text_hash: len(missing[text_hash]))
        for first in range(0, len(waiting), BATCH):
            batch = waiting[first : first + BATCH]
            fresh = embedder.embed([missing[text_hash] for text_hash in batch])
            self._keep(embedder.id, batch, fresh, owners)
            known |= dict(zip(batch, fresh, strict=True))
            if on_progress:
                on_progress(len(texts) - len(waiting) + min(first + BATCH, len(waiting)), len(texts))
        for place, text_hash in enumerate(hashes):
            if text_hash in missing:
                vectors[place] = known[text_hash]
        return vectors

    def forget(self, texts: Iterable[str]) -> int:
        """Removes the embeddings of these texts under every embedder; returns how many there were.

        A text is also looked for as it is embedded, without Markdown's marks.
        """
        hashes: set[str] = {hash_text(form) for text in texts for form in (text, plain_text(text))}
        return self._delete("delete from embeddings where text_hash = ?", hashes)

    def forget_documents(self, content_hashes: Iterable[str]) -> int:
        """Removes every embedding that was made of a piece of these documents, whatever the chunker was."""
        return self._delete("delete from embeddings where document = ?", set(content_hashes))

    def _delete(self, sql: str, keys: set[str]) -> int:
        with self._connection:
            return self._connection.executemany(sql, ((key,) for key in sorted(keys))).rowcount

    def _known(self, embedder: str, hashes: set[str]) -> dict[str, Vectors]:
        found: dict[str, Vectors] = {}
        wanted = sorted(hashes)
        for first in range(0, len(wanted), 500):
            some = wanted[first : first + 500]
            marks = ", ".join("?" * len(some))
            rows = self._connection.execute(
                f"select text_hash, vector from embeddings where embedder = ? and text_hash in ({marks})",
                (embedder, *some),
            )
            found |= {text_hash: numpy.frombuffer(vector, dtype="<f4") for text_hash, vector in rows}
        return found

    def _keep(self, embedder: str, hashes: Sequence[str], vectors: Vectors, owners: Mapping[str, str]) -> None:
        rows = zip(hashes, vectors, strict=True)
        try:
            with self._connection:
                self._connection.executemany(
                    "insert or replace into embeddings values (?, ?, ?, ?)",
                    (
                        (text_hash, embedder, owners.get(text_hash, ""), vector.astype("<f4").tobytes())
                        for text_hash, vector in rows
                    ),
                )
        except sqlite3.OperationalError as wrong:
            if wrong.sqlite_errorcode in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}:
                raise DiskFull(self._path) from wrong
            raise


def forget_texts(state: Path, texts: Iterable[str]) -> int:
    """Removes the embeddings of these texts from the cache in `state`; used when a document or person is erased."""
    if not (state / FILE_NAME).exists():
        return 0
    with Embeddings(state) as kept:
        return kept.forget(texts)


def forget_documents(state: Path, content_hashes: Iterable[str]) -> int:
    """Removes from the cache in `state` every embedding that was made of a piece of these documents."""
    if not (state / FILE_NAME).exists():
        return 0
    with Embeddings(state) as kept:
        return kept.forget_documents(content_hashes)
