"""Cuts at every heading, so that a chunk is one section; longer sections are cut further."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from slipway.domain.document import Chunk, Document
from slipway.retrieve.chunkers.base import chunkers, chunks_from, headings_of
from slipway.retrieve.chunkers.recursive import Recursive
from slipway.text.markdown import body_start
from slipway.text.sentences import Span
from slipway.text.tokens import TokenCounter


@chunkers.register("headings")
@dataclass(frozen=True)
class Headings:
    """Cuts at every heading; a section longer than `size` tokens is cut further, its pieces share `overlap` tokens."""

    size: int = 400
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.size < 8 or not 0 <= self.overlap < self.size:
            raise ValueError("size must be at least 8 tokens, and overlap smaller than size")

    def cut(self, document: Document, tokens: TokenCounter) -> Iterator[Chunk]:
        headings = headings_of(document)
        start = body_start(document.text) if document.metadata.get("format") == "markdown" else 0
        cuts = [start, *(heading.start for heading in headings if heading.start > start), len(document.text)]
        sections = [Span(first, last) for first, last in pairwise(cuts) if first < last]
        pieces = Recursive(size=self.size, overlap=self.overlap).spans(document, tokens, sections)
        yield from chunks_from(document, pieces, headings)
