"""Requirements: what is missing is named, what contradicts itself is refused."""

import pytest

from slipway.config.settings import DecideSettings
from slipway.decide.demand import read_demand
from slipway.domain.errors import RequirementContradiction, RequirementMissing

GIVEN = {"requests_per_day": 5000.0, "input_tokens": 1200.0, "output_tokens": 150.0}

CONTRADICTIONS = [
    pytest.param(
        {"first_token_ms": 900.0, "end_to_end_ms": 500.0}, "first_token_ms", id="the first token after the last"
    ),
    pytest.param({"data_may_leave": False, "open_models": []}, "data_may_leave", id="only APIs, but nothing may leave"),
    pytest.param({"api_models": [], "open_models": []}, "api_models", id="nothing to compare"),
    pytest.param({"context_tokens": 1000}, "context_tokens", id="a mean request longer than the context"),
    pytest.param({"requests_per_day": -1.0}, "requests_per_day", id="negative traffic"),
    pytest.param({"requests_per_day": float("inf")}, "requests_per_day", id="infinite traffic"),
    pytest.param({"growth_per_year": float("nan")}, "growth_per_year", id="growth that is no number"),
    pytest.param({"monthly_budget": 0.0}, "monthly_budget", id="no money at all"),
    pytest.param({"first_token_ms": 0.2}, "network alone", id="faster than the network"),
    pytest.param({"first_token_ms": 20.0, "open_models": []}, "no commercial API answers", id="faster than any API"),
    pytest.param({"batch_share": 1.0, "first_token_ms": 900.0}, "batch_share = 1", id="all may wait, none may"),
    pytest.param({"tuning_tokens": 1e6, "open_models": []}, "nothing to tune", id="tuning without an open model"),
    pytest.param({"peak_factor": 0.5}, "peak_factor", id="a busiest minute below the mean"),
]


def test_a_whole_answer_becomes_a_demand() -> None:
    demand = read_demand(DecideSettings(**GIVEN, residency="EU", skills="strong"))
    assert (demand.requests_per_day, demand.residency, demand.skills) == (5000, "EU", "strong")


def test_missing_answers_are_named_together() -> None:
    with pytest.raises(RequirementMissing, match="requests_per_day, output_tokens") as missing:
        read_demand(DecideSettings(input_tokens=100.0))
    assert missing.value.fields == ("requests_per_day", "output_tokens")
    assert missing.value.exit_code == 2


@pytest.mark.parametrize(("changed", "named"), CONTRADICTIONS)
def test_contradictions_are_refused(changed: dict[str, object], named: str) -> None:
    with pytest.raises(RequirementContradiction, match=named):
        read_demand(DecideSettings(**{**GIVEN, **changed}))
