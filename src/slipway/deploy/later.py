"""How many replicas later traffic may need: a trace in other orders, at the rate of its busiest fifth."""

import numpy as np

from slipway.deploy.replicas import MOST_REPLICAS, Limits
from slipway.deploy.simulation import Engine, Router, simulate
from slipway.deploy.traffic import Traffic

ORDERS = 8
WINDOWS = 40
FIFTHS = 5
MOST_REQUESTS = 20_000
"""Of a longer trace so many requests at its end are taken."""


def count_for_later(
    traffic: Traffic,
    engine: Engine,
    limits: Limits,
    found: int,
    *,
    router: Router = "round robin",
    seed: int = 1,
    compiled: bool = True,
) -> int:
    """Replicas that hold the limits in each of eight other orders of the trace's windows, never fewer than `found`.

    Windows are drawn with replacement (block bootstrap; Künsch, 1989) and arrive as fast as in the busiest fifth. A
    trend that goes on beyond the trace is not foreseen: that is what a headroom is for.
    """
    recent = traffic.part(max(0, len(traffic) - MOST_REQUESTS), len(traffic))
    if recent.span_s <= 0 or len(recent) < 2 * WINDOWS:
        return found
    faster = busiest_fifth(recent)
    drawn = np.random.default_rng(seed)
    need = found
    for _ in range(ORDERS):
        other = reordered(recent, drawn)
        other = other.at_rate(other.per_second * faster)
        while need < MOST_REPLICAS and not limits.held_by(
            simulate(other, engine, replicas=need, router=router, compiled=compiled)
        ):
            need += max(1, need // 40)
    return need


def busiest_fifth(traffic: Traffic) -> float:
    """Rate of the busiest fifth of a trace over its mean rate."""
    counts, _ = np.histogram(traffic.arrival_s, bins=FIFTHS)
    return float(counts.max() * FIFTHS / len(traffic))


def reordered(traffic: Traffic, drawn: np.random.Generator) -> Traffic:
    """The windows of a trace, drawn with replacement and put one after the other."""
    width = traffic.span_s / WINDOWS
    begins = np.searchsorted(traffic.arrival_s, np.arange(WINDOWS + 1) * width)
    begins[-1] = len(traffic)
    rows, arrivals = [], []
    for place, window in enumerate(drawn.integers(0, WINDOWS, WINDOWS)):
        members = np.arange(begins[window], begins[window + 1])
        rows.append(members)
        arrivals.append(traffic.arrival_s[members] + (place - window) * width)
    chosen, arrival = np.concatenate(rows), np.concatenate(arrivals)
    order = np.argsort(arrival, kind="stable")
    chosen, arrival = chosen[order], arrival[order]
    blocks = [traffic.blocks[each] for each in chosen] if traffic.blocks else ()
    return Traffic(arrival - arrival[0], traffic.input_tokens[chosen], traffic.output_tokens[chosen], blocks)
