"""How many replicas later traffic may need: the trace once more, arriving as much faster as traffic comes to grow."""

from math import ceil

import numpy as np

from slipway.deploy.replicas import MOST_REPLICAS, Limits, count_replicas
from slipway.deploy.simulation import Engine, Router
from slipway.deploy.traffic import Traffic
from slipway.domain.errors import NothingMeets
from slipway.models.sizing import DAY_S

SHORT_GROWTH = 1.4
"""How much faster the part after a trace of less than two days may come. Source: of the consecutive halves, thirds and
quarters of three public traces (Azure 2023 conversation and code, Mooncake) nine in ten came at most so many times as
fast as the one before; with any one of the traces left out 1.25 to 1.4."""
LEAST_GROWTH = 1.1
DAYS = 2
MOST_REPLAYED = 50_000
"""Of a longer trace the busiest requests, so many, say by how much the replicas grow."""


def growth_of(traffic: Traffic) -> float:
    """How many times faster later traffic may come: the busiest day over the mean one, or what short traces grow by."""
    day_s = DAY_S * traffic.slowed
    days = int(traffic.span_s // day_s)
    if days < DAYS:
        return SHORT_GROWTH
    counts, _ = np.histogram(traffic.arrival_s, bins=days, range=(0.0, days * day_s))
    return max(LEAST_GROWTH, float(counts.max() / counts.mean()))


def count_for_later(
    traffic: Traffic,
    engine: Engine,
    limits: Limits,
    found: int,
    *,
    router: Router = "round robin",
    compiled: bool = True,
) -> int:
    """Replicas that hold the limits when the same requests come faster by `growth_of`; never fewer than `found`."""
    part = traffic.busiest(MOST_REPLAYED)
    faster = part.at_rate(part.per_second * growth_of(traffic))
    try:
        more = count_replicas(faster, engine, limits, router=router, compiled=compiled).replicas
        if len(part) < len(traffic):
            more = ceil(found * more / count_replicas(part, engine, limits, router=router, compiled=compiled).replicas)
    except NothingMeets:
        return MOST_REPLICAS
    return max(found, more)
