"""Checks one text against rails: runs them in order, redacts, and stops at the first that blocks."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slipway.domain.errors import Blocked
from slipway.domain.guardrail import Decision, Hit, RailSpec, TextSource, Verdict
from slipway.guard.cuts import CONTEXT, LONGEST, pieces
from slipway.guard.rails.base import NOTHING, Found, Rail, Scene, rails, reason_of

WhenUndecided = Literal["allow", "block"]
STAGES: dict[TextSource, str] = {
    "user": "request",
    "document": "document",
    "tool": "tool output",
    "answer": "answer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A text after the rails: `text` with what was redacted replaced, and what each rail that ran decided.

    `blocked` is the verdict that stopped it; the rails after that one did not run.
    """

    text: str
    verdicts: tuple[Verdict, ...]
    blocked: Verdict | None = None

    def raise_if_blocked(self) -> None:
        """Raises `Blocked` when a rail stopped the text."""
        if self.blocked is not None:
            raise blocked_error(self.blocked)


def check(
    text: str,
    specs: Sequence[RailSpec],
    *,
    source: TextSource,
    when_undecided: WhenUndecided = "block",
    output_schema: str = "",
) -> Checked:
    """What the rails say to one text.

    Each rail reads what the rails before it left. Hits of a verdict are places in the text that its rail read.
    A rail that fails gives the decision `undecided`, which blocks when `when_undecided` says so.
    Raises `UnknownBackend` and `BackendSettingInvalid` for rails that do not exist.
    """
    scene = Scene(source, output_schema)
    verdicts: list[Verdict] = []
    for spec in specs:
        verdict = look(text, spec, scene)
        verdicts.append(verdict)
        if verdict.decision == "redact" and verdict.text is not None:
            text = verdict.text
        if stops(verdict, when_undecided):
            return Checked(text=text, verdicts=tuple(verdicts), blocked=verdict)
    return Checked(text=text, verdicts=tuple(verdicts))


def look(text: str, spec: RailSpec, scene: Scene) -> Verdict:
    """The verdict of one rail on a whole text."""
    rail = rail_of(spec)
    began = time.perf_counter()
    try:
        found = look_everywhere(rail, text, scene)
    except Exception as failure:
        # Whatever a rail, perhaps somebody else's, trips over: the release decides what a missing verdict means.
        return undecided(spec, scene.source, failure, seconds=time.perf_counter() - began)
    decision = decide(found, spec)
    redacted = redact(text, found.hits) if decision == "redact" else None
    return Verdict(
        rail=spec.name,
        source=scene.source,
        decision=decision,
        reason=found.reason,
        score=found.score,
        hits=found.hits,
        text=redacted,
        seconds=time.perf_counter() - began,
    )


def look_everywhere(rail: Rail, text: str, scene: Scene) -> Found:
    """What a rail finds in a whole text; a local rail reads a long one piece by piece, as it would on a stream."""
    if rail.reach != "local" or len(text) <= LONGEST:
        return rail.look(text, scene)
    found = NOTHING
    for start, end in pieces(text):
        context = max(0, start - CONTEXT)
        found = join(found, shift(rail.look(text[context:end], scene, start=start - context), context))
    return found


def decide(found: Found, spec: RailSpec) -> Decision:
    if not found.fired:
        return "allow"
    if spec.action == "redact" and not found.hits:
        return "flag"
    return spec.action


def redact(text: str, hits: Sequence[Hit], *, start: int = 0) -> str:
    """`text` from `start` on, with each hit replaced by its kind: `[EMAIL]`. Hits do not overlap and are in order."""
    parts: list[str] = []
    for hit in hits:
        parts.append(text[start : hit.start])
        parts.append(f"[{hit.kind.upper()}]")
        start = hit.end
    parts.append(text[start:])
    return "".join(parts)


def join(first: Found, second: Found) -> Found:
    """What was found in two neighbouring pieces."""
    if not second.fired and second.score <= first.score:
        return first
    if not first.fired:
        return second
    hits = first.hits + second.hits
    reason = reason_of(hits) if hits else first.reason or second.reason
    return Found(fired=True, reason=reason, score=max(first.score, second.score), hits=hits)


def shift(found: Found, by: int) -> Found:
    """The same finding, with its places moved."""
    if not by or not found.hits:
        return found
    moved = tuple(Hit(kind=hit.kind, start=hit.start + by, end=hit.end + by, score=hit.score) for hit in found.hits)
    return Found(fired=found.fired, reason=found.reason, score=found.score, hits=moved)


def undecided(spec: RailSpec, source: TextSource, failure: Exception, *, seconds: float) -> Verdict:
    """The verdict of a rail that failed."""
    reason = f"the rail failed: {type(failure).__name__}: {failure}"[:300]
    return Verdict(rail=spec.name, source=source, decision="undecided", reason=reason, seconds=seconds)


def stops(verdict: Verdict, when_undecided: WhenUndecided) -> bool:
    return verdict.decision == "block" or (verdict.decision == "undecided" and when_undecided == "block")


def blocked_error(verdict: Verdict) -> Blocked:
    """The error for a text that a verdict stopped."""
    return Blocked(verdict.rail, STAGES[verdict.source], verdict.reason or "the rail fired")


_made: dict[tuple[object, ...], Rail] = {}


def rail_of(spec: RailSpec) -> Rail:
    """The rail of a spec, made once per settings: rails keep no state between texts."""
    key = (spec.name, *spec.settings.items())
    rail = _made.get(key)
    if rail is None:
        rail = rails.make(spec.name, spec.settings)
        if len(_made) > 256:
            _made.clear()
        _made[key] = rail
    return rail
