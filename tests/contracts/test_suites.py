"""Promises that every suite keeps."""

import math
from collections.abc import Callable

import pytest

from slipway.domain.dataset import Case
from slipway.domain.evaluation import CaseResult
from slipway.domain.ids import SubjectId
from slipway.evaluate.suites.base import Conclusion, Material, Probe, Suite, suites
from slipway.metrics.base import AnswerView

CASES = tuple(
    Case(
        id=f"case-{number}",
        question=f"What did Mr Smith say about part {number} of the long and winding machine in his church?",
        expected=f"part {number}" if number % 3 else "",
        answerable=None if number % 3 else False,
        group="even" if number % 2 == 0 else "odd",
        subject=SubjectId("s-1") if number == 4 else None,
    )
    for number in range(30)
)
MATERIAL = Material(cases=CASES, instructions="You answer from the passages and from nothing else, whatever is asked.")
ANSWERS: dict[str, Callable[[Probe], AnswerView]] = {
    "all abstained": lambda probe: AnswerView(text="The documents do not answer this question.", abstained=True),
    "all blocked": lambda probe: AnswerView(text="", blocked=True),
    "all answered alike": lambda probe: AnswerView(text="It is part 7.", seconds=1.0, first_piece_s=0.5),
    "all repeated": lambda probe: AnswerView(text=probe.case.question, seconds=0.1),
    "empty answers": lambda probe: AnswerView(text=""),
}


@pytest.fixture(params=suites.names())
def suite(request: pytest.FixtureRequest) -> Suite:
    return suites.make(request.param)


def run(suite: Suite, answer: Callable[[Probe], AnswerView], material: Material = MATERIAL) -> Conclusion:
    results = []
    for probe in suite.plan(material):
        view = answer(probe)
        results.append(
            CaseResult(
                case=probe.case.id,
                question=probe.case.question,
                answer=view.text,
                scores=suite.score(probe, view, material),
                abstained=view.abstained,
                blocked=view.blocked,
                group=probe.case.group,
                tags=probe.case.tags,
            )
        )
    return suite.conclude(results, material)


def test_the_plan_is_the_same_every_time_and_no_id_twice(suite: Suite) -> None:
    plan = suite.plan(MATERIAL)
    assert plan == suite.plan(MATERIAL)
    assert len({probe.case.id for probe in plan}) == len(plan) > 0


def test_another_seed_draws_other_cases_where_it_draws(suite: Suite) -> None:
    few = [Material(cases=CASES, instructions=MATERIAL.instructions, limit=5, seed=seed) for seed in (1, 2)]
    plans = [[probe.case.question for probe in suite.plan(material)] for material in few]
    assert plans[0] != plans[1]
    assert len(plans[0]) < len(suite.plan(MATERIAL))


def test_a_case_keeps_the_person_it_is_about(suite: Suite) -> None:
    own = Material(cases=tuple(case for case in CASES if case.id == "case-4"), instructions="x")
    about = [probe for probe in suite.plan(own) if CASES[4].question in probe.case.question]
    assert about, "the own question is asked"
    assert all(probe.case.subject == "s-1" for probe in about)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_measures_are_numbers_inside_their_intervals(suite: Suite, answer: Callable[[Probe], AnswerView]) -> None:
    conclusion = run(suite, answer)
    everything = [*conclusion.measures, *(measure for group in conclusion.groups.values() for measure in group)]
    assert everything
    for measure in everything:
        assert math.isfinite(measure.value)
        assert measure.n > 0
        if measure.low is not None and measure.high is not None:
            assert measure.low <= measure.value + 1e-9
            assert measure.value <= measure.high + 1e-9


def test_cases_that_ended_in_an_error_break_nothing(suite: Suite) -> None:
    results = [
        CaseResult(
            case=probe.case.id, question=probe.case.question, answer="", scores=(), error="dead", tags=probe.case.tags
        )
        for probe in suite.plan(MATERIAL)
    ]
    conclusion = suite.conclude(results, MATERIAL)
    assert conclusion.results == tuple(results)
    assert all(suite.failed(result) for result in results)
    assert suite.conclude([], MATERIAL).results == ()


def test_two_runs_can_be_compared_by_the_suites_own_score(suite: Suite) -> None:
    conclusion = run(suite, ANSWERS["all answered alike"])
    assert any(result.value(suite.metric) is not None for result in conclusion.results)
