"""Predicts a benchmark: wait for the first token, time per token, tokens a second, each with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from slipway.deploy.benchmark import Steps, simulate_steps
from slipway.deploy.points import Point
from slipway.deploy.schedules import schedule_of
from slipway.models.calibrations import (
    Calibration,
    Figure,
    Known,
    Setup,
    cell_of,
    doublings_beyond,
    doubt_of,
    load_terms,
    model_of,
    novelty,
    shipped,
    speed_of,
    spread_of,
)
from slipway.models.memory import GIB, RESERVED_GB, RESERVED_SHARE, kv_bytes, kv_copies, weights_gib
from slipway.models.roofline import Facts, Speed, Work, facts_of, step_seconds

USUAL_TOKENS = 4096
"""Length at which the cache of one token is counted, for models with windows."""
WIDEST_CORRECTION = {"first": 0.8, "token": 0.5}
CORRECTION_FADES = 3.0
"""Doublings outside the measured range over which a correction fades to nothing."""


class Estimate(NamedTuple):
    """A figure and the interval that holds 80 % of what is measured."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a benchmark would measure. Times in seconds."""

    id: str
    first_s: Estimate
    token_s: Estimate
    tokens_per_second: Estimate
    known: Known
    assumed: str = ""


class Times(NamedTuple):
    """Seconds of many points: mean wait for the first token, mean time of a token after it, and the whole run."""

    first: NDArray[np.float64]
    token: NDArray[np.float64]
    whole: NDArray[np.float64]


class Timing:
    """The steps of many points in one table, to be timed again and again with other speeds."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = points
        kept: dict[tuple[object, ...], Steps] = {}
        all_steps = [_steps(point, kept) for point in points]
        lengths = [len(steps.times) for steps in all_steps]
        self.row = np.repeat(np.arange(len(points)), lengths)
        facts = [_facts(point) for point in points]
        columns = np.array(facts, dtype=np.float64)[self.row]
        self._facts = Facts(*columns.T)
        stages = np.repeat([float(point.setup.split.pipeline) for point in points], lengths)
        # Stages of a pipeline work on their own share of the requests at the same time, so that a round costs what all
        # layers cost for one share.
        works = [np.concatenate([np.asarray(steps.work[i]) for steps in all_steps]) / stages for i in range(4)]
        self._work = Work(*works)
        self._count = np.concatenate([steps.times for steps in all_steps])
        self._waiting = np.concatenate([steps.waiting for steps in all_steps])
        self._answering = np.concatenate([steps.answering for steps in all_steps])

    def times(self, speeds: NDArray[np.float64]) -> Times:
        """Times of every point; `speeds` has one row of parameters for each."""
        speed = Speed(*speeds[self.row].T)
        seconds = np.asarray(step_seconds(self._facts, speed, self._work))
        number = len(self.points)
        parameters = Speed(*speeds.T)
        first = np.bincount(self.row, seconds * self._waiting, number) * parameters.queue + parameters.request
        token = np.bincount(self.row, seconds * self._answering, number)
        whole = np.bincount(self.row, seconds * self._count, number)
        return Times(*(np.asarray(each, dtype=np.float64) for each in (first, token, whole)))


def predict(points: Sequence[Point], *, calibration: Calibration | None = None) -> list[Prediction]:
    """What each point would measure, in their order."""
    if not points:
        return []
    known = calibration or shipped()
    times = Timing(points).times(np.array([speed_of(point.setup, known) for point in points]))
    return [
        _prediction(point, float(first), float(token), float(whole), known)
        for point, first, token, whole in zip(points, *times, strict=True)
    ]


def rate(point: Point, first_s: float, token_s: float) -> float:
    """Answer tokens a second of a closed loop: users x tokens / (first + (tokens - 1) x token)."""
    tokens = point.protocol.output_tokens
    return point.protocol.users * tokens / (first_s + (tokens - 1) * token_s)


def cache_tokens(setup: Setup) -> float:
    """Tokens whose keys and values fit beside the weights: memory less 10 % + 2 GB a device, less the weights."""
    split, hardware = setup.split, setup.hardware
    devices = split.devices
    usable = devices * (hardware.memory_gib * (1 - RESERVED_SHARE) - RESERVED_GB * 1e9 / GIB)
    free = (usable - weights_gib(setup.shape.parameters, setup.precision)) * GIB
    each = kv_bytes(setup.shape, USUAL_TOKENS, bytes_each=setup.cache_bytes_each) / USUAL_TOKENS
    return max(free / (each * kv_copies(setup.shape, split.tensor)), 0.0) if each else float("inf")


def correct(
    point: Point, first: float, token: float, calibration: Calibration, *, beyond: float = 0.0
) -> tuple[float, float]:
    """The times moved by what this cell and model were measured to do differently from the roofline."""
    held = calibration.corrections.get(model_of(point.setup))
    if held is None:
        return first, token
    terms = load_terms(
        users=point.protocol.users,
        input_tokens=point.protocol.input_tokens,
        output_tokens=point.protocol.output_tokens,
        devices=point.setup.split.devices,
    )
    fading = max(0.0, 1 - beyond / CORRECTION_FADES)
    moved = {
        name: float(np.exp(fading * np.clip(terms @ np.array(held[name]), -most, most)))
        for name, most in WIDEST_CORRECTION.items()
    }
    return first * moved["first"], token * moved["token"]


def _prediction(point: Point, first: float, token: float, whole: float, calibration: Calibration) -> Prediction:
    setup, protocol = point.setup, point.protocol
    known = novelty(setup, calibration)
    load = (protocol.users, protocol.input_tokens, protocol.output_tokens, setup.split.devices)
    place = cell_of(setup).removeprefix("cell:")
    cells = [cell for cell in calibration.cells if f"{cell.hardware}/{cell.engine}/{cell.precision}" == place]
    beyond = min((doublings_beyond(cell, load) for cell in cells), default=0.0) if point.load == "closed" else 0.0
    if point.load == "offline":
        per_second = protocol.requests * protocol.output_tokens / whole
    else:
        first, token = correct(point, first, token, calibration, beyond=beyond)
        per_second = rate(point, first, token)
    experts = bool(setup.shape.experts)
    beyond += doubt_of(setup, known, calibration)

    def around(value: float, figure: Figure) -> Estimate:
        low, high = spread_of(
            known,
            experts=experts,
            figure=figure,
            beyond=beyond,
            group=model_of(setup),
            calibration=calibration,
        )
        return Estimate(value, value * low, value * high)

    return Prediction(
        id=point.id,
        first_s=around(first, "first"),
        token_s=around(token, "token"),
        tokens_per_second=around(per_second, "tokens_per_second"),
        known=known,
        assumed="; ".join(each for each in (point.assumed, _unfit(setup)) if each),
    )


def _unfit(setup: Setup) -> str:
    """What is assumed of weights that do not fit into the memory of the devices that a row names."""
    if cache_tokens(setup) > 0:
        return ""
    gib = weights_gib(setup.shape.parameters, setup.precision)
    return (
        f"{gib:,.0f} GiB of weights do not fit on {setup.split.devices} x {setup.hardware.name}: timed as if they did"
    )


def _facts(point: Point) -> Facts:
    setup = point.setup
    return facts_of(setup.shape, setup.hardware, setup.split, setup.precision, cache_bytes_each=setup.cache_bytes_each)


def _steps(point: Point, kept: dict[tuple[object, ...], Steps]) -> Steps:
    """The steps of a point; points whose cache never fills share theirs."""
    protocol = point.protocol
    # Weights that leave no room were not served like that: the row says too few devices, and the cache is not known.
    room = cache_tokens(point.setup) or float("inf")
    enough = protocol.users * (protocol.input_tokens + protocol.output_tokens)
    schedule = schedule_of(point)
    key = (protocol, schedule, round(room) if room < enough else None)
    if key not in kept:
        kept[key] = simulate_steps(protocol, schedule, cache_tokens=room)
    return kept[key]
