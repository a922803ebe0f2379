"""Answers wait in order of urgency, ratings can be taken back, and the evidence follows."""

import asyncio

import pytest

from slipway.domain.errors import NotFound, ReviewInvalid
from slipway.domain.evaluation import CaseResult, Score
from slipway.domain.feedback import Feedback
from slipway.domain.ids import SubjectId, new_id
from slipway.domain.release import Evidence, Release
from slipway.domain.review import Review, ReviewItem
from slipway.evaluate.runner import evaluate
from slipway.release.evidence import latest_evidence
from slipway.release.pipeline import answer
from slipway.review.queue import (
    list_items,
    load_item,
    look,
    next_item,
    queue_answers,
    queue_traces,
    save_review,
    undo_review,
)
from slipway.workspace import Workspace

Evaluated = tuple[Workspace, Release]


def result(**scores: float | None) -> CaseResult:
    return CaseResult(
        case="c",
        question="q",
        answer="a",
        scores=tuple(Score(metric=name, value=value, reason=name) for name, value in scores.items()),
    )


URGENCY = [
    pytest.param(result(attack_success=1.0), 3.0, id="an attack that worked"),
    pytest.param(result(flip_rate=1.0), 2.0, id="a flip"),
    pytest.param(result(over_refusal=1.0), 2.0, id="an innocent question refused"),
    pytest.param(result(quality=0.0), 2.0, id="a wrong answer"),
    pytest.param(result(quality=0.4), 1.6, id="a half right answer"),
    pytest.param(result(quality=1.0, context_overlap=0.5), 0.5, id="right, but not in its passages"),
    pytest.param(result(quality=None, context_overlap=0.9), 0.0, id="nothing known against it"),
    pytest.param(result(attack_success=0.0, over_refusal=0.0), 0.0, id="safe"),
]


@pytest.mark.parametrize(("found", "priority"), URGENCY)
def test_failures_are_urgent_and_doubts_less_so(found: CaseResult, priority: float) -> None:
    assert look(found)[0] == pytest.approx(priority)


def test_swaps_that_changed_nothing_do_not_fill_the_queue(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    asyncio.run(evaluate(workspace, release, suite="bias"))
    asyncio.run(evaluate(workspace, release, suite="safety"))
    items = queue_answers(workspace, release, limit=100)
    assert sum(item.reason.startswith("quality: ") for item in items) == 4
    assert not any(item.reason.startswith("bias: lacks") for item in items)
    assert not any("drawn by chance" in item.reason and not item.reason.startswith("quality") for item in items)


def test_failures_wait_first_and_some_are_drawn_by_chance(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    items = queue_answers(workspace, release)
    assert len(items) == 3
    assert [item.priority for item in items] == sorted((item.priority for item in items), reverse=True)
    assert items[0].priority >= 1
    assert items[0].reason.startswith("quality: ")
    assert items[-1].reason == "quality: drawn by chance"
    assert items[-1].context, "the quoted passage is shown"
    assert {item.release for item in items} == {release.id}
    assert queue_answers(workspace, release) == items, "the same answers are queued once"


def test_a_rated_answer_no_longer_waits_but_others_may_still_rate_it(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    first, *rest = queue_answers(workspace, release)
    save_review(workspace, first, reviewer="ada", rating=2, background="support", note="invented")
    assert list_items(workspace, release) == rest
    assert next_item(workspace, "ada") == rest[0]
    assert next_item(workspace, "ben") == first
    assert load_item(workspace, first.id[:8]) == first


def test_the_evidence_follows_every_rating_and_its_undoing(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    first, second, _ = queue_answers(workspace, release)
    save_review(workspace, first, reviewer="ada", rating=2)
    save_review(workspace, second, reviewer="ada", rating=5)
    save_review(workspace, first, reviewer="ben", rating=1)
    save_review(workspace, second, reviewer="ben", rating=4)
    evidence = latest_evidence(workspace, release)["review"]
    measures = {measure.name: measure for measure in evidence.measures}
    assert (measures["rating"].value, measures["rating"].n) == (3.0, 4)
    assert measures["rating"].low is not None
    assert 1 <= measures["rating"].low < 3
    assert measures["good_share"].value == 0.5
    assert measures["agreement"].value > 0.5
    assert evidence.summary == "4 ratings by 2 people, mean 3.00 of 5"

    assert undo_review(workspace, "ben").rating == 4
    assert latest_evidence(workspace, release)["review"].summary.startswith("3 ratings")
    for reviewer in ("ben", "ada", "ada"):
        undo_review(workspace, reviewer)
    assert "review" not in latest_evidence(workspace, release)
    with pytest.raises(NotFound):
        undo_review(workspace, "ada")


def test_rating_again_replaces_the_rating(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    item = queue_answers(workspace, release)[0]
    save_review(workspace, item, reviewer="ada", rating=2)
    save_review(workspace, item, reviewer="ada", rating=4)
    (review,) = workspace.store.records.list(Review)
    assert review.rating == 4
    assert len([evidence for evidence in workspace.store.records.list(Evidence) if evidence.kind == "review"]) == 1


@pytest.mark.parametrize(
    ("reviewer", "rating"),
    [pytest.param("ada", 0, id="too low"), pytest.param("ada", 6, id="too high"), pytest.param(" ", 3, id="no name")],
)
def test_a_wrong_rating_changes_nothing(evaluated: Evaluated, reviewer: str, rating: int) -> None:
    workspace, release = evaluated
    item = queue_answers(workspace, release)[0]
    with pytest.raises(ReviewInvalid):
        save_review(workspace, item, reviewer=reviewer, rating=rating)
    assert workspace.store.records.list(Review) == []


def test_complaints_from_the_traffic_wait_first_and_go_with_their_person(evaluated: Evaluated) -> None:
    workspace, release = evaluated
    person = SubjectId("s-9")
    asked = asyncio.run(answer(release, "What is your dog called?", workspace=workspace, subject=person))
    asyncio.run(answer(release, "Can I return a parcel?", workspace=workspace))
    workspace.store.records.save(
        Feedback(
            id=new_id(), trace=asked.trace, score=-1, comment="made up", subject=person, created_at=workspace.now()
        )
    )
    items = queue_traces(workspace, release)
    assert [item.question for item in items] == ["What is your dog called?", "Can I return a parcel?"]
    assert items[0].reason == "a user complained: made up"
    assert items[0].subject == person
    review = save_review(workspace, items[0], reviewer="ada", rating=1, note="It is made up.")

    workspace.store.keys.erase(person)
    assert [item.question for item in list_items(workspace, reviewer="ada")] == ["Can I return a parcel?"]
    assert workspace.store.records.find(ReviewItem, items[0].id) is None
    assert workspace.store.records.find(Review, review.id) is None
