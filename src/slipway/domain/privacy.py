"""What happened to a person's data: erased, rewritten, kept with a reason, or outside our reach."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

NodeState = Literal["erased", "rewritten", "checked", "found", "outside"]
"""erased: it is gone; rewritten: it lost what was the person's; checked: it was made from the person's data, but holds
none of it; found: it says the same words, but no edge tells that they were copied; outside: it is not ours to change.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureNode:
    """One thing that held, or could have held, what a person said or was told."""

    kind: str
    id: str
    state: NodeState
    reason: str = ""
    """How it was done, why it was left, or what to do next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReport:
    """Everything that one erasure touched. It names nobody: `person` is a keyed fingerprint of the id."""

    id: str
    person: str
    nodes: tuple[ErasureNode, ...]
    keys: int
    """Data keys that were destroyed."""
    remains: tuple[str, ...]
    """Files in which the person's words were still found afterwards."""
    notes: tuple[str, ...] = ()
    """What is left to others, such as the log of a database server."""
    files_searched: int
    seconds: float
    created_at: datetime

    @property
    def counts(self) -> dict[str, int]:
        """Number of nodes by state."""
        return dict(Counter(node.state for node in self.nodes))

    @property
    def complete(self) -> bool:
        """Whether nothing is left that we know of."""
        return not self.remains and not any(node.state in ("found", "outside") for node in self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionReport:
    """What one run of retention removed."""

    keep_days: int
    before: datetime
    traces: int
    jobs: int
    notes: tuple[str, ...] = ()
