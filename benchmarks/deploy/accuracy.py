"""How far predicted serving speed is from measured speed on points that the fit has not seen.

    .venv/bin/python benchmarks/deploy/accuracy.py

Medians of absolute percentage errors of the time per token, the wait for the first token and the answer tokens a
second, beside the limits; then the share of points inside the 80 % intervals, learnt on one half of the points and
counted on the other.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from leave_out import Miss, error, left_out, read_offline, read_serving

from slipway.deploy.fitting import fit
from slipway.deploy.points import Point
from slipway.deploy.prediction import predict

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import Figure, print_table

LIMITS = {
    ("inside", "all"): (6.0, 15.0, 6.0),
    ("twins", "all"): (6.0, 15.0, 6.0),
    ("cell", "dense"): (9.0, 20.0, 9.0),
    ("cell", "all"): (15.0, 25.0, 15.0),
    ("model", "all"): (14.0, 28.0, 14.0),
    ("four", "all"): (6.0, 15.0, 6.0),
    ("drawn", "all"): (6.0, 15.0, 6.0),
}
NAMES = {
    "inside": "points inside known cells",
    "twins": "points inside known cells, twins held out together",
    "cell": "new cell",
    "hardware": "new hardware",
    "model": "new model on a known cell",
    "four": "new cell after four own points far apart",
    "drawn": "new cell after four own points at random",
}
OFFLINE_LIMIT = 10.0
COVERAGE = (75.0, 90.0)


def main() -> int:
    serving, offline = read_serving(), read_offline()
    figures: list[Figure] = []
    covered: list[float] = []
    for kind, name in NAMES.items():
        misses = list(left_out(kind, serving, offline))
        for which in ("all", "dense"):
            limits = LIMITS.get((kind, which), (None, None, None))
            chosen = misses if which == "all" else [miss for miss in misses if not miss.experts]
            note = f"{len(chosen)} points"
            for figure, limit in zip(("token", "first", "tokens_per_second"), limits, strict=True):
                value = error(chosen, lambda miss, figure=figure: getattr(miss, figure))  # type: ignore[misc]
                figures.append(Figure(f"{name}, {which}: {figure.replace('_', ' ')}", value, "%", limit, note))
        covered += [coverage(misses, figure) for figure in ("token", "first", "tokens_per_second")]
    figures.append(
        Figure("outside the 80 % intervals", 100 - float(np.mean(covered)), "%", 100 - COVERAGE[0], "10 to 25")
    )
    for name, limit, parts in (
        ("held-out points", OFFLINE_LIMIT, _fifths(offline)),
        ("a model left out", OFFLINE_LIMIT, [point.model for point in offline]),
    ):
        value, number = offline_error(serving, offline, parts)
        figures.append(Figure(f"offline maximum throughput, dense, {name}", value, "%", limit, f"{number} points"))
    return print_table("Accuracy of predicted serving speed", figures)


def _fifths(points: Sequence[Point]) -> list[str]:
    return [str(number) for number in np.random.default_rng(0).integers(0, 5, len(points))]


def offline_error(serving: Sequence[Point], offline: Sequence[Point], parts: Sequence[str]) -> tuple[float, int]:
    """Median error of dense models' most throughput, each part predicted by a fit on the others; and of how many."""
    missed = []
    for part in sorted(set(parts)):
        seen = [point for point, place in zip(offline, parts, strict=True) if place != part]
        unseen = [
            point
            for point, place in zip(offline, parts, strict=True)
            if place == part and not point.setup.shape.experts
        ]
        for point, told in zip(
            unseen, predict(unseen, calibration=fit([*serving, *seen], corrected=False)), strict=True
        ):
            missed.append(100 * abs(told.tokens_per_second.value / point.tokens_per_second - 1))
    return float(np.median(missed)), len(missed)


def coverage(misses: Sequence[Miss], figure: str) -> float:
    """Share of one half's points between the 10th and 90th percentile of the other half, in per cent."""
    logs = np.array([getattr(miss, figure) for miss in misses])
    experts = np.array([miss.experts for miss in misses])
    half = np.random.default_rng(1).random(len(logs)) < 0.5
    inside = np.zeros(len(logs), dtype=bool)
    for kind in (True, False):
        for learnt in (half, ~half):
            known, asked = (experts == kind) & learnt, (experts == kind) & ~learnt
            if known.sum() > 4:
                low, high = np.quantile(logs[known], [0.1, 0.9])
                inside[asked] = (logs[asked] >= low) & (logs[asked] <= high)
    return 100 * float(inside.mean())


if __name__ == "__main__":
    sys.exit(main())
