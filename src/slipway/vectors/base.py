"""What a store of index versions promises, and the registry of such stores."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from slipway.domain.document import Chunk, Document
from slipway.domain.ids import ContentHash, SubjectId
from slipway.domain.index import Similarity
from slipway.embedders.base import Vectors
from slipway.plugins import Registry
from slipway.text import overlap
from slipway.text.overlap import words
from slipway.text.stop_words import stop_words_of

AROUND_WEIGHT = 0.25
"""How much a word counts that stands in the chunk before or behind, not in the chunk itself."""
PHRASE_WEIGHT = 0.2
"""How much two words that stand side by side, as in the question, count beside the words alone."""


class Candidate(NamedTuple):
    """A chunk that one leg of the search found. `score` is raw: BM25 (higher is better) or similarity."""

    chunk: int
    score: float


class IndexReader(Protocol):
    """One immutable index version, open for searching. Chunks are numbered from 0."""

    @property
    def chunk_count(self) -> int: ...

    @property
    def dimensions(self) -> int:
        """0 when the version has no vectors."""
        ...

    def lexical(
        self,
        question: str,
        *,
        limit: int,
        documents: Sequence[str] | None = None,
        chunks: Sequence[int] | None = None,
    ) -> list[Candidate]:
        """By BM25 over headings, text and (with little weight) the chunks around, and over pairs of words.

        `documents` and `chunks` each keep the search to those named, where they are given.
        """
        ...

    def frequencies(self, stems: Sequence[str]) -> list[int]:
        """In how many chunks (text or headings) each stem stands."""
        ...

    def dense(
        self,
        vector: Vectors,
        *,
        similarity: Similarity,
        limit: int,
        documents: Sequence[str] | None = None,
        chunks: Sequence[int] | None = None,
    ) -> list[Candidate]:
        """By exact similarity; kept to documents and chunks as the lexical leg is."""
        ...

    def similarities(self, vector: Vectors, chunks: Sequence[int], *, similarity: Similarity) -> list[float]:
        """Scores of the named chunks, so that each leg can score what the other found."""
        ...

    def vectors(self, chunks: Sequence[int]) -> Vectors:
        """Vectors of the named chunks, so that the next version need not embed the same text again."""
        ...

    def chunks(self, numbers: Sequence[int]) -> list[Chunk]: ...

    def chunk_numbers(self, document: str) -> list[int]:
        """The chunks of one document in reading order; none for a document that is not there."""
        ...

    def chunk_numbers_in(self, documents: Sequence[str]) -> list[int]:
        """The chunks of all these documents, ascending; a document that is not there has none."""
        ...

    def metadata(self) -> Mapping[str, Mapping[str, str]]:
        """What every document says about itself, by its id."""
        ...

    def document_ids(self) -> list[str]: ...

    def document(self, id: str) -> Document:
        """Raises `NotFound`."""
        ...

    def close(self) -> None: ...


class IndexStore(Protocol):
    """Keeps index versions by hash. A version appears whole or not at all, and its removal leaves no byte behind."""

    def write(
        self, version: ContentHash, *, documents: Iterable[Document], chunks: Sequence[Chunk], vectors: Vectors | None
    ) -> None: ...

    def open(self, version: ContentHash) -> IndexReader: ...

    def versions(self) -> list[ContentHash]: ...

    def remove(self, version: ContentHash) -> None: ...

    def about(self, subject: SubjectId) -> list[ContentHash]:
        """Versions that hold documents about this person."""
        ...

    def mend(self, version: ContentHash) -> None:
        """Makes again what only searches faster, where it is due and missing or broken; mostly there is nothing."""
        ...

    def close(self) -> None:
        """Gives files and connections back; a later call opens them again."""
        ...


def asked_words(question: str) -> list[str]:
    """The question's content words, each once; of a question of stop words only, all of them."""
    return list(dict.fromkeys(overlap.asked_words(question) or words(question)))


def asked_pairs(question: str) -> list[tuple[str, str]]:
    """Content words that stand side by side, each pair once."""
    found = words(question)
    stop_words = stop_words_of(tuple(found))
    return list(dict.fromkeys(pair for pair in pairwise(found) if not stop_words.intersection(pair)))


def text_around(chunks: Sequence[Chunk], place: int) -> str:
    """The text of the neighbours in the same document that the chunk itself does not hold. Chunks are in order."""
    chunk = chunks[place]
    before = chunks[place - 1] if place else None
    behind = chunks[place + 1] if place + 1 < len(chunks) else None
    pieces = []
    if before is not None and before.document == chunk.document:
        pieces.append(before.text[: max(0, chunk.start - before.start)])
    if behind is not None and behind.document == chunk.document:
        pieces.append(behind.text[max(0, chunk.end - behind.start) :])
    return "\n".join(pieces)


index_stores: Registry[IndexStore] = Registry("vector store", package="slipway.vectors")
