"""What users say about answers, and what follows from it: feedback and findings."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from slipway.domain.ids import ReleaseId, SubjectId, TraceId


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A user's or reviewer's word on one trace. `score` runs from -1 (bad) to 1 (good).

    `name` says what was judged where it is not the answer as a whole, such as tone; `label` is a word for it.
    """

    id: str
    trace: TraceId
    score: float
    name: str = ""
    label: str = ""
    comment: str = ""
    correction: str = ""
    source: Literal["user", "reviewer", "judge"] = "user"
    subject: SubjectId | None = None
    created_at: datetime


Route = Literal["prompt", "knowledge", "training", "guard", "dataset"]
FindingState = Literal["open", "drafted", "closed", "dismissed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What watching or people noticed, with its evidence and where it should go."""

    id: str
    kind: Literal["gap", "failure", "feedback", "drift", "guard", "cost"]
    title: str
    detail: str
    route: Route
    state: FindingState = "open"
    release: ReleaseId | None = None
    traces: tuple[TraceId, ...] = ()
    cases: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    volume: int = 1
    subject: SubjectId | None = None
    created_at: datetime
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The change that answers a finding, ready for a person to accept: a file to write or a case to add."""

    id: str
    finding: str
    route: Route
    title: str
    path: str
    """Where it goes, relative to the application's folder."""
    text: str
    created_at: datetime
    applied: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A condition that came true. `key` names the cause, so that one cause alerts once."""

    id: str
    key: str
    condition: str
    message: str
    release: ReleaseId | None = None
    value: float = 0.0
    created_at: datetime
    resolved_at: datetime | None = None
