"""Two releases are compared case by case, and few cases prove nothing."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from slipway.domain.errors import NotComparable
from slipway.domain.evaluation import CaseResult, Comparison, Evaluation, Score
from slipway.domain.ids import ContentHash, ReleaseId
from slipway.domain.release import PartRef, Release
from slipway.evaluate.comparison import compare, compare_evaluations, describe
from slipway.evaluate.dataset import default_dataset, save_cases
from slipway.evaluate.runner import evaluate
from slipway.intervals import mcnemar, paired_difference
from slipway.release.evidence import latest_evidence, list_evidence
from slipway.workspace import Workspace

OpenWith = Callable[..., tuple[Workspace, Release]]


def evaluation(name: str, scores: list[float | None], *, metric: str = "quality", error: int = -1) -> Evaluation:
    return Evaluation(
        id=name,
        release=ReleaseId(name),
        suite="quality",
        dataset=PartRef(name="faq", version=1, hash=ContentHash("h")),
        results=tuple(
            CaseResult(
                case=str(place),
                question=f"question {place}",
                answer="x",
                scores=(Score(metric=metric, value=value),),
                error="dead" if place == error else "",
            )
            for place, value in enumerate(scores)
        ),
        measures=(),
        seed=0,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1.0,
    )


def test_yes_and_no_take_the_paired_interval_and_mcnemar() -> None:
    before, after = evaluation("before", [0] * 12 + [1] * 28), evaluation("after", [1] * 10 + [0] * 4 + [1] * 26)
    found = compare(before, after)
    assert (found.wins, found.losses, found.ties, found.n) == (10, 2, 28, 40)
    assert found.difference == pytest.approx(8 / 40)
    assert found.interval == pytest.approx(paired_difference(26, 10, 2, 2))
    assert found.p_value == pytest.approx(mcnemar(10, 2))
    assert found.clear
    assert found.lost == ("12", "13")
    assert describe(found, "support@1").endswith("better than support@1")


def test_graded_scores_are_bootstrapped() -> None:
    before = evaluation("before", [0.2, 0.4, 0.6, 0.3, 0.5] * 8)
    after = evaluation("after", [0.4, 0.5, 0.9, 0.4, 0.6] * 8)
    found = compare(before, after)
    assert found.interval.low > 0
    assert found.interval.low < found.difference < found.interval.high
    assert "bootstrap" in found.method
    assert compare(before, after) == found, "the same seed gives the same interval"


UNCLEAR = [
    pytest.param([0.0] * 5, [1.0] * 5, id="five of five won, too few"),
    pytest.param([0.5], [0.9], id="one case"),
    pytest.param([0.3] * 30, [0.3] * 30, id="nothing differs"),
    pytest.param([0.0, 1.0] * 20, [1.0, 0.0] * 20, id="as many won as lost"),
    pytest.param([0.2] * 30, [0.2] * 26 + [0.9] * 4, id="four graded cases won, the rest alike"),
]


@pytest.mark.parametrize(("before", "after"), UNCLEAR)
def test_what_chance_could_do_is_no_clear_difference(before: list[float | None], after: list[float | None]) -> None:
    found = compare(evaluation("before", before), evaluation("after", after))
    assert not found.clear
    assert "no clear difference" in describe(found, "a@1")


def test_less_latency_is_better() -> None:
    slow, fast = [1.0 + place / 100 for place in range(30)], [0.5 + place / 100 for place in range(30)]
    found = compare(
        evaluation("before", slow, metric="latency"), evaluation("after", fast, metric="latency"), metric="latency"
    )
    assert (found.wins, found.losses, found.better) == (30, 0, "lower")
    assert describe(found, "a@1").endswith("better than a@1")


def test_only_cases_that_both_scored_count() -> None:
    before = evaluation("before", [1, None, 0, 1, 1], error=3)
    after = evaluation("after", [1, 1, 1, 1])
    found = compare(before, after)
    assert found.n == 2
    with pytest.raises(ValueError, match="latency"):
        compare(before, after, metric="latency")


def test_a_case_whose_question_changed_is_another_case() -> None:
    before, after = evaluation("before", [0, 0]), evaluation("after", [1, 1])
    other = CaseResult(case="1", question="another", answer="x", scores=(Score(metric="quality", value=1.0),))
    found = compare(before, replace(after, results=(after.results[0], other)))
    assert found.n == 1


BAD = {"return a parcel": "The documents do not answer this question.", "dog": "His name is Rex."}


async def test_a_comparison_is_kept_as_evidence_of_the_later_release(open_with: OpenWith) -> None:
    workspace, before = open_with("first", script=BAD)
    await evaluate(workspace, before)
    workspace, after = open_with("second")
    await evaluate(workspace, after)
    assert before.id != after.id
    found = compare_evaluations(workspace, before, after)
    assert found.n == 4
    assert found.before < found.after == 1
    assert set(found.won) == {"return-days", "express-cost", "warranty-years", "ceo"}
    evidence = next(item for item in list_evidence(workspace, after) if item.kind == "comparison")
    assert workspace.store.records.get(Comparison, evidence.source) == found
    assert evidence.measures[0].low == found.interval.low
    assert evidence.summary.endswith(f"no clear difference from {before.label}"), "four cases cannot show more"
    assert latest_evidence(workspace, after)["quality"].kind == "evaluation", "the gate still sees the evaluation"


async def test_releases_that_were_asked_different_cases_are_not_compared(open_with: OpenWith) -> None:
    workspace, before = open_with("first")
    await evaluate(workspace, before)
    workspace, after = open_with("second")
    with pytest.raises(NotComparable, match=f"{after.label} was never evaluated"):
        compare_evaluations(workspace, before, after)
    fewer = save_cases(workspace, "questions", default_dataset(workspace).cases[:3], source="test")
    await evaluate(workspace, after, dataset=fewer)
    with pytest.raises(NotComparable, match="different versions of the dataset") as caught:
        compare_evaluations(workspace, before, after)
    assert f"slipway evaluate run {before.label}" in str(caught.value)
    await evaluate(workspace, after, dataset=fewer)
    with pytest.raises(NotComparable, match="no case has the score 'qualty'"):
        compare_evaluations(workspace, after, after, metric="qualty")
