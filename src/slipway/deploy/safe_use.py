"""What share of a replica's throughput the busiest minute of a trace may take: by replay instead of the usual 65 %."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from slipway.config.settings import DecideSettings
from slipway.decide.arrivals import OUTPUT_SHARE, Arrival
from slipway.decide.demand import read_demand
from slipway.decide.roads import cheapest_replica
from slipway.deploy.plan_replay import limits_of
from slipway.deploy.replicas import Limits, count_replicas
from slipway.deploy.simulation import engine_of
from slipway.deploy.traffic import Traffic, traffic_of
from slipway.domain.decision import Traffic as Counted
from slipway.domain.deployment import Demand
from slipway.domain.errors import NothingMeets
from slipway.models.architectures import find_model
from slipway.models.calibrations import Calibration, Setup, calibration_in
from slipway.models.roofline import Split
from slipway.models.sizing import SAFE_UTILISATION, Replica, peak_per_second

MOST_REQUESTS = 20_000
"""Of a longer trace its busiest part of so many requests is replayed."""
REPLICAS = 10
"""The trace is replayed as fast as about so many replicas need, so that rounding up hides nothing."""
LEAST, MOST = 0.2, 0.95


def with_safe_use(
    counted: Counted,
    arrivals: Sequence[Arrival],
    settings: DecideSettings,
    *,
    folder: Path,
    output_share: float = OUTPUT_SHARE,
) -> Counted:
    """The counted traffic with the share that its replay allows the first open model of [decide].

    Without a limit on latency, without an open model, or where no number of replicas holds, it stays as it is.
    """
    demand = read_demand(settings, traffic=counted)
    if not settings.open_models or limits_of(demand) == Limits():
        return counted
    try:
        way, _ = cheapest_replica(
            find_model(settings.open_models[0], folder=folder),
            settings.gpu,
            demand,
            SAFE_UTILISATION,
            calibration := calibration_in(folder),
        )
        found = safe_use(traffic_of(arrivals, output_share=output_share), way, demand, calibration)
    except (LookupError, NothingMeets):
        return counted
    return replace(counted, safe_use=found)


def safe_use(trace: Traffic, way: Replica, demand: Demand, calibration: Calibration | None = None) -> float:
    """Rate of the busiest minute / (replicas that a replay needs x throughput of one). Raises `NothingMeets`."""
    peak = peak_per_second(demand)
    faster = max(1.0, REPLICAS * SAFE_UTILISATION * way.requests_per_second / peak)
    part = trace.busiest(MOST_REQUESTS)
    part = part.at_rate(part.per_second * faster)
    setup = Setup(
        shape=way.shape,
        hardware=way.hardware,
        engine=way.engine,
        precision=way.precision,
        split=Split(tensor=way.devices),
    )
    engine = engine_of(setup, mean_tokens=part.mean_tokens, calibration=calibration)
    needed = count_replicas(part, engine, limits_of(demand)).replicas
    return float(np.clip(peak * faster / (needed * way.requests_per_second), LEAST, MOST))
