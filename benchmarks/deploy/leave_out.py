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
from slipway.models.calibrations import Calibration, cell_of, load_terms

SHARED = Path(__file__).parents[3] / "shared" / "data" / "performance"
FOLDS = 5
FEWEST = 10
"""A cell and model with fewer points is not used to test four own points."""
DRAWS = 4
"""How often four own points are drawn at random."""
_FITS: dict[str, Calibration] = {}


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

    inside: a fifth of the points at a time. twins: the same, but points of one model, place and load are held out
    together, whatever their engine version or the way they name their devices. cell: every point of one hardware,
    engine and precision. hardware: every point of one kind of it. model: every point of a model whose cell other
    models keep known. four: a cell is left out, then four of its points are fitted, far apart. drawn: the same with
    four points at random, several times.
    """
    if kind in ("inside", "twins"):
        drawn = np.random.default_rng(0)
        fold = drawn.integers(0, FOLDS, len(serving))
        if kind == "twins":
            first: dict[tuple[object, ...], int] = {}
            for point, part in zip(serving, fold, strict=True):
                first.setdefault(twin_of(point), int(part))
            fold = np.array([first[twin_of(point)] for point in serving])
        for number in range(FOLDS):
            seen = [point for point, place in zip(serving, fold, strict=True) if place != number]
            unseen = [point for point, place in zip(serving, fold, strict=True) if place == number]
            yield from score(kind, unseen, fit([*seen, *offline]))
        return
    everything = (*serving, *offline)
    if kind == "hardware":
        for name in sorted({point.setup.hardware.name for point in serving}):
            known = _kept(name, [point for point in everything if point.setup.hardware.name != name])
            yield from score(kind, [point for point in serving if point.setup.hardware.name == name], known)
        return
    for place, model in sorted({(cell_of(point.setup), point.model) for point in serving}):
        members = [point for point in serving if cell_of(point.setup) == place and point.model == model]
        if kind == "model":
            if any(cell_of(point.setup) == place and point.model != model for point in everything):
                yield from score(kind, members, _without_model(everything, model))
            continue
        known = _without_cell(everything, place)
        if kind == "cell":
            yield from score(kind, members, known)
        elif len(members) >= FEWEST:
            for own in [choose_four(members)] if kind == "four" else draw_four(members):
                names = {point.id for point in own}
                unseen = [point for point in members if point.id not in names]
                yield from score(kind, unseen, fit_own(own, start=known))


def _without_cell(points: Sequence[Point], place: str) -> Calibration:
    return _kept(place, [point for point in points if cell_of(point.setup) != place])


def _without_model(points: Sequence[Point], model: str) -> Calibration:
    return _kept(f"model:{model}", [point for point in points if point.model != model])


def _kept(what: str, points: Sequence[Point]) -> Calibration:
    """The fit without one thing; several protocols ask for the same ones."""
    if what not in _FITS:
        _FITS[what] = fit(points)
    return _FITS[what]


def twin_of(point: Point) -> tuple[object, ...]:
    return cell_of(point.setup), point.model, point.protocol, point.setup.split.devices


def choose_four(points: Sequence[Point]) -> list[Point]:
    """Four points far apart in users, lengths and devices: each next one is the farthest from those before."""
    usable = [point for point in points if not point.queued]
    places = np.array(
        [
            load_terms(
                users=point.protocol.users,
                input_tokens=point.protocol.input_tokens,
                output_tokens=point.protocol.output_tokens,
                devices=point.setup.split.devices,
            )[1:5]
            for point in usable
        ]
    )
    chosen = [int(np.argmax(((places - np.median(places, axis=0)) ** 2).sum(axis=1)))]
    while len(chosen) < 4:
        away = np.min([((places - places[each]) ** 2).sum(axis=1) for each in chosen], axis=0)
        chosen.append(int(np.argmax(away)))
    return [usable[each] for each in chosen]


def draw_four(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Four points at random, several times."""
    usable = [point for point in points if not point.queued]
    drawn = np.random.default_rng(11)
    for _ in range(DRAWS):
        yield [usable[int(each)] for each in drawn.choice(len(usable), 4, replace=False)]


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
