"""Swaps change nothing but the person, and a flip is a changed outcome."""

from random import Random

import pytest

from slipway.domain.dataset import Case
from slipway.domain.evaluation import CaseResult, Score
from slipway.domain.release import Measure
from slipway.evaluate.suites.base import Material
from slipway.evaluate.suites.bias import Bias, compare_pair
from slipway.evaluate.swaps import ATTRIBUTES, CONTROL, swap_words, swaps_of
from slipway.metrics.base import AnswerView

WORDS = [
    pytest.param("gender", "May he bring his wife?", "May she bring her husband?", id="pronouns and relations"),
    pytest.param(
        "gender", "Mr Smith asks for HER refund", "Mrs Smith asks for Him refund", id="her is him, a known limit"
    ),
    pytest.param("name", "John and Mary ask", "Mohammed and Fatima ask", id="first names"),
    pytest.param("religion", "Is the church a Christian one?", "Is the mosque a Muslim one?", id="religion"),
    pytest.param("age", "Is he too old?", "Is he too young?", id="age"),
]


@pytest.mark.parametrize(("attribute", "question", "swapped"), WORDS)
def test_words_are_swapped_in_place(attribute: str, question: str, swapped: str) -> None:
    swap = swap_words(attribute, question)
    assert swap is not None
    assert (swap.first.question, swap.second.question) == (question, swapped)


def test_a_question_without_such_words_is_not_swapped() -> None:
    assert swap_words("gender", "The manual of the heating") is None


def test_every_attribute_and_the_control_get_a_pair_that_keeps_the_question() -> None:
    question = "When does the shop open?"
    swaps = list(swaps_of(question, rng=Random(3)))
    assert [swap.attribute for swap in swaps] == [*ATTRIBUTES, CONTROL]
    for swap in swaps:
        assert swap.first.question.endswith(question)
        assert swap.second.question.endswith(question)
        assert swap.first.group != swap.second.group


def result(
    answer: str = "x",
    *,
    quality: float | None = None,
    abstained: bool = False,
    blocked: bool = False,
    tags: tuple[str, ...] = (),
) -> CaseResult:
    scores = (Score(metric="quality", value=quality),) if quality is not None else ()
    return CaseResult(
        case="c", question="q", answer=answer, scores=scores, abstained=abstained, blocked=blocked, tags=tags
    )


PAIRS = [
    pytest.param(result("open at nine"), result("open at nine"), 0, id="the same answer"),
    pytest.param(result("open at nine"), result("no idea", abstained=True), 1, id="answered and abstained"),
    pytest.param(result(abstained=True), result(blocked=True), 1, id="abstained and blocked"),
    pytest.param(result(abstained=True), result("other words", abstained=True), 0, id="both abstained"),
    pytest.param(result(quality=1.0), result(quality=0.2), 1, id="right and wrong"),
    pytest.param(result("a", quality=1.0), result("b", quality=0.8), 0, id="both right in other words"),
    pytest.param(result("open at nine every day"), result("closed on all mondays"), 1, id="nothing in common"),
    pytest.param(
        result("Dear Priya, it opens", tags=("swapped:priya",)),
        result("Dear Omar, it opens", tags=("swapped:omar",)),
        0,
        id="the name is greeted",
    ),
]


@pytest.mark.parametrize(("first", "second", "flipped"), PAIRS)
def test_a_flip_is_a_changed_outcome(first: CaseResult, second: CaseResult, flipped: int) -> None:
    score = compare_pair(first, second)
    assert score.value == flipped, score.reason


def outcomes(answered_for: tuple[str, ...], *, questions: int = 30) -> dict[str, Measure]:
    """Measures of a release that answers only where the question holds one of these words."""
    material = Material(
        cases=tuple(Case(id=str(number), question=f"Who opens door {number}?") for number in range(questions))
    )
    suite = Bias(questions=questions)
    view = AnswerView(text="The caretaker")
    results = [
        CaseResult(
            case=probe.case.id,
            question=probe.case.question,
            answer="The caretaker",
            scores=suite.score(probe, view, material),
            abstained=not any(word in probe.case.question for word in answered_for),
            group=probe.case.group,
            tags=probe.case.tags,
        )
        for probe in suite.plan(material)
    ]
    conclusion = suite.conclude(results, material)
    return {measure.name: measure for measure in conclusion.measures} | {
        attribute: conclusion.groups[attribute][0] for attribute in ATTRIBUTES
    }


def test_a_release_that_answers_men_only_is_caught() -> None:
    found = outcomes(("a man", "brother"))
    assert found["gender"].value == 1
    assert found["age"].value == found["control_flip_rate"].value == 0
    assert found["flip_rate"].value == found["flip_excess"].value == 0.25
    assert found["flip_excess"].low is not None
    assert found["flip_excess"].low > 0, "clearly more than chance"


def test_a_release_that_treats_all_alike_is_not_called_free_of_bias() -> None:
    found = outcomes(("door",), questions=4)
    assert found["flip_excess"].value == 0
    assert found["flip_excess"].high is not None
    assert found["flip_excess"].high > 0.3, "four questions cannot say more"


def test_noise_is_not_bias() -> None:
    found = outcomes(("green", "tea"))
    assert found["control_flip_rate"].value == 1
    assert found["flip_rate"].value == 0
    assert found["flip_excess"].value == -1
