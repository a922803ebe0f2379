"""Datasets: cases with an expected answer, in immutable versions."""

from dataclasses import dataclass, field
from datetime import datetime

from slipway.domain.ids import ContentHash, SubjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question with what is known about a good answer. `answerable` None means unknown."""

    id: str
    question: str
    expected: str = ""
    answerable: bool | None = None
    documents: tuple[str, ...] = ()
    """Documents that hold the answer."""
    spans: tuple[tuple[str, int, int], ...] = ()
    """(document, start, end) of the text that holds the answer, where known."""
    tags: tuple[str, ...] = ()
    group: str = ""
    subject: SubjectId | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    """Other wordings of `expected` that are as good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One immutable version of a dataset. `made` says whether people wrote the cases or Slipway made them."""

    name: str
    version: int
    hash: ContentHash
    cases: tuple[Case, ...]
    source: str
    made: bool = False
    created_at: datetime
