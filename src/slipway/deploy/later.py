"""How many replicas later traffic may need: the trace once more, arriving as much faster as traffic comes to grow."""

from math import ceil
from typing import NamedTuple

import numpy as np

from slipway.deploy.replicas import Limits, count_replicas, fewest_for
from slipway.deploy.simulation import Engine, Router
from slipway.deploy.traffic import Traffic
from slipway.domain.errors import NothingMeets
from slipway.models.sizing import DAY_S

STEADY_GROWTH, DEVIATIONS = 1.6, 1.5
"""What a trace of less than two days may grow by: so many times where all its quarters need the same, and so many
standard deviations more where they do not. Source: 680 pairs of consecutive parts of three public traces (Azure 2023
conversation and code, Mooncake), which benchmarks/deploy/later.py samples. What the next part needs differs from what
this one does by about as much as its quarters differ: 1.4 for every trace was too low by more than one replica in 15 %
of the pairs, this in 1 %."""
LEAST_GROWTH = 1.1
DAYS, QUARTERS = 2, 4
MOST_REPLAYED = 50_000
"""Of a longer trace the busiest requests, so many, say by how much the replicas grow."""


class Later(NamedTuple):
    """Replicas for later traffic, and how many times faster it is taken to come."""

    replicas: int
    growth: float


def growth_of(
    traffic: Traffic, engine: Engine, limits: Limits, *, router: Router = "round robin", compiled: bool = True
) -> float:
    """How many times faster later traffic may come.

    Of two days and more the busiest day over the mean one. A shorter trace has seen no whole cycle: the spread of what
    its quarters need stands for how the next may differ.
    """
    day_s = DAY_S * traffic.slowed
    days = int(traffic.span_s // day_s)
    if days >= DAYS:
        counts, _ = np.histogram(traffic.arrival_s, bins=days, range=(0.0, days * day_s))
        # A day on which nothing came was not recorded rather than quiet.
        return max(LEAST_GROWTH, float(counts.max() / counts[counts > 0].mean()))
    found = [
        fewest_for(part.busiest(MOST_REPLAYED // QUARTERS), engine, limits, router=router, compiled=compiled)
        for part in traffic.windows(QUARTERS)
    ]
    needed = np.array([each for each in found if each is not None], dtype=np.float64)
    spread = float(needed.std() / needed.mean()) if len(needed) else 0.0
    return STEADY_GROWTH + DEVIATIONS * spread


def count_for_later(
    traffic: Traffic,
    engine: Engine,
    limits: Limits,
    found: int,
    *,
    router: Router = "round robin",
    compiled: bool = True,
) -> Later:
    """Replicas that hold the limits when the same requests come faster by `growth_of`; never fewer than `found`."""
    growth = growth_of(traffic, engine, limits, router=router, compiled=compiled)
    part = traffic.busiest(MOST_REPLAYED)
    faster = part.at_rate(part.per_second * growth)
    try:
        more = count_replicas(faster, engine, limits, router=router, compiled=compiled).replicas
        if len(part) < len(traffic):
            more = ceil(found * more / count_replicas(part, engine, limits, router=router, compiled=compiled).replicas)
    except NothingMeets:
        # Held at the trace's own rate and by no number at this one: as many more as there are more requests.
        more = ceil(found * growth)
    return Later(max(found, more), growth)
