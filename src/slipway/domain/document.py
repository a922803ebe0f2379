"""Documents, the chunks they are cut into, and the passages that a search returns."""

from dataclasses import dataclass, field

from slipway.domain.ids import ContentHash, SubjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Clean text of one source. Every chunk and citation is a pair of offsets into `text` (characters)."""

    id: str
    title: str
    text: str
    source: str
    content_hash: ContentHash
    subject: SubjectId | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """`text` is exactly `document.text[start:end]`."""

    document: str
    start: int
    end: int
    text: str
    heading: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A chunk that a search returned. `lexical` and `dense` are what each leg contributed to `score` (0 to 1)."""

    document: str
    title: str
    start: int
    end: int
    text: str
    score: float
    lexical: float = 0.0
    dense: float = 0.0
    heading: str = ""
    first_score: float | None = None
    """The score of the search where a reranker gave `score`; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """Where a part of an answer comes from: `text` is exactly `document.text[start:end]`."""

    document: str
    title: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A source that could not be loaded, with the reason and what to do."""

    source: str
    reason: str
