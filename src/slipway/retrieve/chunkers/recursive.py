"""Cuts at the strongest border that fits: headings, blank lines, lines, sentences, words."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from slipway.domain.document import Chunk, Document
from slipway.retrieve.chunkers.base import TokenRuler, chunkers, chunks_from, headings_of
from slipway.text.markdown import Heading, body_start
from slipway.text.sentences import Span, split_sentences
from slipway.text.tokens import TokenCounter

BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*)+")
LINE_BREAK = re.compile(r"\n[ \t]*")
SPACES = re.compile(r"\s+")
WEAKEST = 10


@chunkers.register("recursive")
@dataclass(frozen=True)
class Recursive:
    """Cuts at headings, blank lines, lines, sentences, words, whichever is the strongest that gives small pieces."""

    size: int = 200
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.size < 8 or not 0 <= self.overlap < self.size:
            raise ValueError("size must be at least 8 tokens, and overlap smaller than size")

    def cut(self, document: Document, tokens: TokenCounter) -> Iterator[Chunk]:
        start = body_start(document.text) if document.metadata.get("format") == "markdown" else 0
        spans = self.spans(document, tokens, [Span(start, len(document.text))])
        yield from chunks_from(document, spans, headings_of(document))

    def spans(self, document: Document, tokens: TokenCounter, wholes: Sequence[Span]) -> Iterator[Span]:
        """The pieces of each stretch of the document; no piece reaches over the end of its stretch."""
        borders = Borders(document.text, headings_of(document))
        ruler = TokenRuler(document.text, tokens)
        for whole in wholes:
            yield from with_overlap(self.pieces(whole, borders, ruler), borders, ruler, self.overlap)

    def pieces(self, whole: Span, borders: "Borders", ruler: TokenRuler, strength: int = 0) -> list[Span]:
        """Pieces of one stretch, without overlap; `strength` is the strongest border that may be tried."""
        if ruler.count(*whole) <= self.size:
            return [whole]
        cuts: list[int] = []
        while not cuts and strength < WEAKEST:
            cuts = borders.inside(whole, strength)
            strength += 1
        if not cuts:
            return self._windows(whole, ruler)
        done: list[Span] = []
        gathered: Span | None = None
        reach = whole.start
        for start, end in zip([whole.start, *cuts], [*cuts, whole.end], strict=True):
            if gathered and end <= reach:
                gathered = Span(gathered.start, end)
                continue
            if gathered:
                done.append(gathered)
                gathered = None
            # How far `size` tokens reach is looked up once for a chunk, not counted at every border.
            reach = ruler.after(start, self.size)
            if end <= reach:
                gathered = Span(start, end)
            else:
                done += self.pieces(Span(start, end), borders, ruler, strength)
        return [*done, gathered] if gathered else done

    def _windows(self, whole: Span, ruler: TokenRuler) -> list[Span]:
        """Plain windows, for a run without any space that is longer than a chunk."""
        spans = []
        start = whole.start
        while start < whole.end:
            end = min(max(ruler.after(start, self.size), start + 1), whole.end)
            spans.append(Span(start, end))
            start = end
        return spans


def with_overlap(pieces: Sequence[Span], borders: "Borders", ruler: TokenRuler, overlap: int) -> Iterator[Span]:
    """The pieces, each begun earlier by whole words of the one before, of at most `overlap` tokens."""
    yield from pieces[:1]
    for before, piece in pairwise(pieces):
        if overlap:
            earliest = max(ruler.before(piece.start, overlap), before.start)
            words = borders.inside(Span(max(earliest - 1, 0), piece.start), WEAKEST - 1)
            yield Span(words[0] if words else piece.start, piece.end)
        else:
            yield piece


class Borders:
    """Where a text may be cut, by strength: 0 to 5 headings by depth, 6 blank lines, 7 lines, 8 sentences, 9 words."""

    def __init__(self, text: str, headings: list[Heading]) -> None:
        self._text = text
        self._headings = [[heading.start for heading in headings if heading.level == level] for level in range(1, 7)]
        self._heading_ends = frozenset(heading.end for heading in headings)

    def inside(self, whole: Span, strength: int) -> list[int]:
        """Offsets inside the span, without its ends, at which a border of this strength lies."""
        start, end = whole
        if strength < 6:
            places = self._headings[strength]
            found = places[bisect_right(places, start) : bisect_left(places, end)]
        elif strength == 8:
            found = [start + span.start for span in split_sentences(self._text[start:end])]
        else:
            pattern = {6: BLANK_LINES, 7: LINE_BREAK, 9: SPACES}[strength]
            # A heading stays with what follows it, so no cut lies right behind one.
            found = [
                border.end()
                for border in pattern.finditer(self._text, start, end)
                if strength == 9 or border.start() not in self._heading_ends
            ]
        return [place for place in found if start < place < end]
