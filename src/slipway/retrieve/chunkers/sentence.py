"""Cuts into windows of whole sentences."""

from collections.abc import Iterator
from dataclasses import dataclass

from slipway.domain.document import Chunk, Document
from slipway.retrieve.chunkers.base import TokenRuler, chunkers, chunks_from, headings_of
from slipway.text.sentences import Span, split_sentences
from slipway.text.tokens import TokenCounter


@chunkers.register("sentence")
@dataclass(frozen=True)
class Sentence:
    """Cuts into windows of whole sentences of at most `size` tokens; a longer sentence stands alone."""

    size: int = 200
    overlap: int = 40

    def __post_init__(self) -> None:
        if self.size < 8 or not 0 <= self.overlap < self.size:
            raise ValueError("size must be at least 8 tokens, and overlap smaller than size")

    def cut(self, document: Document, tokens: TokenCounter) -> Iterator[Chunk]:
        ruler = TokenRuler(document.text, tokens)
        sentences = split_sentences(document.text)
        yield from chunks_from(document, self._windows(sentences, ruler), headings_of(document))

    def _windows(self, sentences: list[Span], ruler: TokenRuler) -> Iterator[Span]:
        first = 0
        while first < len(sentences):
            last = first
            while (
                last + 1 < len(sentences) and ruler.count(sentences[first].start, sentences[last + 1].end) <= self.size
            ):
                last += 1
            yield Span(sentences[first].start, sentences[last].end)
            if last + 1 == len(sentences):
                return
            following = last + 1
            while (
                following - 1 > first
                and ruler.count(sentences[following - 1].start, sentences[last].end) <= self.overlap
            ):
                following -= 1
            first = following
