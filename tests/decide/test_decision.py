"""Decisions: constraints before costs, a break-even with a band, a record that is kept."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slipway.config.settings import DecideSettings
from slipway.decide.decision import compare_roads, decide, latest_decision, require_recommendation
from slipway.decide.demand import read_demand
from slipway.decide.memo import memo
from slipway.decide.options import list_candidates
from slipway.deploy.calibration import calibrate
from slipway.deploy.points import point_of
from slipway.deploy.prediction import predict
from slipway.domain.deployment import DecisionRecord
from slipway.domain.errors import NotFound, NothingMeets, RequirementMissing
from slipway.models.calibrations import OWN_FILE, write_calibration
from slipway.workspace import Workspace

GIVEN = {
    "requests_per_day": 5000.0,
    "input_tokens": 1200.0,
    "output_tokens": 150.0,
    "api_models": ["openai/gpt-5-mini"],
}
NOW = datetime(2026, 1, 5, tzinfo=UTC)


def decided(changed: Mapping[str, object] | None = None) -> DecisionRecord:
    settings = DecideSettings(**{**GIVEN, **(changed or {})})
    demand = read_demand(settings)
    return compare_roads("lamps", demand, settings, list_candidates(demand, settings, folder=Path()), now=NOW)


def test_three_roads_are_compared_line_by_line() -> None:
    record = decided()
    assert {option.road for option in record.options} == {"api", "open", "build"}
    for option in record.options:
        assert option.monthly == pytest.approx(sum(line.monthly for line in option.lines))
        assert all(line.formula and line.source for line in option.lines)
        assert option.horizon_low <= option.horizon_total <= option.horizon_high


def test_an_api_bill_is_its_formula() -> None:
    option = next(option for option in decided({"cached_share": 0.5}).options if option.road == "api")
    requests = 5000 * 365.25 / 12
    by_name = {line.name: line.monthly for line in option.lines}
    assert by_name["Input tokens"] == pytest.approx(requests * 1200 * 0.5 * 0.25 / 1e6)
    assert by_name["Cached input tokens"] == pytest.approx(requests * 1200 * 0.5 * 0.025 / 1e6)
    assert by_name["Evaluation"] == pytest.approx(5000 * (1200 * 0.5 * (0.25 + 0.025) + 150 * 2.0) / 1e6)
    assert by_name["Output tokens"] == pytest.approx(requests * 150 * 2.0 / 1e6)


def test_a_small_application_takes_the_api_and_a_large_one_hosts() -> None:
    small, large = decided(), decided({"requests_per_day": 20e6, "gpu_hourly": 2.5})
    roads = {option.name: option.road for option in (*small.options, *large.options)}
    assert roads[small.recommended] == "api"
    assert roads[large.recommended] == "mixed", "machines for the base, the API for the peaks"
    even = decided({"requests_per_day": 20e6, "gpu_hourly": 2.5, "peak_factor": 1.0})
    assert {option.name: option.road for option in even.options}[even.recommended] == "open"
    for record in (large, even):
        cheapest = {road: min(o.monthly for o in record.options if o.road == road) for road in ("api", "open")}
        assert cheapest["open"] < cheapest["api"]


def test_the_break_even_lies_inside_its_band_and_where_the_curves_cross() -> None:
    record = decided({"gpu_hourly": 2.5})
    crossing = next(one for one in record.breakevens if "rented" in one.cheaper_above)
    assert crossing.low < crossing.requests_per_day < crossing.high
    # The often-quoted "about a million requests a day", in order of magnitude.
    assert 1e5 < crossing.requests_per_day < 1e7
    for point in record.curve:
        below, above = point.monthly[crossing.cheaper_below], point.monthly[crossing.cheaper_above]
        if point.requests_per_day > crossing.requests_per_day:
            assert above < below
        elif point.requests_per_day < crossing.requests_per_day / 3:
            assert above > below


def test_a_volume_inside_the_band_is_called_too_close() -> None:
    crossing = next(one for one in decided({"gpu_hourly": 2.5}).breakevens if "rented" in one.cheaper_above)
    record = decided({"gpu_hourly": 2.5, "requests_per_day": crossing.requests_per_day * 1.1})
    assert "too close to call" in record.verdict
    assert record.recommended == crossing.cheaper_below, "of two that cost the same, the one that starts sooner"


RULED_OUT = [
    pytest.param({"data_may_leave": False}, "by API", "data_may_leave", id="requests may not leave"),
    pytest.param({"open_models": ["llama-65b"], "context_tokens": 2048}, "rented", "forbids commercial", id="licence"),
    pytest.param({"context_tokens": 500_000}, "by API", "context", id="context of a commercial model"),
    pytest.param(
        {"open_models": ["phi-4"], "context_tokens": 20_000}, "rented", "context", id="context of an open model"
    ),
    pytest.param({"first_token_ms": 5.0}, "rented", "first token after", id="latency"),
    pytest.param({"open_models": ["deepseek-r1"], "gpu": "l40s"}, "rented", "GiB", id="memory"),
    pytest.param({"skills": "none"}, "own llama-3.1-8b-sized", "skills", id="nobody has trained a model"),
    pytest.param({"horizon_months": 6}, "own llama-3.1-8b-sized", "starts after 11 months", id="too late"),
    pytest.param({"monthly_users": 8e8}, "rented", "above 700,000,000 users", id="users above the licence's cap"),
    pytest.param({"trains_on_output": True}, "by API", "trains_on_output", id="answers train another model"),
    pytest.param({"monthly_budget": 2000.0}, "rented", "over the budget", id="budget"),
]


@pytest.mark.parametrize(("changed", "option", "reason"), RULED_OUT)
def test_a_hard_constraint_rules_out_with_its_reason(changed: dict[str, object], option: str, reason: str) -> None:
    record = decided(changed)
    found = next(one for one in record.options if option in one.name)
    assert reason in found.rejected
    assert found.name != record.recommended


def test_nothing_meets_names_the_nearest_misses() -> None:
    record = decided({"monthly_budget": 10.0})
    assert record.recommended == ""
    with pytest.raises(NothingMeets, match=r"gpt-5-mini by API: \$1,294 a month is over the budget") as nothing:
        require_recommendation(record)
    assert nothing.value.exit_code == 3


def test_what_would_change_our_mind_is_said_with_numbers() -> None:
    flips = " ".join(decided({"requests_per_day": 300_000, "gpu_hourly": 6.0}).flips)
    assert "requests a day" in flips
    assert "below $" in flips
    assert "data_may_leave = false" in flips


def test_the_price_at_which_hosting_wins_is_where_the_costs_meet() -> None:
    from slipway.decide.assumptions import assume
    from slipway.decide.breakeven import flip_hourly
    from slipway.decide.roads import Basis, Hosted

    settings = DecideSettings(**{**GIVEN, "requests_per_day": 500_000.0, "gpu_hourly": 6.0})
    demand = read_demand(settings)
    basis = Basis(hourly=6.0, assumptions=assume(settings), horizon_months=36)
    candidates = list_candidates(demand, settings, folder=Path())
    hosted = next(one for one in candidates if isinstance(one, Hosted))
    hourly = flip_hourly(candidates[0], hosted, demand, basis)
    assert hourly is not None
    at = Basis(hourly=hourly, assumptions=basis.assumptions, horizon_months=36)
    assert hosted.bill(demand, at).monthly == pytest.approx(candidates[0].bill(demand, basis).monthly)


def test_old_prices_are_flagged() -> None:
    sources = [source for _, _, source in decided().assumptions if "2025" in source]
    assert sources
    assert all("older than six months" in source for source in sources)


def test_the_often_quoted_million_comes_out_and_moves_with_what_it_hangs_on() -> None:
    """A 70B model against an API of its own class at $0.88 a million tokens, as in the development notes."""

    def crossing(**changed: object) -> float:
        given = {
            "open_models": ["llama-3.3-70b"], "api_models": ["together/meta-llama/Llama-3.3-70B-Instruct-Turbo"],
            "input_tokens": 1155.0, "output_tokens": 211.0, "gpu_hourly": 2.95, "engineer_monthly": 0.0, **changed,
        }  # fmt: skip
        record = decided(given)
        found = [one.requests_per_day for one in record.breakevens if "rented" in one.cheaper_above]
        return found[0] if found else float("inf")

    usual = crossing()
    assert 1e5 < usual < 1e7, "about a million requests a day, in order of magnitude"
    assert crossing(gpu_hourly=6.0) > usual, "at that price an hour it may never come"
    assert crossing(peak_factor=1.0) <= usual <= crossing(peak_factor=6.0), "idle hours are paid"
    assert crossing(engineer_monthly=12_000.0) > usual, "people are paid too"
    dear = crossing(api_models=["openai/gpt-4o"])
    assert dear < usual / 3, "against a model at $2.5 and $10 it falls several-fold"


def test_a_model_that_nobody_sells_is_named() -> None:
    with pytest.raises(NotFound, match="openai/gpt-none"):
        decided({"api_models": ["openai/gpt-none"]})


def test_an_open_model_that_is_misspelt_gets_a_suggestion() -> None:
    with pytest.raises(NotFound, match=r"Did you mean 'llama-3\.1-8b'"):
        decided({"open_models": ["llama-3.1-8"]})


def test_hardware_without_a_published_rent_needs_an_own_price() -> None:
    with pytest.raises(RequirementMissing, match="gpu_hourly"):
        decided({"gpu": "b200-sxm"})
    assert decided({"gpu": "b200-sxm", "gpu_hourly": 5.0}).recommended


def test_a_decision_is_kept_once(workspace: Workspace) -> None:
    first = decide(workspace)
    assert decide(workspace) == first
    assert latest_decision(workspace) == first
    assert len(workspace.store.records.list(DecisionRecord)) == 1


def test_before_the_first_decision_the_command_is_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="slipway decide run"):
        latest_decision(workspace)


def test_the_memo_holds_every_number_with_its_source() -> None:
    record = decided()
    pages = memo(record)
    assert pages.executive.verdict == record.verdict
    assert [road.name for road in pages.executive.roads if road.recommended] == [record.recommended]
    assert all(one.source for one in pages.engineer.assumptions)
    assert sum(len(detail.lines) for detail in pages.engineer.details) == sum(len(one.lines) for one in record.options)


def test_own_measurements_move_the_bill_of_the_model_that_was_measured(tmp_path: Path) -> None:
    settings = DecideSettings(**{**GIVEN, "requests_per_day": 2e6, "api_models": [], "open_models": ["llama-3.1-8b"]})
    demand = read_demand(settings)

    def hosted() -> DecisionRecord:
        return compare_roads("lamps", demand, settings, list_candidates(demand, settings, folder=tmp_path), now=NOW)

    published = hosted()
    way = next(one.plan for one in published.options if one.road == "open" and one.plan is not None)
    asked = [
        point_of(
            {"model": "llama-3.1-8b", "hardware": way.hardware, "engine": "vllm", "weights": way.precision,
             "tp": str(way.devices_per_replica), "isl": "1200", "osl": "150", "concurrency": str(users)},
            name=f"{users} users",
        )
        for users in (1, 8, 32, 128)
    ]  # fmt: skip
    fast = [
        replace(point, first_s=0.5 * told.first_s.value, token_s=0.5 * told.token_s.value)
        for point, told in zip(asked, predict(asked), strict=True)
    ]
    write_calibration(calibrate(fast, today=NOW.date()).calibration, tmp_path / OWN_FILE)
    measured = hosted()
    before, after = (
        next(one for one in record.options if one.road == "open" and one.plan is not None)
        for record in (published, measured)
    )
    assert after.plan is not None
    assert after.plan.origin == "calibrated"
    assert after.monthly < 0.9 * before.monthly, "twice as fast machines cost less"
    hours = next(line for line in after.lines if line.name == "Accelerator hours")
    assert hours.origin == "calibrated"
