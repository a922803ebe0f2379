"""What a rail promises, and the registry of rails."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

from slipway.domain.guardrail import Hit, TextSource
from slipway.plugins import Registry

Reach = Literal["local", "growing", "whole"]
"""How much of a text a rail must see. `local`: no hit crosses a cut of `guard.cuts`, so a stream is checked piece by
piece. `growing`: it needs no more of what came before than how long it was. `whole`: it must see the whole text."""


class Scene(NamedTuple):
    """Where a text comes from, and what is known about it."""

    source: TextSource
    output_schema: str = ""
    """JSON Schema that the answer should fit, as text; empty when the prompt names none."""
    before: int = 0
    """Characters of a stream that came before this text."""
    complete: bool = True
    """False while more of a stream is still to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a rail found in one text. `score` is between 0 and 1; `reason` never quotes what was found."""

    fired: bool = False
    reason: str = ""
    score: float = 0.0
    hits: tuple[Hit, ...] = ()


NOTHING = Found()


def found_hits(hits: Sequence[Hit]) -> Found:
    """A rail that fired on these hits."""
    return Found(fired=True, reason=reason_of(hits), score=1.0, hits=tuple(hits))


def reason_of(hits: Sequence[Hit]) -> str:
    """`2 email, 1 iban`: what was found, without quoting it."""
    counts: dict[str, int] = {}
    for hit in hits:
        counts[hit.kind] = counts.get(hit.kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


class Rail(Protocol):
    """Looks at a text. A rail is a frozen dataclass of settings; it keeps no state between texts."""

    reach: ClassVar[Reach]
    redacts: ClassVar[bool]
    """Whether its hits can be replaced by `[KIND]`."""

    def look(self, text: str, scene: Scene, *, start: int = 0) -> Found:
        """Hits that begin at `start` or later; what stands before is context. Linear in the length of the text."""
        ...

    def fingerprint(self) -> str:
        """What the rail's behaviour depends on beside its settings: a version, the hash of its weights."""
        ...


rails: Registry[Rail] = Registry("rail", package="slipway.guard.rails")
