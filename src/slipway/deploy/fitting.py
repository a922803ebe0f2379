"""Fits the parameters of the roofline to measured points: least squares with priors, robust against odd points.

Every point belongs to groups (all, its engine, its hardware, its cell, ...). Each group moves the 13 parameters by a
little, and the narrower it is the less: so a cell with few points leans on its engine and hardware, and hardware that
was never measured on its kernels. The method is penalised non-linear least squares (Levenberg-Marquardt) with a Cauchy
loss; the penalties are the inverse variances of a hierarchical model (Gelman and Hill, 2007, chapter 12).
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipway.deploy.points import Point
from slipway.deploy.prediction import Timing, correct, rate
from slipway.models.calibrations import (
    Calibration,
    Cell,
    cell_of,
    groups_of,
    load_terms,
    model_of,
    prior_of,
)
from slipway.models.roofline import Speed

PARAMETERS = len(Speed._fields)
FREEDOM = Speed(
    step=1.0,
    layer=0.7,
    weights=0.3,
    products=0.3,
    cache=0.3,
    all_reduce=0.6,
    link=0.5,
    sequence=1.0,
    expert_weights=0.4,
    expert_products=0.4,
    expert_layer=0.7,
    request=0.8,
    queue=0.5,
)
"""How far each parameter may lie from its prior: standard deviations of logarithms."""
REACH = {
    "all": 1.0,
    "experts": 1.0,
    "hardware": 0.12,
    "engine": 0.2,
    "precision": 0.15,
    "cell": 0.1,
    "model": 0.15,
    "version": 0.3,
    "expert parallel": 0.2,
    "offline": 0.2,
}
"""How much of that freedom a group of each kind has."""


class Noise(NamedTuple):
    """Standard deviations of the logarithm of what is measured."""

    first: float
    token: float
    offline: float


NOISE = Noise(first=0.2, token=0.07, offline=0.12)
"""Of published points. Source: repeats between engine versions."""
OWN_NOISE = Noise(first=0.15, token=0.05, offline=0.12)
"""Of one's own points: one engine version, one machine."""
CAUCHY_WIDTH = 2.0
STEPS, TRIES = 25, 6
FEWEST_TO_CORRECT, FEWEST_OWN_TO_CORRECT = 8, 3
OWN_KINDS = ("cell", "model")
"""What one's own points may move: their cell and their model in it. The rest stays as published points say."""
OWN_REACH = 0.6
CORRECTION_FREEDOM = 0.15


class _Column(NamedTuple):
    group: str
    parameter: int


def fit(
    points: Sequence[Point],
    *,
    start: Calibration | None = None,
    only: Collection[str] = (),
    source: str = "",
    licence: str = "",
    today: date | None = None,
    corrected: bool = True,
    reach: Mapping[str, float] = REACH,
    fewest_to_correct: int = FEWEST_TO_CORRECT,
    noise: Noise = NOISE,
) -> Calibration:
    """A calibration for these points. Points that queued, or without a measurement, are left out of the fit.

    `start` holds effects that stay as they are unless their group is fitted again; `only` names kinds of groups that
    may move (all of them when empty).
    """
    usable = [point for point in points if _measured(point)]
    held = {group: np.array(values) for group, values in (start.effects if start else {}).items()}
    effects = _fit_effects(usable, held, only, reach, noise) if usable else held
    fitted = Calibration(
        fitted=str(today or ""),
        source=source,
        licence=licence,
        method="hierarchical roofline, 13 parameters a group",
        effects={group: [float(value) for value in values] for group, values in effects.items()},
        corrections=dict(start.corrections) if start else {},
        cells=list(start.cells) if start else [],
        spreads=dict(start.spreads) if start else {},
    )
    if usable and corrected:
        fitted = replace(fitted, corrections=fitted.corrections | _fit_corrections(usable, effects, fewest_to_correct))
    return replace(fitted, cells=[*fitted.cells, *_describe(usable, fitted, source)]) if usable else fitted


def fit_own(points: Sequence[Point], *, start: Calibration, source: str = "", today: date | None = None) -> Calibration:
    """A calibration whose cells and models follow a few points of one's own more closely than published ones."""
    return fit(
        points,
        start=start,
        only=OWN_KINDS,
        source=source,
        today=today,
        reach={**REACH, **dict.fromkeys(OWN_KINDS, OWN_REACH)},
        fewest_to_correct=FEWEST_OWN_TO_CORRECT,
        noise=OWN_NOISE,
    )


def speeds_under(points: Sequence[Point], effects: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The parameters of each point, one row each."""
    rows = np.empty((len(points), PARAMETERS))
    for row, point in enumerate(points):
        setup = point.setup
        rows[row] = np.log(np.array(prior_of(setup), dtype=np.float64))
        for group in groups_of(setup):
            if group in effects:
                rows[row] += effects[group]
    return np.asarray(np.exp(rows))


def _measured(point: Point) -> bool:
    if point.load == "offline":
        return point.tokens_per_second > 0
    return point.first_s > 0 and point.token_s > 0 and not point.queued


def _kind(group: str) -> str:
    return group.partition(":")[0]


class _Target(NamedTuple):
    """What is fitted: logarithms of measured figures (first, token, whole run), and how certain each is; 0: unused."""

    logs: NDArray[np.float64]
    certainty: NDArray[np.float64]


def _target(points: Sequence[Point], noise: Noise) -> _Target:
    number = len(points)
    logs, certainty = np.zeros(3 * number), np.zeros(3 * number)
    for row, point in enumerate(points):
        if point.load == "offline":
            tokens = point.protocol.requests * point.protocol.output_tokens
            logs[row + 2 * number] = np.log(tokens / point.tokens_per_second)
            certainty[row + 2 * number] = 1 / noise.offline
        else:
            logs[row], logs[row + number] = np.log(point.first_s), np.log(point.token_s)
            certainty[row], certainty[row + number] = 1 / noise.first, 1 / noise.token
    return _Target(logs, certainty)


def _fit_effects(
    points: Sequence[Point],
    held: dict[str, NDArray[np.float64]],
    only: Collection[str],
    reach: Mapping[str, float],
    noise: Noise,
) -> dict[str, NDArray[np.float64]]:
    timing, target, number = Timing(points), _target(points, noise), len(points)
    members: dict[str, list[int]] = defaultdict(list)
    for row, point in enumerate(points):
        for group in groups_of(point.setup):
            if not only or _kind(group) in only:
                members[group].append(row)
    columns = [_Column(group, parameter) for group in members for parameter in range(PARAMETERS)]
    freedom = np.array([FREEDOM[column.parameter] * reach[_kind(column.group)] for column in columns], dtype=np.float64)
    fixed = {group: values for group, values in held.items() if group not in members}
    fixed_logs = np.log(speeds_under(points, fixed))
    belongs = np.zeros((len(members), number))
    for place, rows in enumerate(members.values()):
        belongs[place, rows] = 1.0

    def logs_of(moves: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(fixed_logs + belongs.T @ moves.reshape(len(members), PARAMETERS))

    def predicted(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(np.maximum(np.concatenate(timing.times(np.exp(logs))), 1e-12))

    def cost(misses: NDArray[np.float64], moves: NDArray[np.float64]) -> float:
        robust = CAUCHY_WIDTH**2 * np.sum(np.log1p((misses / CAUCHY_WIDTH) ** 2))
        return float(robust + np.sum((moves / freedom) ** 2))

    moves = np.concatenate([held.get(group, np.zeros(PARAMETERS)) for group in members])
    now = predicted(logs_of(moves))
    misses = (target.logs - now) * target.certainty
    best, damping = cost(misses, moves), 1e-3
    for _ in range(STEPS):
        logs = logs_of(moves)
        slopes = np.empty((3 * number, PARAMETERS))
        for parameter in range(PARAMETERS):
            nudged = logs.copy()
            nudged[:, parameter] += 1e-4
            slopes[:, parameter] = (predicted(nudged) - now) / 1e-4
        weight = target.certainty / np.sqrt(1 + (misses / CAUCHY_WIDTH) ** 2)
        thrice = np.tile(belongs, 3)
        matrix = (thrice[:, :, None] * (slopes * weight[:, None])[None]).transpose(1, 0, 2)
        matrix = matrix.reshape(3 * number, len(columns))
        curvature = matrix.T @ matrix + np.diag(1 / freedom**2)
        downhill = matrix.T @ (misses / np.sqrt(1 + (misses / CAUCHY_WIDTH) ** 2)) - moves / freedom**2
        before = best
        for _ in range(TRIES):
            step = np.clip(np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), downhill), -1, 1)
            then = predicted(logs_of(moves + step))
            missed = (target.logs - then) * target.certainty
            reached = cost(missed, moves + step)
            if reached < best:
                moves, now, misses, best = moves + step, then, missed, reached
                damping = max(damping / 4, 1e-6)
                break
            damping *= 6
        if before - best < 1e-3 * before:
            break
    shaped = moves.reshape(len(members), PARAMETERS)
    return {**fixed, **{group: shaped[place] for place, group in enumerate(members)}}


def _fit_corrections(
    points: Sequence[Point], effects: dict[str, NDArray[np.float64]], fewest: int
) -> dict[str, dict[str, list[float]]]:
    """For each cell and model a quadratic of the load through what the roofline missed; a ridge keeps it small."""
    closed = [point for point in points if point.load == "closed"]
    if not closed:
        return {}
    times = Timing(closed).times(speeds_under(closed, effects))
    rows: dict[str, list[int]] = defaultdict(list)
    for row, point in enumerate(closed):
        rows[model_of(point.setup)].append(row)
    found = {}
    for group, members in rows.items():
        if len(members) < fewest:
            continue
        terms = np.array([_terms(closed[row]) for row in members])
        first = np.log([closed[row].first_s / times.first[row] for row in members])
        token = np.log([closed[row].token_s / times.token[row] for row in members])
        found[group] = {"first": _ridge(terms, first, noise=0.1), "token": _ridge(terms, token, noise=0.04)}
    return found


def _terms(point: Point) -> NDArray[np.float64]:
    return load_terms(
        users=point.protocol.users,
        input_tokens=point.protocol.input_tokens,
        output_tokens=point.protocol.output_tokens,
        devices=point.setup.split.devices,
    )


def _ridge(terms: NDArray[np.float64], wanted: NDArray[np.float64], *, noise: float) -> list[float]:
    weight: NDArray[np.float64] = np.ones(len(wanted))
    found: NDArray[np.float64] = np.zeros(terms.shape[1])
    for _ in range(6):
        scaled = terms * (weight / noise)[:, None]
        curvature = scaled.T @ scaled + np.eye(terms.shape[1]) / CORRECTION_FREEDOM**2
        found = np.asarray(np.linalg.solve(curvature, scaled.T @ (wanted * weight / noise)), dtype=np.float64)
        weight = np.asarray(
            1 / np.power(1 + ((wanted - terms @ found) / noise / CAUCHY_WIDTH) ** 2, 0.25), dtype=np.float64
        )
    return [float(value) for value in found]


def errors_of(points: Sequence[Point], calibration: Calibration) -> NDArray[np.float64]:
    """Absolute percentage errors of each measured closed-loop point: first, token, tokens a second."""
    closed = [point for point in points if point.load == "closed" and point.first_s > 0 and point.token_s > 0]
    if not closed:
        return np.empty((0, 3))
    times = _times(closed, calibration)
    return np.array([_errors(point, calibration, *each) for point, each in zip(closed, times, strict=True)])


def _times(points: Sequence[Point], calibration: Calibration) -> list[tuple[float, float]]:
    effects = {group: np.array(values) for group, values in calibration.effects.items()}
    times = Timing(points).times(speeds_under(points, effects))
    return [(float(first), float(token)) for first, token in zip(times.first, times.token, strict=True)]


def _errors(point: Point, calibration: Calibration, first: float, token: float) -> list[float]:
    first, token = correct(point, first, token, calibration)
    ratios = (
        first / point.first_s,
        token / point.token_s,
        rate(point, first, token) / rate(point, point.first_s, point.token_s),
    )
    return [100 * abs(ratio - 1) for ratio in ratios]


def _describe(points: Sequence[Point], calibration: Calibration, source: str) -> list[Cell]:
    """One entry for each cell and model, with its points and what remains of error."""
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for point in points:
        if point.load == "closed":
            groups[cell_of(point.setup), point.setup.shape.name].append(point)
    cells = []
    for (_, model), members in sorted(groups.items()):
        setup = members[0].setup
        middle = np.median(errors_of(members, calibration), axis=0)
        loads = np.array(
            [
                (
                    point.protocol.users,
                    point.protocol.input_tokens,
                    point.protocol.output_tokens,
                    point.setup.split.devices,
                )
                for point in members
            ],
            dtype=np.float64,
        )
        dates = sorted(point.measured for point in members if point.measured)
        cells.append(
            Cell(
                hardware=setup.hardware.name,
                engine=setup.engine,
                precision=setup.precision,
                model=model,
                versions=tuple(sorted({point.setup.version for point in members if point.setup.version})),
                measured=f"{dates[0]} to {dates[-1]}" if dates else "",
                points=len(members),
                first_error=round(float(middle[0]), 1),
                token_error=round(float(middle[1]), 1),
                tokens_per_second_error=round(float(middle[2]), 1),
                ranges=tuple((float(low), float(high)) for low, high in zip(loads.min(0), loads.max(0), strict=True)),
                source=members[0].source or source,
            )
        )
    return cells
