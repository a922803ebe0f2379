"""Calibrates with one's own measurements: refits their cell, and tells the error before and after."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from slipway.deploy.fitting import OWN_KINDS, errors_of, fit_own
from slipway.deploy.points import Point
from slipway.domain.errors import InputError
from slipway.models.calibrations import (
    FIGURES,
    Calibration,
    Setup,
    groups_of,
    model_of,
    shipped,
    spread_of,
)

MOST_REFITS = 12
PRIOR_POINTS = 4.0
"""So many points count the shipped interval when it is mixed with what one's own points miss by."""
WIDTH_OF_80 = 1.2816
USERS_TO_MEASURE = (1, 8, 32, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Medians of absolute percentage errors over the points."""

    first: float
    token: float
    tokens_per_second: float

    @classmethod
    def of(cls, rows: NDArray[np.float64]) -> "Errors":
        first, token, rate = (float(value) for value in np.median(rows, axis=0))
        return cls(first=first, token=token, tokens_per_second=rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """What own points changed. `unseen` is the error on each point by a fit on the others; None for a single one."""

    points: int
    places: tuple[str, ...]
    before: Errors
    after: Errors
    unseen: Errors | None
    calibration: Calibration


def calibrate(
    points: Sequence[Point], *, base: Calibration | None = None, today: date, source: str = ""
) -> Recalibration:
    """Refits the cells of these points and nothing else. Raises `InputError` when no point can be fitted on."""
    known = base or shipped()
    usable = [point for point in points if point.load == "closed" and not point.queued]
    if not usable:
        raise InputError("None of the points can be fitted on: each is offline, or its cache did not hold the users.")
    before = errors_of(usable, known)
    # What the shipped cell keeps doing differently was learnt from other runs; own points take its place.
    others = {group: both for group, both in known.corrections.items() if group not in _models(usable)}
    start = replace(known, corrections=others, cells=[])
    fitted = _refit(usable, start, source, today)
    after = errors_of(usable, fitted)
    unseen = _unseen(usable, start, today) if len(usable) > 1 else None
    own = {group for point in usable for group in groups_of(point.setup) if group.partition(":")[0] in OWN_KINDS}
    kept = Calibration(
        fitted=today.isoformat(),
        source=source or "own measurements",
        licence="own",
        method=fitted.method,
        effects={group: values for group, values in fitted.effects.items() if group in own},
        corrections={group: both for group, both in fitted.corrections.items() if group in _models(usable)},
        cells=fitted.cells,
        spreads=_spreads(usable, after if unseen is None else unseen, known),
    )
    return Recalibration(
        points=len(usable),
        places=tuple(sorted({_place(point.setup) for point in usable})),
        before=Errors.of(before),
        after=Errors.of(after),
        unseen=None if unseen is None else Errors.of(unseen),
        calibration=kept,
    )


def points_to_measure(setup: Setup, *, input_tokens: int, output_tokens: int) -> tuple[str, ...]:
    """The four benchmarks that would tell most about a setup: few to many users, at the lengths that matter."""
    return tuple(
        f"{setup.shape.name} on {setup.split.devices} x {setup.hardware.name} ({setup.precision}, {setup.engine}): "
        f"{users} users, {input_tokens} tokens in, {output_tokens} out"
        for users in USERS_TO_MEASURE
    )


def _refit(points: Sequence[Point], start: Calibration, source: str, today: date) -> Calibration:
    return fit_own(points, start=start, source=source, today=today)


def _unseen(points: Sequence[Point], start: Calibration, today: date) -> NDArray[np.float64]:
    """Errors of every point by a fit that has not seen it: each alone, or in twelve parts when there are many."""
    parts = min(len(points), MOST_REFITS)
    rows = []
    for part in range(parts):
        seen = [point for number, point in enumerate(points) if number % parts != part]
        rows.append(errors_of(points[part::parts], _refit(seen, start, "", today)))
    return np.concatenate(rows)


def _spreads(
    points: Sequence[Point], errors: NDArray[np.float64], known: Calibration
) -> dict[str, dict[str, tuple[float, float]]]:
    """For each own cell and model the interval that its points' errors and the shipped interval give together."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    square = np.mean(np.log1p(errors / 100) ** 2, axis=0)
    for group in _models(points):
        experts = any(point.setup.shape.experts for point in points if model_of(point.setup) == group)
        found[group] = {}
        for place, figure in enumerate(FIGURES):
            low, high = spread_of("inside", experts=experts, figure=figure, calibration=known)
            shipped_square = ((np.log(high) - np.log(low)) / 2 / WIDTH_OF_80) ** 2
            number = len(points)
            mixed = (PRIOR_POINTS * shipped_square + number * square[place]) / (PRIOR_POINTS + number)
            away = float(np.exp(WIDTH_OF_80 * np.sqrt(mixed)))
            found[group][figure] = (round(1 / away, 4), round(away, 4))
    return found


def _models(points: Sequence[Point]) -> set[str]:
    return {model_of(point.setup) for point in points}


def _place(setup: Setup) -> str:
    return f"{setup.shape.name} on {setup.hardware.name} ({setup.precision}, {setup.engine})"
