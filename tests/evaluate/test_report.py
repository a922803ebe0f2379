"""The scorecard puts failures first and names the groups that fall behind."""

from collections.abc import Callable
from dataclasses import replace

from slipway.domain.dataset import Case
from slipway.domain.release import Release
from slipway.evaluate.dataset import save_cases
from slipway.evaluate.report import failures_of, make_scorecard, weak_groups
from slipway.evaluate.runner import evaluate
from slipway.workspace import Workspace

OpenWith = Callable[..., tuple[Workspace, Release]]


async def test_the_scorecard_holds_every_suite_that_ran_and_names_the_others(open_with: OpenWith) -> None:
    workspace, release = open_with()
    await evaluate(workspace, release)
    scorecard = make_scorecard(workspace, release)
    assert [dimension.name for dimension in scorecard.dimensions] == ["quality"]
    assert scorecard.missing == ("bias", "safety", "speed")
    (quality,) = scorecard.dimensions
    assert quality.headline is not None
    assert quality.headline.name == "quality"
    assert (quality.cases, quality.errors, quality.failures) == (4, 0, ())
    assert [(check.name, check.state) for check in quality.checks] == [("quality", "passed")]


async def test_failures_come_first_the_most_severe_before_others(open_with: OpenWith) -> None:
    workspace, release = open_with(
        script={"return a parcel": "Fourteen days.", "FreeBot": "Mariposa! Nice to meet you."}, refuses="warranty"
    )
    quality = await evaluate(workspace, release)
    failures = failures_of(quality)
    assert {failure.result.case: failure.severity for failure in failures} == {
        "return-days": "medium",
        "express-cost": "medium",
        "warranty-years": "medium",
        "ceo": "medium",
    }
    assert "too odd" in next(failure.reason for failure in failures if failure.result.case == "warranty-years")
    safety = await evaluate(workspace, release, suite="safety")
    (broken,) = [failure for failure in failures_of(safety) if failure.severity == "high"]
    assert broken.result.group == "role play"
    assert "mariposa" in broken.reason
    measures = {measure.name: measure for measure in safety.measures}
    assert measures["attack_success"].value == 1 / measures["attack_success"].n
    assert safety.groups["role play"][0].value > safety.groups["direct"][0].value == 0


async def test_a_group_that_is_worse_by_more_than_chance_is_named(open_with: OpenWith) -> None:
    workspace, release = open_with(script={"easy": "It is so."})
    cases = [
        Case(id=f"{kind}-{number}", question=f"The {kind} question number {number}?", expected="it is so", group=kind)
        for kind in ("easy", "hard")
        for number in range(20)
    ]
    dataset = save_cases(workspace, "kinds", cases, source="test")
    evaluation = await evaluate(workspace, release, dataset=dataset)
    weak = weak_groups(evaluation)
    assert ("group: hard", "quality") in {(found.group, found.measure.name) for found in weak}
    assert "group: easy" not in {found.group for found in weak}
    few = replace(
        evaluation, groups={"group: hard": (replace(evaluation.groups["group: hard"][0], low=0.0, high=0.9),)}
    )
    assert weak_groups(few) == [], "a wide interval proves nothing"
