"""What people say: notes on answers and sign-offs of releases."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from slipway.domain.ids import ReleaseId, SubjectId, TraceId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """An answer that waits for people. `reviews` of several people give the agreement."""

    id: str
    release: ReleaseId
    question: str
    answer: str
    context: str = ""
    trace: TraceId | None = None
    reason: str = ""
    subject: SubjectId | None = None
    created_at: datetime
    priority: float = 0.0
    """Higher is looked at first: 1 and above failed, below 1 is doubt, 0 is a random sample."""
    case: str = ""
    evaluation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One person's rating of one item, 1 (bad) to 5 (good)."""

    id: str
    item: str
    release: ReleaseId
    reviewer: str
    background: str
    rating: int
    note: str = ""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOff:
    """A role's word on a release. Dissent is kept and shown on the card."""

    id: str
    release: ReleaseId
    role: str
    person: str
    decision: Literal["approve", "reject"]
    note: str = ""
    created_at: datetime
