"""Decides again when prices, traffic or requirements change, and says what changed and whether the verdict turns."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from slipway.decide.decision import compute, latest_decision, same_decision
from slipway.decide.words import dollars
from slipway.domain.decision import Traffic
from slipway.domain.deployment import DecisionRecord, Demand
from slipway.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One input that is different from the last decision."""

    kind: str
    """requirement, price, or option."""
    what: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A decision made again: what changed, and whether another road is recommended. `saved` where anything did."""

    before: DecisionRecord
    after: DecisionRecord
    changes: tuple[Change, ...]
    turned: bool
    saved: bool


def decide_again(workspace: Workspace, *, traffic: Traffic | None = None) -> Rerun:
    """The newest decision, made again with today's prices and settings, and kept where it differs.

    Traffic that was measured for the last decision is kept unless new one is given or [decide] has changed its numbers.
    Raises `NotFound` before the first decision.
    """
    before = latest_decision(workspace)
    after = compute(workspace, traffic=traffic or before.demand.traffic)
    differs = not same_decision(after, before)
    if differs:
        after = replace(after, previous=before.id)
        workspace.store.records.save(after)
    return Rerun(
        before=before,
        after=after if differs else before,
        changes=tuple(list_changes(before, after)),
        turned=before.recommended != after.recommended,
        saved=differs,
    )


def list_changes(before: DecisionRecord, after: DecisionRecord) -> Iterator[Change]:
    """Every requirement and price that is different, and options that came, went or changed their cost by a tenth."""
    for field in fields(Demand):
        old, new = getattr(before.demand, field.name), getattr(after.demand, field.name)
        if old == new:
            continue
        if field.name == "traffic":
            old, new = (one.source if one is not None else None for one in (old, new))
        yield Change(kind="requirement", what=field.name, before=_said(old), after=_said(new))
    for name in dict.fromkeys([*before.prices, *after.prices]):
        was, now = before.prices.get(name), after.prices.get(name)
        if was != now:
            yield Change(kind="price", what=name, before=_money(was), after=_money(now))
    old_options = {option.name: option for option in before.options}
    new_options = {option.name: option for option in after.options}
    for name in dict.fromkeys([*old_options, *new_options]):
        one, other = old_options.get(name), new_options.get(name)
        if one is None or other is None:
            yield Change(
                kind="option",
                what=name,
                before="compared" if one else "not there",
                after="compared" if other else "gone",
            )
        elif one.rejected != other.rejected:
            yield Change(
                kind="option", what=name, before=one.rejected or "possible", after=other.rejected or "possible"
            )
        elif abs(one.horizon_total - other.horizon_total) > 0.1 * max(one.horizon_total, other.horizon_total):
            yield Change(
                kind="option",
                what=f"{name}, over the horizon",
                before=dollars(one.horizon_total),
                after=dollars(other.horizon_total),
            )


def _said(value: object) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _money(value: float | None) -> str:
    return "not there" if value is None else f"${value:,.6g}"
