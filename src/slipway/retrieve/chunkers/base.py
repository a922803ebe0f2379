"""What a chunker promises, and the registry of chunkers."""

import dataclasses
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from slipway.domain.document import Chunk, Document
from slipway.embedders.base import Vectors
from slipway.plugins import Registry
from slipway.text.markdown import Heading, find_headings
from slipway.text.sentences import Span
from slipway.text.tokens import TokenCounter


class Chunker(Protocol):
    """Cuts a document on offsets: every chunk's text is exactly `document.text[start:end]`. Sizes are in tokens."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def cut(self, document: Document, tokens: TokenCounter) -> Iterator[Chunk]: ...


Embed = Callable[[Document, Sequence[str]], Vectors]
"""Vectors of unit length, one for each text of the document."""


@runtime_checkable
class BySense(Chunker, Protocol):
    """A chunker that compares texts by their embeddings, and cuts only once it is bound to what embeds them."""

    def embedding_by(self, embed: Embed) -> Chunker: ...


chunkers: Registry[Chunker] = Registry("chunker", package="slipway.retrieve.chunkers")


def chunker_id(kind: str, chunker: Chunker, tokens: TokenCounter) -> str:
    """Name and settings, such as `recursive(size=200, overlap=0) in estimate tokens`: same id, same chunks."""
    settings = ", ".join(
        f"{field.name}={getattr(chunker, field.name)}" for field in dataclasses.fields(chunker) if field.init
    )
    return f"{kind}({settings}) in {tokens.id} tokens"


class TokenRuler:
    """Measures stretches of one text in tokens: tokenised once, then by bisection."""

    def __init__(self, text: str, tokens: TokenCounter) -> None:
        self.starts = tokens.starts(text)
        self._end = len(text)

    def count(self, start: int, end: int) -> int:
        return bisect_left(self.starts, end) - bisect_left(self.starts, start)

    def after(self, start: int, count: int) -> int:
        """The offset where `count` tokens from `start` end."""
        at = bisect_left(self.starts, start) + count
        return self.starts[at] if at < len(self.starts) else self._end

    def before(self, end: int, count: int) -> int:
        """The offset from which `count` tokens reach to `end`."""
        return self.starts[max(0, bisect_left(self.starts, end) - count)] if self.starts else 0


class HeadingPaths:
    """Answers under which headings an offset of a Markdown text stands."""

    def __init__(self, headings: Sequence[Heading]) -> None:
        self._starts = [heading.start for heading in headings]
        self._paths: list[str] = []
        above: list[Heading] = []
        for heading in headings:
            above = [other for other in above if other.level < heading.level] + [heading]
            self._paths.append(" > ".join(other.text for other in above))

    def at(self, offset: int) -> str:
        place = bisect_right(self._starts, offset)
        return self._paths[place - 1] if place else ""


def headings_of(document: Document) -> list[Heading]:
    """Headings of a document, where its format has any."""
    return find_headings(document.text) if document.metadata.get("format") in {"markdown", "html", "docx"} else []


def chunks_from(document: Document, spans: Iterable[Span], headings: Sequence[Heading]) -> Iterator[Chunk]:
    """Chunks of the spans, each with the headings above it; a span without a letter or digit is left out."""
    paths = HeadingPaths(headings)
    text = document.text
    for start, end in spans:
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        piece = text[start:end]
        if any(sign.isalnum() for sign in piece):
            yield Chunk(document=document.id, start=start, end=end, text=piece, heading=paths.at(start))
