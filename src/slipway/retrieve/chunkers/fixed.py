"""Cuts into windows of a fixed number of tokens, at the border of a word."""

from collections.abc import Iterator
from dataclasses import dataclass

from slipway.domain.document import Chunk, Document
from slipway.retrieve.chunkers.base import TokenRuler, chunkers, chunks_from, headings_of
from slipway.text.sentences import Span
from slipway.text.tokens import TokenCounter


@chunkers.register("fixed")
@dataclass(frozen=True)
class Fixed:
    """Cuts into windows of `size` tokens that share `overlap` tokens with the window before."""

    size: int = 250
    overlap: int = 125

    def __post_init__(self) -> None:
        if self.size < 8 or not 0 <= self.overlap < self.size:
            raise ValueError("size must be at least 8 tokens, and overlap smaller than size")

    def cut(self, document: Document, tokens: TokenCounter) -> Iterator[Chunk]:
        yield from chunks_from(document, self._windows(document.text, tokens), headings_of(document))

    def _windows(self, text: str, tokens: TokenCounter) -> Iterator[Span]:
        ruler = TokenRuler(text, tokens)
        start = 0
        while start < len(text):
            end = _word_border(text, start, ruler.after(start, self.size))
            yield Span(start, end)
            if end >= len(text):
                return
            back = _word_border(text, start, ruler.before(end, self.overlap)) if self.overlap else end
            start = back if start < back <= end else end


def _word_border(text: str, start: int, offset: int) -> int:
    """The nearest offset at or before this one where a word begins; the offset itself in a run without a space."""
    place = offset
    while start < place < len(text) and not text[place - 1].isspace():
        place -= 1
    return place if place > start else max(offset, start + 1)
