"""Sizes the options of a plan by replaying traffic, and says where a measurement would decide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from time import process_time

from slipway.deploy.calibration import points_to_measure
from slipway.deploy.later import Later, count_for_later
from slipway.deploy.replicas import Limits, ReplicaCount, count_replicas, in_seconds, throughput
from slipway.deploy.simulation import Engine, engine_of, series, simulate
from slipway.deploy.traffic import Traffic, invented
from slipway.domain.architecture import Architecture
from slipway.domain.deployment import Demand, PlanOption, ReplayWindow
from slipway.domain.errors import NothingMeets
from slipway.domain.hardware import Precision
from slipway.models.calibrations import Calibration, Setup, doubt_of, model_of, novelty, origin_of, spread_of
from slipway.models.hardware import find_hardware
from slipway.models.memory import sequences_that_fit, serving_bill
from slipway.models.roofline import Split
from slipway.models.sizing import DAY_S, ENGINE, MOST_SEQUENCES, peak_per_second

CANDIDATES = 6
"""Options that are always replayed, the cheapest by the rule of thumb first."""
REPLAYING_S = 4.0
"""CPU seconds after which no further option is replayed."""
CANNOT_WIN = 3.0
"""An option that costs so many times the best by the rule is not replayed: the rule is not off by that much."""
STEP_TOKENS_TRIED = (8192, 2048, 512)
SEQUENCES_TRIED = (MOST_SEQUENCES, 64)
SIMULATED_S = 60.0
WINDOWS_SHOWN = 40
FEWEST_REQUESTS, MOST_REQUESTS = 600, 4000
MOST_PER_SECOND = 50.0
"""Faster traffic is replayed thinned, and the replicas are multiplied, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is replayed: the traffic, and how many times more of it arrives in truth."""

    traffic: Traffic
    times: float
    mean_per_second: float
    """Requests a second over the whole day, in truth."""
    invented: bool


def load_of(demand: Demand, trace: Traffic | None = None) -> Load:
    """The trace, or invented traffic at the rate of the busiest minute."""
    if trace is not None:
        return Load(traffic=trace, times=1.0, mean_per_second=trace.per_second, invented=False)
    peak = peak_per_second(demand)
    times = max(1.0, peak / MOST_PER_SECOND)
    rate = peak / times
    requests = int(min(max(rate * SIMULATED_S, FEWEST_REQUESTS), MOST_REQUESTS))
    traffic = invented(
        per_second=rate, input_tokens=demand.input_tokens, output_tokens=demand.output_tokens, requests=requests
    )
    mean = demand.requests_per_day / DAY_S
    return Load(traffic=traffic, times=times, mean_per_second=mean, invented=True)


def limits_of(demand: Demand) -> Limits:
    """The limits of a demand at the 99th percentile and at the median, in seconds."""
    first, token, whole = (in_seconds(each) for each in (demand.first_token_ms, demand.token_ms, demand.end_to_end_ms))
    half = (demand.first_token_p50_ms, demand.token_p50_ms, demand.end_to_end_p50_ms)
    first_p50, token_p50, whole_p50 = (in_seconds(each) for each in half)
    return Limits(
        first_s=first,
        token_s=token,
        end_to_end_s=whole,
        first_p50_s=first_p50,
        token_p50_s=token_p50,
        end_to_end_p50_s=whole_p50,
    )


def replay_options(
    options: Sequence[PlanOption], shape: Architecture, load: Load, limits: Limits, calibration: Calibration
) -> list[PlanOption]:
    """The options, sized by replay from the cheapest by the rule on; those that then miss a limit say so.

    The first six are always replayed, further ones while CPU time is left and they could still be the cheapest or a
    runner-up; the rest are not in the answer. Without a limit on latency the rule of thumb stands: there is nothing for
    a replay to hold.
    """
    if limits == Limits():
        return [_badged(option, shape, calibration) for option in options]
    sized: list[PlanOption] = []
    began = process_time()
    for option in options:
        if len(sized) >= CANDIDATES and (process_time() - began > REPLAYING_S or _cannot_win(option, sized)):
            break
        sized.append(_replayed(option, shape, load, limits, calibration))
    held = [option for option in sized if not option.rejected]
    if not held:
        return sized
    best = min(held, key=lambda option: option.monthly)
    if best.replicas == 1:
        return sized
    finer = _tried_otherwise(best, shape, load, limits, calibration)
    return [finer if option is best else option for option in sized]


def _cannot_win(option: PlanOption, sized: Sequence[PlanOption]) -> bool:
    held = [one.monthly for one in sized if not one.rejected]
    return bool(held) and option.monthly > CANNOT_WIN * min(held)


def windows_of(
    option: PlanOption, shape: Architecture, load: Load, calibration: Calibration
) -> tuple[ReplayWindow, ...]:
    """The option over the traffic, in parts. What an autoscaler would run follows the rate between its two bounds."""
    if not option.replicas_by_rule:
        return ()
    engine = _engine(option, shape, load, calibration)
    replicas = max(1, round(option.replicas / load.times))
    rows = series(load.traffic, simulate(load.traffic, engine, replicas=replicas), windows=WINDOWS_SHOWN)
    fastest = max(rate for _, rate, _ in rows)
    return tuple(
        ReplayWindow(
            seconds=seconds,
            requests_per_second=rate * load.times,
            replicas=max(option.least_replicas, ceil(option.replicas * rate / fastest)),
            first_token_ms=1e3 * slow,
        )
        for seconds, rate, slow in rows
    )


def idle_monthly(option: PlanOption) -> float:
    """Dollars a month that pay for hours in which the option's accelerators have nothing to do."""
    return option.monthly * (1 - min(option.utilisation, 1.0))


def later_replicas(
    option: PlanOption, shape: Architecture, load: Load, limits: Limits, calibration: Calibration
) -> Later | None:
    """What later traffic may need of an option that was sized by a trace; None where no trace was replayed."""
    if load.invented or not option.replicas_by_rule:
        return None
    engine = _engine(option, shape, load, calibration)
    return count_for_later(load.traffic, engine, limits, option.replicas)


def _engine(option: PlanOption, shape: Architecture, load: Load, calibration: Calibration) -> Engine:
    return engine_of(
        setup_of(option, shape),
        mean_tokens=load.traffic.mean_tokens,
        calibration=calibration,
        chunk=option.step_tokens,
        most=option.sequences,
    )


def worth_measuring(option: PlanOption, shape: Architecture, demand: Demand) -> tuple[str, ...]:
    """Four points to measure first where the interval of a figure crosses its limit; nothing where it does not."""
    limit = demand.first_token_ms
    if not option.first_token_high_ms or limit is None or option.first_token_high_ms <= limit:
        return ()
    setup = setup_of(option, shape)
    return points_to_measure(
        setup, input_tokens=round(demand.input_tokens), output_tokens=max(2, round(demand.output_tokens))
    )


def setup_of(option: PlanOption, shape: Architecture) -> Setup:
    return Setup(
        shape=shape,
        hardware=find_hardware(option.hardware),
        engine=ENGINE,
        precision=_precision(option),
        split=Split(tensor=option.devices_per_replica),
    )


def _precision(option: PlanOption) -> Precision:
    known: tuple[Precision, ...] = ("bf16", "fp8", "int4")
    return next(each for each in known if each == option.precision)


def _replayed(
    option: PlanOption,
    shape: Architecture,
    load: Load,
    limits: Limits,
    calibration: Calibration,
    *,
    chunk: int = 0,
    most: int = MOST_SEQUENCES,
) -> PlanOption:
    setup = setup_of(option, shape)
    engine = engine_of(setup, mean_tokens=load.traffic.mean_tokens, calibration=calibration, chunk=chunk, most=most)
    try:
        found = count_replicas(load.traffic, engine, limits)
    except NothingMeets as missed:
        return replace(_badged(option, shape, calibration), replicas=0, rejected=str(missed).rstrip("."))
    return _sized(option, found, engine, load, shape, calibration)


def _sized(
    option: PlanOption,
    found: ReplicaCount,
    engine: Engine,
    load: Load,
    shape: Architecture,
    calibration: Calibration,
) -> PlanOption:
    replicas = ceil(found.replicas * load.times)
    one = option.monthly / option.replicas
    most = throughput(load.traffic, engine)
    setup = setup_of(option, shape)
    mean_tokens = float((load.traffic.input_tokens + load.traffic.output_tokens).mean())
    room = sequences_that_fit(shape, setup.hardware, setup.split.devices, setup.precision, tokens=mean_tokens)
    sequences = max(1, int(min(engine.most, room)))
    known = novelty(setup, calibration)
    low, high = spread_of(
        known,
        experts=bool(shape.experts),
        figure="first",
        beyond=doubt_of(setup, known, calibration),
        group=model_of(setup),
        calibration=calibration,
    )
    return replace(
        _badged(option, shape, calibration),
        replicas=replicas,
        least_replicas=max(1, ceil(found.least * load.times)),
        first_token_ms=1e3 * found.first_s,
        first_token_low_ms=1e3 * found.first_s * low,
        first_token_high_ms=1e3 * found.first_s * high,
        token_ms=1e3 * found.token_s,
        end_to_end_ms=1e3 * found.end_to_end_s,
        requests_per_second=max(option.requests_per_second / option.replicas * replicas, found.per_second * load.times),
        tokens_per_second=replicas * most * float(load.traffic.output_tokens.mean()),
        utilisation=min(1.0, load.mean_per_second / (replicas * most)),
        monthly=one * replicas,
        sequences=sequences,
        memory=serving_bill(
            shape, setup.hardware, setup.split.devices, setup.precision, sequences=sequences, tokens=mean_tokens
        ),
        step_tokens=engine.step_tokens,
        replicas_by_rule=ceil(found.by_rule * load.times),
    )


def _badged(option: PlanOption, shape: Architecture, calibration: Calibration) -> PlanOption:
    return replace(option, origin=origin_of(novelty(setup_of(option, shape), calibration)))


def _tried_otherwise(
    best: PlanOption, shape: Architecture, load: Load, limits: Limits, calibration: Calibration
) -> PlanOption:
    """The best option with the step size and the batch that need the fewest replicas."""
    found = [best]
    for chunk, most in _ways():
        fresh = replace(best, monthly=best.monthly)
        tried = _replayed(fresh, shape, load, limits, calibration, chunk=chunk, most=most)
        if not tried.rejected:
            found.append(tried)
    return min(found, key=lambda option: option.replicas)


def _ways() -> Iterator[tuple[int, int]]:
    for chunk in STEP_TOKENS_TRIED:
        for most in SEQUENCES_TRIED:
            if (chunk, most) != (STEP_TOKENS_TRIED[0], SEQUENCES_TRIED[0]):
                yield chunk, most
