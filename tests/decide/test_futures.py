"""Terms over thousands of futures: the same sums as the bills, flips that hold, and a seed that repeats them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from slipway.config.settings import DecideSettings
from slipway.decide.assumptions import Assumptions, assume
from slipway.decide.decision import compare_roads
from slipway.decide.demand import read_demand
from slipway.decide.mixed import Mixed, Phased
from slipway.decide.options import combine, list_candidates
from slipway.decide.roads import Api, Basis, Hosted, Owned, levels
from slipway.decide.sensitivity import FACTORS, Flip, draw_futures, find_flips, spread_of, try_futures
from slipway.decide.terms import Terms, monthly_costs, one_future, overflow_share, total_costs, vary
from slipway.decide.words import say_flips
from slipway.domain.decision import Traffic
from slipway.domain.deployment import DecisionRecord, Demand

GIVEN = {"requests_per_day": 400_000.0, "input_tokens": 1200.0, "output_tokens": 150.0, "gpu_hourly": 2.5}
NOW = datetime(2026, 1, 5, tzinfo=UTC)
STEADY = Assumptions(api_fall=1.0, rent_fall=0.0)


def demand_of(**changed: object) -> tuple[Demand, DecideSettings, Basis]:
    settings = DecideSettings(**{**GIVEN, **changed})
    demand = read_demand(settings)
    return demand, settings, Basis(hourly=2.5, assumptions=assume(settings), horizon_months=demand.horizon_months)


def decided(**changed: object) -> DecisionRecord:
    demand, settings, _ = demand_of(**changed)
    return compare_roads("lamps", demand, settings, list_candidates(demand, settings, folder=Path()), now=NOW)


def test_the_first_month_of_the_futures_is_the_bill_of_each_road() -> None:
    demand, settings, basis = demand_of(requests_per_day=5e6, tuning_tokens=1e8, data_cost=5000.0, batch_share=0.5)
    candidates = list_candidates(demand, settings, folder=Path())
    roads = [*candidates, *combine(candidates, demand, basis)]
    assert {type(one).__name__ for one in roads} >= {"Api", "Hosted", "Owned", "Built", "Mixed"}
    for one in roads:
        bill = one.bill(demand, basis)
        future = one_future(demand, basis.assumptions)
        first = monthly_costs(one.terms(demand, basis), demand, future, basis.assumptions, 36)[0, 0]
        if isinstance(one, Mixed):
            assert first - bill.upfront == pytest.approx(bill.monthly - bill.upfront / 36, rel=0.02), one.name
        else:
            assert first - bill.upfront == pytest.approx(bill.monthly - bill.upfront / 36), one.name


def test_steady_prices_and_traffic_make_every_month_the_same() -> None:
    demand, settings, basis = demand_of()
    api = list_candidates(demand, settings, folder=Path())[0]
    months = monthly_costs(api.terms(demand, basis), demand, one_future(demand, STEADY), STEADY, 12)
    assert months[0] == pytest.approx(np.full(12, months[0, 0]))
    falling = monthly_costs(api.terms(demand, basis), demand, one_future(demand, basis.assumptions), STEADY, 13)[0]
    people = 0.1 * 12_000
    assert (falling[12] - people) * basis.assumptions.api_fall == pytest.approx(falling[0] - people)


def test_what_comes_in_over_the_base_goes_to_the_api() -> None:
    demand, _, _ = demand_of(peak_factor=3.0)
    shape = levels(demand)
    assert np.mean(shape) == pytest.approx(1, abs=0.02)
    assert max(shape) == 3.0
    over = overflow_share(shape, np.array([0.0, 1.0, 3.0, 5.0]))
    assert over[0] == pytest.approx(1)
    assert 0.1 < over[1] < 0.6
    assert over[2] == over[3] == 0


def test_a_growing_application_starts_with_the_api_and_moves_when_that_pays() -> None:
    demand, settings, basis = demand_of(requests_per_day=100_000.0, growth_per_year=8.0)
    candidates = list_candidates(demand, settings, folder=Path())
    phased = next(one for one in combine(candidates, demand, basis) if isinstance(one, Phased))
    month = phased.switch_month(demand, basis)
    assert 0 < month < 36
    given, future = basis.assumptions, one_future(demand, basis.assumptions)
    costs = {
        name: float(total_costs(terms, demand, future, given, 36)[0])
        for name, terms in (
            ("phased", phased.terms(demand, basis)),
            ("api", phased.api.terms(demand, basis)),
            ("hosted", phased.hosted.terms(demand, basis)),
        )
    }
    assert costs["phased"] < min(costs["api"], costs["hosted"])
    by_month = monthly_costs(phased.terms(demand, basis), demand, future, given, 36)[0]
    api = monthly_costs(phased.api.terms(demand, basis), demand, future, given, 36)[0]
    assert by_month[:month] == pytest.approx(api[:month])
    assert by_month[month + 1] < api[month + 1]


def test_a_phased_road_stands_beside_the_others_in_the_record() -> None:
    record = decided(requests_per_day=100_000.0, growth_per_year=8.0)
    phased = next(one for one in record.options if ", then " in one.name)
    assert phased.road == "mixed"
    assert phased.properties["move"].startswith("to machines in month")


def test_own_machines_are_bought_once_and_again_when_traffic_needs_more() -> None:
    demand, settings, basis = demand_of(requests_per_day=1e6, growth_per_year=4.0)
    owned = next(one for one in list_candidates(demand, settings, folder=Path()) if isinstance(one, Owned))
    terms = owned.terms(demand, basis)
    months = monthly_costs(terms, demand, one_future(demand, basis.assumptions), basis.assumptions, 36)[0]
    bought = np.diff(np.concatenate([[0], months]))
    assert months[0] > terms.capex * terms.devices
    assert (bought[1:] > terms.capex * terms.devices * 0.5).any()


def test_machines_that_follow_the_hours_cost_less_than_those_that_never_sleep() -> None:
    by_hour = tuple([0.1] * 12 + [1.9] * 12)
    traffic = Traffic(
        source="made", requests=10, days=7.0, requests_per_day=4e6, input_tokens=1200.0, output_tokens=150.0,
        long_input_tokens=3000.0, long_output_tokens=400.0, peak_factor=2.2, levels=(0.1, 1.9), by_hour=by_hour,
    )  # fmt: skip
    settings = DecideSettings(**GIVEN)
    demand = read_demand(settings, traffic=traffic)
    assert demand.requests_per_day == 4e6, "what was measured goes before what is written"
    basis = Basis(hourly=2.5, assumptions=assume(settings), horizon_months=36)
    hosted = [one for one in list_candidates(demand, settings, folder=Path()) if isinstance(one, Hosted)]
    bills = {one.scaled: one.bill(demand, basis).monthly for one in hosted if one.commitment == "on demand"}
    assert bills[True] < 0.8 * bills[False]
    scaled = next(one for one in hosted if one.scaled)
    future = one_future(demand, basis.assumptions)
    first = monthly_costs(scaled.terms(demand, basis), demand, future, basis.assumptions, 36)[0, 0]
    assert first == pytest.approx(bills[True])


def test_reserved_and_spot_hours_are_roads_where_they_make_sense() -> None:
    names = [option.name for option in decided(gpu_reserved_hourly=1.5).options]
    assert any("reserved h100-sxm" in name for name in names)
    assert not any("spot" in name for name in names), "requests that cannot wait need hours that cannot end"
    waiting = decided(batch_share=1.0)
    spot = next(option for option in waiting.options if "spot" in option.name)
    rented = next(option for option in waiting.options if "rented" in option.name)
    assert spot.monthly < rented.monthly
    api = next(option for option in waiting.options if option.road == "api")
    usual = next(option for option in decided().options if option.name == api.name)
    assert api.monthly - 1200 == pytest.approx((usual.monthly - 1200) / 2), "the batch price is half"


def test_the_same_seed_gives_the_same_futures_and_another_one_others() -> None:
    demand, _, basis = demand_of()
    draws = [
        draw_futures(demand, basis.assumptions, spread_of(demand), None, draws=50, seed=seed) for seed in (1, 1, 2)
    ]
    assert (draws[0].volume == draws[1].volume).all()
    assert (draws[0].volume != draws[2].volume).any()
    many = draw_futures(demand, basis.assumptions, spread_of(demand), None, draws=4000, seed=0)
    inside = np.mean((many.volume > 1 / 1.6) & (many.volume < 1.6))
    assert inside == pytest.approx(0.8, abs=0.03), "four of five lie within the stated factor"
    assert (many.rent == 1).all(), "an own price is certain"


def test_probabilities_add_up_and_follow_the_volume() -> None:
    shares = []
    for volume in (50_000.0, 400_000.0, 3e6):
        record = decided(requests_per_day=volume)
        assert record.sensitivity is not None
        assert sum(one.cheapest for one in record.sensitivity.options) == pytest.approx(1)
        apis = {option.name for option in record.options if option.road == "api"}
        shares.append(sum(one.cheapest for one in record.sensitivity.options if one.option in apis))
        for one in record.sensitivity.options:
            assert one.low <= one.median <= one.high
    assert shares[0] > 0.95
    assert shares[2] < 0.3
    assert shares[0] > shares[1] > shares[2]


def test_what_is_ruled_out_is_never_counted_as_cheapest() -> None:
    record = decided(data_may_leave=False, requests_per_day=1000.0)
    assert record.sensitivity is not None
    ruled_out = {option.name for option in record.options if option.rejected}
    assert ruled_out
    assert all(one.cheapest == 0 for one in record.sensitivity.options if one.option in ruled_out)


def test_a_flip_is_where_the_cheapest_road_changes() -> None:
    demand, settings, basis = demand_of(requests_per_day=100_000.0)
    candidates = list_candidates(demand, settings, folder=Path())
    roads = {one.name: one.terms(demand, basis) for one in candidates}
    chosen = next(one for one in candidates if isinstance(one, Api)).name
    flips = find_flips(roads, demand, basis.assumptions, months=36, chosen=chosen)
    assert {flip.name for flip in flips} >= {"volume", "api_price"}
    step = float(FACTORS[1] / FACTORS[0])
    for flip in flips:
        factors = [flip.factor, flip.factor / step if flip.factor > 1 else flip.factor * step]
        futures = vary(one_future(demand, basis.assumptions), flip.name, factors)
        totals = {name: total_costs(terms, demand, futures, basis.assumptions, 36) for name, terms in roads.items()}
        assert min(totals, key=lambda name: totals[name][0]) == flip.option
        assert min(totals, key=lambda name: totals[name][1]) == chosen


def test_the_input_that_decides_is_named_first() -> None:
    demand, _, basis = demand_of()
    roads = {"a": Terms(per_request=0.001), "b": Terms(people=1.0)}
    spread = spread_of(demand)
    futures = draw_futures(demand, basis.assumptions, spread, None, seed=3)
    found = try_futures(
        roads, demand, basis.assumptions, futures, spread, None, months=36, seed=3, allowed=["a", "b"], chosen="a"
    )
    names = [driver.what for driver in found.drivers]
    assert names.index("Real throughput over the predicted") > 3, "nobody runs a machine here"
    assert set(names[:3]) >= {"Traffic a year later over now", "People needed over the assumed"}
    people = next(driver for driver in found.drivers if driver.what.startswith("People"))
    assert people.weight > 0, "dearer people speak for the road that needs none"


def test_an_answer_inside_the_error_of_the_prediction_asks_for_measurements() -> None:
    demand, settings, basis = demand_of(requests_per_day=900_000.0)
    candidates = list_candidates(demand, settings, folder=Path())
    record = compare_roads("lamps", demand, settings, candidates, now=NOW)
    pairs = list(zip(record.options, candidates, strict=False))
    chosen = next(option for option, _ in pairs if option.name == record.recommended)

    def said(name: str, factor: float) -> str:
        flip = Flip(name=name, factor=factor, option="another road")
        flips = say_flips(chosen, [(chosen, candidates[0])], (), demand, basis, None, [flip], record.sensitivity)
        return next(line for line in flips if "another road costs less" in line)

    assert said("throughput", 0.95).endswith("measure four points first, slipway deploy calibrate.")
    assert "measure" not in said("throughput", 0.3), "no error is that large"
    assert "measure" not in said("staff", 0.95), "people are not measured by a benchmark"
