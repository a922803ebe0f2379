"""The threshold of a scoring rail for a stated budget of false alarms, from harmless texts of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from slipway.domain.errors import InputError
from slipway.domain.evaluation import Interval
from slipway.domain.guardrail import RailSpec, TextSource
from slipway.guard.checker import rail_of
from slipway.guard.rails.base import Scene
from slipway.guard.scoreboard import Labelled
from slipway.intervals import wilson

FEWEST = 50
"""Harmless texts below which no threshold is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The lowest threshold that keeps the budget on these texts.

    `false_alarms` and `recall` are what it gives on the same texts, with 95 % intervals (Wilson). `enough` is False
    when the texts are too few (below about 4 / budget) for the upper bound of the false alarms to keep the budget.
    """

    rail: str
    source: str
    value: float
    budget: float
    harmless: int
    attacks: int
    false_alarms: Interval
    recall: Interval
    enough: bool


def choose_threshold(spec: RailSpec, rows: Sequence[Labelled], *, source: TextSource, budget: float) -> Threshold:
    """The threshold for one source. Raises `InputError` without scores, or with too few harmless texts."""
    if not 0 < budget < 1:
        raise InputError(f"A budget of {budget:g} false alarms makes no sense: give a share such as 0.01.")
    own = [row for row in rows if row.source == source and row.rail in ("", spec.name)]
    harmless = sorted((_score(spec, row) for row in own if not row.label), reverse=True)
    attacks = [_score(spec, row) for row in own if row.label]
    if len(harmless) < FEWEST:
        raise InputError(
            f"There are {len(harmless)} harmless texts of source '{source}'; a threshold needs at least {FEWEST}. "
            "Take them from your own traffic: rows with label 0."
        )
    if set(harmless + attacks) <= {0.0, 1.0}:
        raise InputError(f"Rail '{spec.name}' gives no score between 0 and 1, so it has no threshold.")
    allowed = _allowed(len(harmless), budget)
    # A little above the highest score that must not fire: the rail fires at its threshold and above.
    value = min(0.999999, round(harmless[allowed] + 5e-7, 6))
    fired = sum(score >= value for score in harmless)
    alarms = wilson(fired, len(harmless))
    return Threshold(
        rail=spec.name,
        source=source,
        value=value,
        budget=budget,
        harmless=len(harmless),
        attacks=len(attacks),
        false_alarms=alarms,
        recall=wilson(sum(score >= value for score in attacks), len(attacks)),
        enough=alarms.high <= budget,
    )


def _allowed(harmless: int, budget: float) -> int:
    """How many harmless texts may fire: so few that the upper bound keeps the budget, where there are enough texts."""
    most = int(budget * harmless)
    return next((count for count in range(most, -1, -1) if wilson(count, harmless).high <= budget), most)


def _score(spec: RailSpec, row: Labelled) -> float:
    return rail_of(spec).look(row.text, Scene(row.source)).score
