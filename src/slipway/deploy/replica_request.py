"""Answers "how many replicas?" from a trace and the names that a command line gives; what makes no sense is refused."""

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from slipway.deploy.later import count_for_later
from slipway.deploy.points import PRECISION_NAMES, match_hardware, match_model
from slipway.deploy.prediction import cache_tokens
from slipway.deploy.replicas import Limits, ReplicaCount, check_halves, count_replicas, in_seconds
from slipway.deploy.requirement import check_headroom
from slipway.deploy.simulation import ROUTERS, Router, engine_of
from slipway.deploy.traffic import Traffic, read_traffic
from slipway.domain.errors import InputError, NotFound, NothingMeets
from slipway.models.calibrations import STEP_TOKENS, Setup, calibration_in
from slipway.models.memory import serving_bill
from slipway.models.roofline import Split

LimitsMs: TypeAlias = tuple[float | None, float | None, float | None]
"""Most milliseconds to the first token, of each token after it, of the whole answer."""
NO_LIMITS: LimitsMs = (None, None, None)
DEFAULT_FIRST_MS, DEFAULT_TOKEN_MS = 1000.0, 50.0


def answer(
    trace: Path,
    *,
    model: str,
    hardware: str,
    devices: int,
    engine: str,
    weights: str,
    limits_ms: LimitsMs,
    p50_ms: LimitsMs = NO_LIMITS,
    share: float,
    rate: float,
    headroom: float,
    router: str,
    chunk: int,
    sequences: int,
    folder: Path,
) -> ReplicaCount:
    """The replicas that hold the limits on that trace.

    Raises `FileMissing`, `FileBroken`, `NotFound` and `InputError` for what makes no sense, `NothingMeets` where the
    model does not fit or no number of replicas holds.
    """
    _refuse(limits_ms, p50_ms, share=share, rate=rate, headroom=headroom, chunk=chunk)
    if router not in ROUTERS:
        raise NotFound("router", router, known=ROUTERS, next_step=f"Choose {' or '.join(ROUTERS)}.")
    if engine not in STEP_TOKENS:
        raise NotFound("engine", engine, known=list(STEP_TOKENS), next_step=f"Choose {', '.join(STEP_TOKENS)}.")
    if weights not in PRECISION_NAMES:
        raise NotFound("precision of weights", weights, known=list(PRECISION_NAMES))
    traffic = read_traffic(trace)
    if rate:
        traffic = traffic.at_rate(rate)
    if headroom:
        traffic = traffic.at_rate(traffic.per_second * (1 + headroom))
    shape, _ = match_model(model, folder=folder)
    setup = Setup(
        shape=shape,
        hardware=match_hardware(hardware),
        engine=engine,
        precision=PRECISION_NAMES[weights],
        split=Split(tensor=devices),
    )
    _refuse_unfit(setup, traffic)
    tables = engine_of(
        setup, mean_tokens=traffic.mean_tokens, calibration=calibration_in(folder), chunk=chunk, most=sequences
    )
    asked = limits_ms if p50_ms != NO_LIMITS else _defaults(limits_ms)
    first, token, whole, first_p50, token_p50, whole_p50 = map(in_seconds, (*asked, *p50_ms))
    limits = Limits(
        first_s=first,
        token_s=token,
        end_to_end_s=whole,
        share=share,
        first_p50_s=first_p50,
        token_p50_s=token_p50,
        end_to_end_p50_s=whole_p50,
    )
    turn: Router = "least load" if router == "least load" else "round robin"
    found = count_replicas(traffic, tables, limits, router=turn)
    later = count_for_later(traffic, tables, limits, found.replicas, router=turn)
    tokens = traffic.input_tokens + traffic.output_tokens
    beyond = int((tokens > shape.context).sum()) if shape.context else 0
    return replace(found, later=later.replicas, growth=later.growth, beyond_context=beyond)


def _defaults(limits: LimitsMs) -> LimitsMs:
    return (DEFAULT_FIRST_MS, DEFAULT_TOKEN_MS, None) if limits == NO_LIMITS else limits


def _refuse(limits: LimitsMs, p50: LimitsMs, *, share: float, rate: float, headroom: float, chunk: int) -> None:
    for limit in (*limits, *p50):
        if limit is not None and not limit > 0:
            raise InputError(f"A limit of {limit:g} ms cannot be held. Give more than 0.")
    check_halves(
        dict(zip(("--ttft-ms", "--tpot-ms", "--end-to-end-ms"), limits, strict=True)),
        dict(zip(("--ttft-p50-ms", "--tpot-p50-ms", "--end-to-end-p50-ms"), p50, strict=True)),
    )
    first, _, whole = limits
    if first is not None and whole is not None and first > whole:
        raise InputError(
            f"--ttft-ms {first:g} is longer than --end-to-end-ms {whole:g}: the first token comes before the whole "
            "answer. Correct one of them."
        )
    if not 0 < share < 1:
        raise InputError(f"A share of {share:g} makes no sense. Give one between 0 and 1, such as 0.99.")
    if not 0 <= rate < float("inf"):
        raise InputError(f"A rate of {rate:g} requests a second makes no sense. Give more than 0.")
    check_headroom(headroom)
    if chunk < 0:
        raise InputError(f"A step of {chunk} tokens makes no sense. Give more than 0.")


def _refuse_unfit(setup: Setup, traffic: Traffic) -> None:
    """Raises `NothingMeets` where weights and the longest request do not fit into the replica's memory."""
    shape, hardware, devices = setup.shape, setup.hardware, setup.split.devices
    if setup.precision not in hardware.efficiency:
        does = ", ".join(hardware.efficiency)
        raise InputError(f"{hardware.name} does not multiply in {setup.precision}. It does {does}.")
    if shape.heads % devices:
        raise InputError(
            f"{shape.name} has {shape.heads} attention heads; they cannot be split over {devices} devices."
        )
    if devices > hardware.devices_per_node:
        raise InputError(
            f"A machine holds {hardware.devices_per_node} x {hardware.name}; a replica fits into one machine."
        )
    longest = int((traffic.input_tokens + traffic.output_tokens).max())
    bill = serving_bill(shape, hardware, devices, setup.precision, sequences=0, tokens=longest)
    if bill.total_gib >= bill.available_gib or cache_tokens(setup) < longest:
        raise NothingMeets(
            f"{shape.name} in {setup.precision} with a request of {longest:,} tokens does not fit on {devices} x "
            f"{hardware.name}: weights {bill.weights_gib:,.0f} + reserve {bill.reserve_gib:,.0f} of "
            f"{bill.available_gib:,.0f} GiB. Take more devices or fewer bits."
        )
