"""A trace: one request through one release, as spans with usage, cost, verdicts and content."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId

SpanKind = Literal[
    "request", "chat", "embeddings", "retrieval", "rerank", "guard", "tool", "agent", "chain", "evaluator", "other"
]
SHADOW = "shadow"
"""Channel of copies of users' requests whose answers nobody sees."""
OWN_CHANNELS = frozenset({"evaluate", "learn", "replay", SHADOW})
"""Channels of Slipway's own requests: they are no traffic of users, and watching leaves them out."""
Status = Literal["ok", "error", "blocked", "abstained", "cancelled", "unset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step of a trace. Times are nanoseconds since 1970; money is in millionths of a dollar.

    `content` holds what may be about a person (messages, passages, raw attributes): it is sealed in the store.
    """

    trace: TraceId
    span: SpanId
    parent: SpanId | None = None
    name: str
    kind: SpanKind = "other"
    start_ns: int
    end_ns: int
    status: Status = "unset"
    project: str = "default"
    subject: SubjectId | None = None
    session: str = ""
    release: ReleaseId | None = None
    channel: str = ""
    environment: str = ""
    provider: str = ""
    model: str = ""
    response_model: str = ""
    prompt: str = ""
    index: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usage_estimated: bool = False
    cost_micros: int = 0
    first_token_ns: int | None = None
    """Nanoseconds from start to the first token, where the reply was streamed."""
    finish: str = ""
    error: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)
    content: dict[str, object] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """What a log record says of a span. It may come before its span or after it; its body is among `attributes`."""

    trace: TraceId
    span: SpanId
    project: str = "default"
    name: str
    time_ns: int
    attributes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The spans of one request, the root first, then by start time."""

    id: TraceId
    spans: tuple[Span, ...]

    @property
    def root(self) -> Span:
        return self.spans[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """A line of the list of traces."""

    id: TraceId
    started_at: datetime
    name: str
    release: ReleaseId | None
    channel: str
    model: str
    status: Status
    seconds: float
    input_tokens: int
    output_tokens: int
    cost_micros: int
    spans: int
    subject: SubjectId | None
    session: str
    preview: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracePage:
    """Lines of the list of traces, newest first. `next` continues after the last one; None at the end."""

    rows: tuple[TraceSummary, ...]
    next: str | None = None
