"""What traffic costs, taken apart: by what a request was for, by operation, by section of a prompt, by repetition."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from slipway.domain.ids import TraceId

SectionName = Literal["system", "examples", "history", "context", "question", "answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceGroup:
    """Traces that share a session, a person, a model or another column; money in millionths of a dollar."""

    key: str
    traces: int
    errors: int
    first_at: datetime
    last_at: datetime
    input_tokens: int
    output_tokens: int
    cost_micros: int
    seconds: float
    """How long all of them took together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Steps of one kind and name. Money counts where a model was called, so that nothing counts twice."""

    kind: str
    name: str
    count: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost_micros: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of what was sent to a model or came back. `tokens` are shares of what was billed."""

    name: SectionName
    tokens: int
    cost_micros: int
    share: float
    """Share of the cost; of the tokens where nothing was paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A call that was made again with exactly the same words to the same model and release."""

    example: TraceId
    calls: int
    tokens_saved: int
    saved_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """What a cache of exact repeats would have saved: every call after the first. `own` within one person's calls."""

    looked_at: int
    """Calls that were compared, the newest first."""
    of: int
    """Calls in this time."""
    repeated: int
    tokens_saved: int
    saved_micros: int
    own_repeated: int
    own_saved_micros: int
    most: tuple[Repeat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The economics of users' traffic over a stretch of time, the dearest first."""

    since: datetime
    until: datetime
    requests: int
    cost_micros: int
    by_release: tuple[TraceGroup, ...]
    by_model: tuple[TraceGroup, ...]
    by_user: tuple[TraceGroup, ...]
    users: int
    """People with traffic in this time, those left out of `by_user` included."""
    by_operation: tuple[Operation, ...]
    repeats: Repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficShape:
    """What stored traffic asks of a model and of hardware. Tokens are means a request."""

    since: datetime
    until: datetime
    requests: int
    requests_per_day: float
    input_tokens: float
    output_tokens: float
    longest_tokens: int
    """Tokens in and out of the longest request."""
    peak_factor: float
    """Busiest minute divided by the mean minute."""
    cached_share: float
