"""Guardrails: which rails check text before and after the model, and what they found."""

from dataclasses import dataclass, field
from typing import Literal

from slipway.domain.ids import ContentHash

NOT_PINNED = ContentHash("")
TextSource = Literal["user", "document", "tool", "answer"]
"""Where a text comes from: one threshold for all of them is wrong (see docs/guard.md)."""
Decision = Literal["allow", "flag", "redact", "block", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A stretch [start, end) of the checked text that a rail found."""

    kind: str
    start: int
    end: int
    score: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one rail decided about one text. `text` is the redacted text where the decision is `redact`."""

    rail: str
    source: TextSource
    decision: Decision
    reason: str = ""
    score: float = 0.0
    hits: tuple[Hit, ...] = ()
    text: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RailSpec:
    """A rail by its registered name with its settings, and what to do when it fires."""

    name: str
    action: Literal["flag", "redact", "block"] = "block"
    settings: dict[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrails:
    """The guardrails part of a release. `when_undecided` says what a failing rail means."""

    before: tuple[RailSpec, ...] = ()
    after: tuple[RailSpec, ...] = ()
    when_undecided: Literal["allow", "block"] = "block"
    hash: ContentHash = NOT_PINNED

    @property
    def read_nothing(self) -> bool:
        """Whether there is no rail at all, whatever would happen if one failed."""
        return not (self.before or self.after)
