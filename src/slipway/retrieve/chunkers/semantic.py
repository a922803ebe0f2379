"""Cuts where the subject changes: neighbouring sentences whose embeddings are alike stay together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy

from slipway.domain.document import Chunk, Document
from slipway.embedders.base import Vectors
from slipway.retrieve.chunkers.base import Embed, TokenRuler, chunkers, chunks_from, headings_of
from slipway.retrieve.chunkers.recursive import Borders, Recursive, with_overlap
from slipway.text.markdown import body_start, plain_text
from slipway.text.sentences import Span, split_sentences
from slipway.text.tokens import TokenCounter

MOST_TOGETHER = 64
"""Sentences that one chunk may hold, so that a page of very short ones stays cheap to cut."""


@chunkers.register("semantic")
@dataclass(frozen=True)
class Semantic:
    """Cuts where the subject changes: sentences alike by their embeddings share a chunk of at most `size` tokens."""

    size: int = 200
    overlap: int = 0
    _embed: Embed | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.size < 8 or not 0 <= self.overlap < self.size:
            raise ValueError("size must be at least 8 tokens, and overlap smaller than size")

    def embedding_by(self, embed: Embed) -> Semantic:
        """The same chunker with what it compares sentences by."""
        bound = replace(self)
        object.__setattr__(bound, "_embed", embed)
        return bound

    def cut(self, document: Document, tokens: TokenCounter) -> Iterator[Chunk]:
        assert self._embed is not None, "a semantic chunker is bound to an embedder before it cuts"
        headings = headings_of(document)
        borders = Borders(document.text, headings)
        ruler = TokenRuler(document.text, tokens)
        units = self._units(document, borders, ruler, {heading.end for heading in headings})
        if not units:
            return
        vectors = self._embed(document, [plain_text(document.text[start:end]) for start, end in units])
        groups = [
            Span(units[first].start, units[last].end) for first, last in group_alike(units, vectors, ruler, self.size)
        ]
        yield from chunks_from(document, with_overlap(groups, borders, ruler, self.overlap), headings)

    def _units(self, document: Document, borders: Borders, ruler: TokenRuler, heading_ends: set[int]) -> list[Span]:
        """Sentences in order; a heading goes with the one below it, and one longer than a chunk is taken apart."""
        start = body_start(document.text) if document.metadata.get("format") == "markdown" else 0
        joined: list[Span] = []
        for first, last in split_sentences(document.text[start:]):
            span = Span(start + first, start + last)
            if joined and joined[-1].end in heading_ends:
                joined[-1] = Span(joined[-1].start, span.end)
            else:
                joined.append(span)
        cutter = Recursive(size=self.size)
        units: list[Span] = []
        for span in joined:
            units += [span] if ruler.count(*span) <= self.size else cutter.pieces(span, borders, ruler)
        return units


def group_alike(units: Sequence[Span], vectors: Vectors, ruler: TokenRuler, size: int) -> list[tuple[int, int]]:
    """Runs of units as (first, last) of at most `size` tokens, in order, of which the whole is the best.

    A run is worth the sum over its pairs of their cosine less the mean cosine of all near pairs, so that likeness
    above the document's own level binds and likeness below it parts. Found exactly by dynamic programming. Source:
    the cluster chunker of Smith and Troynikov, "Evaluating chunking strategies for retrieval" (Chroma, 2024).
    """
    count = len(units)
    band = _cosines(vectors, min(MOST_TOGETHER, count))
    best = numpy.zeros(count + 1)
    came_from = list(range(-1, count))
    for end in range(1, count + 1):
        worth, top, first = 0.0, -numpy.inf, end - 1
        # Backwards from the last unit: each further one brings its cosines with all that are in the run already.
        for start in range(end - 1, max(-1, end - 1 - MOST_TOGETHER), -1):
            if start < end - 1 and ruler.count(units[start].start, units[end - 1].end) > size:
                break
            worth += float(band[start, : end - 1 - start].sum())
            if best[start] + worth > top:
                top, first = best[start] + worth, start
        best[end], came_from[end] = top, first
    runs: list[tuple[int, int]] = []
    end = count
    while end > 0:
        runs.append((came_from[end], end - 1))
        end = came_from[end]
    return runs[::-1]


def _cosines(vectors: Vectors, reach: int) -> Vectors:
    """Shape (units, reach - 1): cosine of a unit with the 1st, 2nd, ... behind it, less the mean; 0 past the end."""
    count = len(vectors)
    band = numpy.zeros((count, max(reach - 1, 1)), dtype=numpy.float32)
    there = numpy.zeros(band.shape, dtype=bool)
    for step in range(1, reach):
        band[: count - step, step - 1] = numpy.einsum("ij,ij->i", vectors[:-step], vectors[step:])
        there[: count - step, step - 1] = True
    if there.any():
        band[there] -= band[there].mean()
    return band
