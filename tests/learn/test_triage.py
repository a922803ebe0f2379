"""What users missed, what cases failed and what people complained about becomes findings, each cause once."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from slipway.domain.answer import Answer
from slipway.domain.dataset import Case
from slipway.domain.evaluation import CaseResult, Score
from slipway.domain.feedback import Feedback, Finding, Route
from slipway.domain.ids import new_id
from slipway.domain.release import Release
from slipway.evaluate.dataset import save_cases
from slipway.evaluate.runner import evaluate
from slipway.learn.inbox import list_findings, load_finding, set_state
from slipway.learn.triage import find_from_failures, find_from_feedback, find_from_gaps, likely_cause, triage
from slipway.workspace import Workspace
from tests.learn.conftest import Ask

DOG = "What is the name of the managing director's dog?"
CAT = "How old is the managing director's dog?"


def complain(
    workspace: Workspace, answer: Answer, *, score: float = -1, comment: str = "", correction: str = ""
) -> None:
    workspace.store.records.save(
        Feedback(
            id=new_id(),
            trace=answer.trace,
            score=score,
            comment=comment,
            correction=correction,
            created_at=workspace.now(),
        )
    )


async def test_an_unanswered_question_is_a_gap_for_knowledge(workspace: Workspace, release: Release, ask: Ask) -> None:
    assert (await ask(DOG)).abstained
    assert (await ask(DOG, user="bert")).abstained
    assert not (await ask("Within how many days can I return a parcel?")).abstained
    found = triage(workspace, release)
    assert [(finding.kind, finding.route, finding.questions) for finding in found] == [("gap", "knowledge", (DOG,))]
    assert found[0].volume == 2
    assert found[0].subject is None, "two people asked, it belongs to neither"
    assert len(found[0].traces) == 2
    assert list_findings(workspace) == found
    assert load_finding(workspace, found[0].id[:8]) == found[0]


async def test_a_gap_that_one_person_asked_about_is_that_persons(
    workspace: Workspace, release: Release, ask: Ask
) -> None:
    await ask(DOG)
    assert [finding.subject for finding in find_from_gaps(workspace, release)] == ["anna"]


@pytest.mark.parametrize("channel", ["evaluate", "learn"])
async def test_slipways_own_questions_are_no_gap(
    workspace: Workspace, release: Release, ask: Ask, channel: str
) -> None:
    await ask(DOG, channel=channel)
    assert triage(workspace, release) == []


async def test_what_was_asked_before_a_date_is_left_out(workspace: Workspace, release: Release, ask: Ask) -> None:
    await ask(DOG)
    assert triage(workspace, release, since=workspace.now() + timedelta(minutes=1)) == []
    assert triage(workspace, release, since=workspace.now() - timedelta(minutes=1))


async def test_the_same_gap_is_found_once(workspace: Workspace, release: Release, ask: Ask) -> None:
    await ask(DOG)
    first = triage(workspace, release)
    assert triage(workspace, release) == first
    assert len(list_findings(workspace)) == 1


async def test_a_gap_grows_with_another_question_and_stays_one_finding(
    workspace: Workspace, release: Release, ask: Ask
) -> None:
    await ask(DOG)
    (first,) = triage(workspace, release)
    await ask(DOG)
    await ask(CAT)
    (grown,) = triage(workspace, release)
    assert grown.id == first.id
    assert set(grown.questions) == {DOG, CAT}
    assert grown.volume == 3
    assert list_findings(workspace) == [grown]


async def test_a_finding_that_was_set_aside_stays_aside(workspace: Workspace, release: Release, ask: Ask) -> None:
    await ask(DOG)
    (finding,) = triage(workspace, release)
    set_state(workspace, finding, "dismissed")
    await ask(DOG)
    (again,) = triage(workspace, release)
    assert again.state == "dismissed"
    assert again.volume == 2
    assert list_findings(workspace, state="open") == []


def result(**changed: object) -> CaseResult:
    scores = {"quality": 0.0, **{name: value for name, value in changed.items() if name in ("refused", "citation")}}
    rest = {name: value for name, value in changed.items() if name not in ("refused", "citation", "quality")}
    scores["quality"] = changed.get("quality", 0.0)  # type: ignore[assignment]
    listed = tuple(Score(metric=name, value=value) for name, value in scores.items())  # type: ignore[arg-type]
    return CaseResult(case="c", question="q", answer="a", scores=listed, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("failed", "route"),
    [
        pytest.param(result(quality=1.0), None, id="it did not fail"),
        pytest.param(result(quality=None), None, id="nothing is known about a good answer"),
        pytest.param(result(error="EngineTimeout"), None, id="the engine failed, not the answer"),
        pytest.param(result(blocked=True), "guard", id="a guardrail stopped it"),
        pytest.param(result(abstained=True), "knowledge", id="it was left unanswered"),
        pytest.param(result(refused=0.0), "prompt", id="it was answered though nothing is known"),
        pytest.param(result(citation=0.0), "knowledge", id="another passage was cited"),
        pytest.param(result(citation=1.0), "prompt", id="the right passage was cited, the answer is wrong"),
    ],
)
def test_a_failed_case_is_routed_by_its_cause(failed: CaseResult, route: Route | None) -> None:
    cause = likely_cause(failed)
    assert (cause[1] if cause else None) == route


def cases(workspace: Workspace) -> None:
    save_cases(
        workspace,
        "asked",
        [
            Case(
                id="days", question="Within how many days can I return a parcel?", expected="30 days", answerable=True
            ),
            Case(id="cost", question="What does express shipping cost?", expected="12 euros", answerable=True),
            Case(id="dog", question=DOG, answerable=False),
        ],
        source="a test",
    )


async def test_failed_cases_of_one_cause_are_one_finding(
    parrot: Callable[[str], tuple[Workspace, Release]],
) -> None:
    workspace, release = parrot("It takes 99 weeks.")
    cases(workspace)
    from slipway.evaluate.dataset import load_dataset

    await evaluate(workspace, release, suite="quality", dataset=load_dataset(workspace, "asked"))
    found = {finding.title: finding for finding in find_from_failures(workspace, release)}
    answered = found["Answered although the documents do not hold the answer"]
    assert (answered.route, answered.cases, answered.questions) == ("prompt", ("dog",), (DOG,))
    wrong = [finding for title, finding in found.items() if title != answered.title]
    assert sorted(case for finding in wrong for case in finding.cases) == ["cost", "days"]
    assert all(finding.kind == "failure" and finding.release == release.id for finding in found.values())
    assert all(len(finding.traces) == finding.volume for finding in found.values())
    first = triage(workspace, release)
    assert triage(workspace, release) == first, "the same causes are found once"


async def test_more_failed_cases_of_a_cause_grow_its_finding(
    parrot: Callable[[str], tuple[Workspace, Release]],
) -> None:
    from slipway.evaluate.dataset import load_dataset

    workspace, release = parrot("It takes 99 weeks.")
    for questions in ([DOG], [DOG, CAT]):
        rows = [Case(id=str(number), question=text, answerable=False) for number, text in enumerate(questions)]
        save_cases(workspace, "asked", rows, source="a test")
        await evaluate(workspace, release, suite="quality", dataset=load_dataset(workspace, "asked"))
        found = triage(workspace, release)
    assert [finding.volume for finding in list_findings(workspace)] == [2]
    assert list_findings(workspace) == found


async def test_a_complaint_is_a_test_case_and_with_a_correction_a_training_pair(
    workspace: Workspace, release: Release, ask: Ask
) -> None:
    bare = await ask("What does express shipping cost?")
    corrected = await ask("Within how many days can I return a parcel?")
    happy = await ask("How long is the warranty of a lamp?")
    complain(workspace, bare, comment="That is wrong")
    complain(workspace, corrected, correction="Within 30 days, and 60 for gifts.")
    complain(workspace, happy, score=1)
    found = {finding.route: finding for finding in find_from_feedback(workspace, release)}
    assert found.keys() == {"dataset", "training"}
    assert found["dataset"].detail == "That is wrong"
    assert found["dataset"].questions == ("What does express shipping cost?",)
    assert found["training"].facts["correction"] == "Within 30 days, and 60 for gifts."
    assert found["training"].traces == (corrected.trace,)
    first = triage(workspace, release)
    assert [finding.id for finding in triage(workspace, release)] == [finding.id for finding in first]
    assert len(list_findings(workspace)) == 2


async def test_feedback_on_another_release_or_on_a_lost_trace_is_not_ours(
    workspace: Workspace, release: Release, ask: Ask
) -> None:
    from dataclasses import replace

    from slipway.domain.ids import ReleaseId, TraceId

    given = await ask("What does express shipping cost?")
    complain(workspace, given)
    other = replace(release, id=ReleaseId("0" * 64))
    assert find_from_feedback(workspace, other) == []
    workspace.store.records.save(Feedback(id="lost", trace=TraceId("0" * 32), score=-1, created_at=workspace.now()))
    assert len(find_from_feedback(workspace, release)) == 1


def test_a_finding_that_is_not_there_is_named(workspace: Workspace) -> None:
    from slipway.domain.errors import NotFound

    with pytest.raises(NotFound, match="slipway learn list"):
        load_finding(workspace, "nothing")
    assert workspace.store.records.list(Finding) == []
