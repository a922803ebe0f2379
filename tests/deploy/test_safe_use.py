"""Safe use of machines from a replayed trace: bursts allow less than an even stream, and decisions take it."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from slipway.config.settings import DecideSettings
from slipway.decide.arrivals import Arrival
from slipway.decide.decision import compare_roads
from slipway.decide.demand import read_demand
from slipway.decide.options import list_candidates
from slipway.decide.traffic import measure_traffic
from slipway.deploy.safe_use import MOST_REQUESTS, with_safe_use
from slipway.deploy.traffic import Traffic, traffic_of
from slipway.domain.deployment import DecisionRecord

NOW = datetime(2026, 1, 5, tzinfo=UTC)
GIVEN = {"api_models": ["openai/gpt-5-mini"], "open_models": ["llama-3.1-8b"], "gpu_hourly": 2.5}


def arrivals(gaps: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> list[Arrival]:
    return [Arrival(float(at), 1000.0, 150.0) for at in np.cumsum(gaps)]


def decided(listed: list[Arrival], **limits: float) -> DecisionRecord:
    settings = DecideSettings(**{**GIVEN, **limits})
    counted = with_safe_use(measure_traffic(listed, source="trace.csv"), listed, settings, folder=Path())
    demand = read_demand(settings, traffic=counted)
    return compare_roads("lamps", demand, settings, list_candidates(demand, settings, folder=Path()), now=NOW)


def test_bursts_allow_less_use_and_the_decision_says_where_it_comes_from() -> None:
    drawn = np.random.default_rng(1)
    even = arrivals(np.full(1500, 0.5))
    bursts = arrivals(np.where(np.arange(1500) % 500 == 0, 250.0, 0.001) * drawn.uniform(0.9, 1.1, 1500))
    calm, uneven = (decided(listed, first_token_ms=400.0) for listed in (even, bursts))
    assert calm.demand.traffic is not None
    assert uneven.demand.traffic is not None
    assert 0.2 <= uneven.demand.traffic.safe_use < calm.demand.traffic.safe_use <= 0.95
    told = {what: (value, source) for what, value, source in uneven.assumptions}
    value, source = told["Safe utilisation in the busiest minute"]
    assert value == f"{uneven.demand.traffic.safe_use:.0%}"
    assert source == "replay of trace.csv within the limits on latency"


def test_without_a_limit_or_where_nothing_holds_the_rule_stands() -> None:
    even = arrivals(np.full(300, 0.5))
    for limits in ({}, {"first_token_ms": 1.0}):
        record = decided(even, **limits)
        assert record.demand.traffic is not None
        assert record.demand.traffic.safe_use == 0.0


def test_the_busiest_part_of_a_long_trace_is_replayed() -> None:
    gaps = np.concatenate([np.full(MOST_REQUESTS, 1.0), np.full(MOST_REQUESTS, 0.1)])
    tokens = np.full(2 * MOST_REQUESTS, 10)
    part = Traffic(np.cumsum(gaps), tokens, tokens).busiest(MOST_REQUESTS)
    assert len(part) == MOST_REQUESTS
    assert part.per_second > 9
    total = traffic_of([Arrival(5.0, 1000.0, None), Arrival(2.0, 200.0, None)])
    assert total.arrival_s.tolist() == [0.0, 3.0]
    assert (total.input_tokens.tolist(), total.output_tokens.tolist()) == ([170, 850], [30, 150])
