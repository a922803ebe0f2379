"""Predicts measured points that the fit has not seen: held-out points, a left-out cell, a left-out model, four own."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slipway.deploy.fitting import fit, fit_own
from slipway.deploy.points import UNRECORDED, Point, point_of, read_table
from slipway.deploy.prediction import predict, rate
from slipway.models.calibrations import Calibration, cell_of

SHARED = Path(__file__).parents[3] / "shared" / "data" / "performance"
FOLDS = 5
FEWEST = 10
"""A cell and model with fewer points is not used to test four own points."""


class Miss(NamedTuple):
    """Logarithms of measured over predicted, for one point."""

    kind: str
    experts: bool
    first: float
    token: float
    tokens_per_second: float


def read_serving() -> list[Point]:
    """Every closed-loop point whose precision is recorded."""
    rows = read_table(_data("serving_closed_loop.csv"))
    return [point_of(row, name=row["id"]) for row in rows if row["weights"] != UNRECORDED]


def read_offline() -> list[Point]:
    return [point_of(row, name=row["id"]) for row in read_table(_data("offline_max_throughput.csv"))]


def left_out(kind: str, serving: Sequence[Point], offline: Sequence[Point]) -> Iterator[Miss]:
    """The misses of one protocol; nothing that is scored was fitted on.

    inside: a fifth of the points at a time. cell: every point of one hardware, engine and precision. model: every point
    of a model whose cell other models keep known. four: a cell is left out, then four of its points are fitted.
    """
    if kind == "inside":
        fold = np.random.default_rng(0).integers(0, FOLDS, len(serving))
        for number in range(FOLDS):
            seen = [point for point, place in zip(serving, fold, strict=True) if place != number]
            unseen = [point for point, place in zip(serving, fold, strict=True) if place == number]
            yield from score(kind, unseen, fit([*seen, *offline]))
        return
    everything = [*serving, *offline]
    for place, model in sorted({(cell_of(point.setup), point.model) for point in serving}):
        members = [point for point in serving if cell_of(point.setup) == place and point.model == model]
        if kind == "model":
            rest = [point for point in everything if point.model != model]
            if any(cell_of(point.setup) == place for point in rest):
                yield from score(kind, members, fit(rest))
            continue
        rest = [point for point in everything if cell_of(point.setup) != place]
        if kind == "cell":
            yield from score(kind, members, fit(rest))
        elif len(members) >= FEWEST:
            own = choose_four(members)
            names = {point.id for point in own}
            refitted = fit_own(own, start=fit(rest))
            yield from score(kind, [point for point in members if point.id not in names], refitted)


def choose_four(points: Sequence[Point]) -> list[Point]:
    """Four points spread over load and devices."""
    ranked = sorted(
        (point for point in points if not point.queued),
        key=lambda point: (point.protocol.users * point.protocol.input_tokens, point.setup.split.devices),
    )
    return [ranked[int(len(ranked) * share)] for share in (0.05, 0.35, 0.65, 0.95)]


def score(kind: str, points: Sequence[Point], calibration: Calibration) -> Iterator[Miss]:
    for point, told in zip(points, predict(points, calibration=calibration), strict=True):
        first, token = told.first_s.value, told.token_s.value
        yield Miss(
            kind,
            bool(point.setup.shape.experts),
            math.log(point.first_s / first),
            math.log(point.token_s / token),
            math.log(rate(point, point.first_s, point.token_s) / rate(point, first, token)),
        )


def error(misses: Sequence[Miss], figure: Callable[[Miss], float]) -> float:
    """Median of the absolute percentage errors of the predictions."""
    return float(np.median([100 * abs(math.exp(-figure(miss)) - 1) for miss in misses]))


def _data(name: str) -> Path:
    if not SHARED.exists():
        sys.exit(f"skipped: the measurements are not in {SHARED}")
    return SHARED / name
