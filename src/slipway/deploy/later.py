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
"""A longer trace is not replayed again: replicas then grow with the rate, which is a little too many."""


def growth_of(traffic: Traffic) -> float:
    """How many times faster later traffic may come: the busiest day over the mean one, or what short traces grow by."""
    days = int(traffic.span_s // DAY_S)
    if days < DAYS:
        return SHORT_GROWTH
    counts, _ = np.histogram(traffic.arrival_s, bins=days, range=(0.0, days * DAY_S))
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
    growth = growth_of(traffic)
    if len(traffic) > MOST_REPLAYED:
        return min(MOST_REPLICAS, ceil(found * growth))
    faster = traffic.at_rate(traffic.per_second * growth)
    try:
        return max(found, count_replicas(faster, engine, limits, router=router, compiled=compiled).replicas)
    except NothingMeets:
        return MOST_REPLICAS
