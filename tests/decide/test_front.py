"""The front and the weights inside it: dominated options go, weights decide among the rest, nonsense is refused."""

from pathlib import Path

import pytest

from slipway.config.settings import DecideSettings
from slipway.decide.decision import compare_roads
from slipway.decide.demand import read_demand
from slipway.decide.front import compare_pairs, pareto_front, weigh
from slipway.decide.options import list_candidates
from slipway.domain.deployment import DecisionRecord, Option
from slipway.domain.errors import InputError
from tests.decide.test_decision import GIVEN, NOW


def option(name: str, **criteria: float) -> Option:
    return Option(road="api", name=name, model=name, monthly=0.0, upfront=0.0, lines=(), criteria=criteria)


CHEAP = option("cheap", cost=1.0, control=1.0, time=1.0)
OURS = option("ours", cost=3.0, control=3.0, time=2.0)
BEATEN = option("beaten", cost=3.0, control=2.0, time=2.0)


def test_an_option_that_another_beats_in_everything_leaves_the_front() -> None:
    assert pareto_front([CHEAP, OURS, BEATEN]) == [CHEAP, OURS]
    assert pareto_front([CHEAP, CHEAP]) == [CHEAP, CHEAP], "equals do not beat each other"
    assert pareto_front([]) == []


def test_a_criterion_that_is_not_known_for_all_is_not_compared() -> None:
    good = option("good", cost=2.0, quality=0.9)
    assert pareto_front([CHEAP, good]) == [CHEAP]
    assert pareto_front([option("cheap", cost=1.0, quality=0.8), good])[1] == good


def test_swing_weights_decide_inside_the_front() -> None:
    assert weigh([CHEAP, OURS], weights={}, pairwise={}).scores == {"cheap": 1.0, "ours": 0.0}
    weighed = weigh([CHEAP, OURS], weights={"cost": 40, "control": 60}, pairwise={})
    assert weighed.weights == {"cost": 0.4, "control": 0.6}
    assert weighed.scores == {"cheap": 0.4, "ours": 0.6}


def test_comparisons_give_weights_and_their_consistency() -> None:
    shares, ratio = compare_pairs({"cost/control": 2, "control/time": 3, "cost/time": 6})
    assert shares == pytest.approx({"cost": 0.6, "control": 0.3, "time": 0.1})
    assert ratio == pytest.approx(0, abs=1e-9)
    # Saaty 1980: the classic 3 x 3 example.
    shares, ratio = compare_pairs({"cost/control": 3, "cost/time": 5, "control/time": 3})
    assert shares == pytest.approx({"cost": 0.637, "control": 0.258, "time": 0.105}, abs=1e-3)
    assert ratio == pytest.approx(0.033, abs=0.002)


REFUSED = [
    pytest.param({"cost/control": 5, "control/time": 5, "cost/time": 0.2}, "consistency ratio", id="a circle"),
    pytest.param({"cost/control": 5, "control/time": 5}, "lacks cost/time", id="a pair is missing"),
    pytest.param({"cost/beauty": 5}, "no pair of criteria", id="no criterion"),
    pytest.param({"cost": 5}, "no pair of criteria", id="no pair"),
    pytest.param({"cost/cost": 5}, "with itself", id="itself"),
    pytest.param({"cost/time": 5, "time/cost": 5}, "contradicts 'cost/time'", id="both ways round"),
]


@pytest.mark.parametrize(("pairwise", "reason"), REFUSED)
def test_comparisons_that_make_no_sense_are_refused(pairwise: dict[str, float], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        compare_pairs(pairwise)


def test_weights_on_what_nobody_measured_are_refused() -> None:
    with pytest.raises(InputError, match="quality, which is not known"):
        weigh([CHEAP, OURS], weights={"quality": 1}, pairwise={})
    with pytest.raises(InputError, match="all 0"):
        weigh([CHEAP], weights={"cost": 0}, pairwise={})
    with pytest.raises(InputError, match="keep one"):
        weigh([CHEAP], weights={"cost": 1}, pairwise={"cost/time": 1})


def decided(**changed: object) -> DecisionRecord:
    settings = DecideSettings(**{**GIVEN, **changed})
    demand = read_demand(settings)
    return compare_roads("lamps", demand, settings, list_candidates(demand, settings, folder=Path()), now=NOW)


def test_weights_turn_a_decision_that_cost_alone_would_make_otherwise() -> None:
    by_cost, by_control = decided(), decided(weights={"cost": 30, "control": 70})
    assert by_cost.weighing is not None
    assert by_cost.weighing.method == "cost alone"
    roads = {one.name: one.road for one in by_cost.options}
    assert roads[by_cost.recommended] == "api"
    assert roads[by_control.recommended] != "api"
    assert by_control.recommended in by_control.front


def test_constraints_come_before_weights() -> None:
    record = decided(weights={"control": 100}, skills="none")
    built = next(one for one in record.options if one.road == "build")
    assert built.rejected
    assert built.name not in record.front
    assert record.recommended != built.name


def test_quality_on_own_questions_is_a_gate_and_a_criterion() -> None:
    scores = {"openai/gpt-5-mini": 0.7, "llama-3.1-8b": 0.9}
    record = decided(quality=scores, quality_needed=0.8)
    api = next(one for one in record.options if one.road == "api")
    assert api.rejected == "it scores 0.7 on your own questions, and quality_needed = 0.8"
    assert "llama" in record.recommended
