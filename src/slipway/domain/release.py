"""A release: model, prompt, index, guardrails and decoding, pinned by hash, with its evidence."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from slipway.domain.decoding import Decoding
from slipway.domain.guardrail import Guardrails
from slipway.domain.ids import ContentHash, ReleaseId
from slipway.domain.model import Model
from slipway.domain.routing import DEFAULT_RULE, AdaptiveSplit, Posterior, RollbackRule

ReleaseState = Literal["candidate", "live", "retired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRef:
    """A part of a release by name, version and hash."""

    name: str
    version: int
    hash: ContentHash

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Parts never change; evidence attaches to `id`, which is the hash of the parts.

    `number` counts the releases of one application: `support@14`.
    A release without prompt and index forwards what clients send to its model unchanged.
    """

    id: ReleaseId
    application: str
    number: int
    model: Model
    decoding: Decoding
    prompt: PartRef | None
    index: PartRef | None
    guardrails: Guardrails
    created_at: datetime
    note: str = ""

    @property
    def label(self) -> str:
        return f"{self.application}@{self.number}"


EvidenceKind = Literal["evaluation", "review", "cost", "latency", "comparison", "decision", "plan", "gaps", "data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number with its interval and sample size. `n` 0 means that it is not a sample."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    unit: str = ""
    better: Literal["higher", "lower", "none"] = "higher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A result about exactly one release. `suite` names what was run, `dataset` its pinned version."""

    id: str
    release: ReleaseId
    kind: EvidenceKind
    suite: str
    measures: tuple[Measure, ...]
    passed: bool | None
    summary: str
    created_at: datetime
    dataset: PartRef | None = None
    seed: int = 0
    source: str = ""
    """Id of the record that holds the details (an evaluation run, a review)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A line of a gate's policy: which suite's evidence is needed, and for measures which bounds."""

    suite: str
    measure: str = ""
    at_least: float | None = None
    at_most: float | None = None
    max_age_days: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What a release needs before it may go out: evidence with bounds and freshness, and sign-offs by role."""

    requirements: tuple[Requirement, ...] = ()
    roles: tuple[str, ...] = ()


GateState = Literal["passed", "missing", "stale", "below", "failed", "unsigned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateCheck:
    """One line of a gate's answer. `remedy` is the command that would mend it."""

    name: str
    state: GateState
    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The answer of a gate about one release: open only when every check passed."""

    release: ReleaseId
    checks: tuple[GateCheck, ...]

    @property
    def open(self) -> bool:
        return all(check.state == "passed" for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A release's share of a channel's traffic; weights are relative."""

    release: ReleaseId
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A name that clients call: `support`, `support@canary`. Sticky by user; `shadow` sees copies of the traffic."""

    name: str
    shares: tuple[Share, ...]
    shadow: ReleaseId | None = None
    previous: tuple[Share, ...] = ()
    """What the channel served before the last change: roll back returns to it."""
    changed_at: datetime
    changed_by: str = ""
    shadow_share: float = 1.0
    """Share of the requests that the shadow sees."""
    canary: ReleaseId | None = None
    """The release on trial among the shares: the one that the rule may take out."""
    canary_since: datetime | None = None
    rule: RollbackRule | None = DEFAULT_RULE
    """When the canary loses its traffic by itself; None is never."""
    adaptive: AdaptiveSplit | None = None
    posteriors: tuple[Posterior, ...] = ()
    """What the adaptive split has learnt of each release."""

    @property
    def stable(self) -> tuple[Share, ...]:
        """The shares without the canary."""
        return tuple(share for share in self.shares if share.release != self.canary)
