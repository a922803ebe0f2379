"""Promises that every metric keeps."""

import math

import pytest

from slipway.domain.dataset import Case
from slipway.domain.document import Citation, Passage
from slipway.metrics.base import AnswerView, Metric, metrics

PASSAGE = Passage(document="d1", title="D", start=10, end=45, text="The ferry leaves at nine every day.", score=0.9)
CITED = Citation(document="d1", title="D", start=10, end=45, text=PASSAGE.text)

CASES = [
    pytest.param(Case(id="c", question="When does the ferry leave?", expected="at nine"), id="expected answer"),
    pytest.param(Case(id="c", question="When?", answerable=True, spans=(("d1", 10, 45),)), id="place only"),
    pytest.param(Case(id="c", question="Who is the captain?", answerable=False), id="unanswerable"),
    pytest.param(Case(id="c", question="And then?"), id="nothing known"),
    pytest.param(Case(id="c", question="", expected="  ", documents=("d1",)), id="empty texts"),
]
ANSWERS = [
    pytest.param(AnswerView(text="It leaves at nine.", passages=(PASSAGE,), citations=(CITED,)), id="answered"),
    pytest.param(AnswerView(text="", passages=(PASSAGE,)), id="empty answer"),
    pytest.param(AnswerView(text="", blocked=True), id="blocked"),
    pytest.param(AnswerView(text="The documents do not say.", abstained=True, passages=(PASSAGE,)), id="abstained"),
    pytest.param(AnswerView(text="答え 🙂 \x00"), id="strange characters, no passages"),
]


@pytest.fixture(params=metrics.names())
def metric(request: pytest.FixtureRequest) -> Metric:
    return metrics.make(request.param)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_score_is_a_number_or_none_with_a_reason(metric: Metric, case: Case, answer: AnswerView) -> None:
    score = metric.score(case, answer)
    assert metrics.make(score.metric) == metric, "a score is named after its metric"
    assert score.reason
    assert score.value is None or math.isfinite(score.value)
    if not metric.unit and score.value is not None:
        assert 0 <= score.value <= 1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_same_answer_has_the_same_score(metric: Metric, case: Case, answer: AnswerView) -> None:
    assert metric.score(case, answer) == metric.score(case, answer)


def test_a_metric_says_what_it_is_and_which_way_is_better(metric: Metric) -> None:
    assert metrics.help(metric.score(Case(id="c", question="q"), AnswerView(text="")).metric)
    assert metric.better in ("higher", "lower")
