"""What one machine serves: the one place where deciding asks the roofline, and the measurements that are published."""

from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import msgspec

from slipway.domain.architecture import Architecture
from slipway.domain.deployment import Origin
from slipway.domain.hardware import Hardware
from slipway.models.calibrations import (
    OWN_FILE,
    Calibration,
    Known,
    doubt_of,
    model_of,
    novelty,
    origin_of,
    shipped,
    spread_of,
)
from slipway.models.sizing import ENGINE, Load, Replica, at_rate, list_replicas

FORMULA_SPREAD = 1.10
"""The closed form by which replicas are counted here is at least so far off; a plan replays the traffic instead."""
KNOWN: dict[Known, str] = {
    "inside": "both measured",
    "model": "hardware and engine measured, this model not",
    "cell": "hardware measured, not under this engine and precision",
    "hardware": "hardware not measured: kernels only",
}
MOST_SEQUENCES = 4096
"""Requests at once up to which a machine is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingResult:
    """Output tokens a second of one machine in a published benchmark, lowest and highest of its submissions."""

    model: str
    hardware: str
    devices: int
    scenario: str
    low: float
    high: float
    benchmark: str
    source: str


def list_ways(
    shape: Architecture, hardware: Hardware, load: Load, calibration: Calibration | None = None
) -> list[Replica]:
    """Every way to run a model on that hardware for that load; those that cannot hold it say why."""
    return list_replicas(shape, hardware, load, calibration=calibration)


def best_rate(
    shape: Architecture, hardware: Hardware, load: Load, *, token_s: float, devices: int, engine: str = ENGINE
) -> float:
    """Most output tokens a second of a machine with so many devices within the limits, by roofline.

    `token_s` is the longest time between two tokens, the first token's limit is the load's. The machine may run
    several smaller copies of the model; 0 when no way holds.
    """
    best = 0.0
    for way in list_replicas(shape, hardware, load, engine=engine):
        if way.devices > devices or way.rejected:
            continue
        most = min(MOST_SEQUENCES, way.room(load.input_tokens + load.output_tokens))
        sequences = 1
        while sequences <= most:
            busy = at_rate(replace(way, sequences=sequences), float("inf"))
            late = load.first_token_s is not None and busy.first_token_s > load.first_token_s
            if late or busy.token_s > token_s:
                break
            best = max(best, busy.requests_per_second * load.output_tokens * (devices // way.devices))
            sequences = max(sequences + 1, round(sequences * 1.05))
    return best


def published_rates(
    model: str, hardware: str, devices: int, *, scenario: str, question: str = ""
) -> ServingResult | None:
    """The published measurement of exactly this; of several rounds the one that the question names, else the newest."""
    found = [
        one
        for one in list_serving_results()
        if (one.model, one.hardware, one.devices, one.scenario) == (model, hardware, devices, scenario)
    ]
    named = [one for one in found if one.benchmark.lower() in question.lower()]
    return max(named or found, key=lambda one: one.benchmark, default=None)


@cache
def list_serving_results() -> tuple[ServingResult, ...]:
    data = files("slipway.models").joinpath("data", "serving_results.json").read_bytes()
    return tuple(msgspec.json.decode(data, type=list[ServingResult]))


def throughput_spread(way: Replica) -> tuple[float, str]:
    """By what factor real throughput lies around the predicted one in four of five cases, and where that comes from."""
    setup = way.setup
    known = novelty(setup, way.calibration)
    low, high = spread_of(
        known,
        experts=bool(way.shape.experts),
        figure="tokens_per_second",
        beyond=doubt_of(setup, known, way.calibration),
        group=model_of(setup),
        calibration=way.calibration,
    )
    place = f"{way.shape.name} on {way.hardware.name} under {setup.engine}"
    if way.calibration is not None and model_of(setup) in way.calibration.spreads:
        return max(FORMULA_SPREAD, 1 / low, high), f"{place}, measured by yourself; {OWN_FILE}"
    return max(FORMULA_SPREAD, 1 / low, high), f"{place}, {KNOWN[known]}; fitted {shipped().fitted}"


def origin_of_way(way: Replica) -> Origin:
    """The badge of what a replica carries: calibrated where its hardware and engine were measured."""
    return origin_of(novelty(way.setup, way.calibration))
