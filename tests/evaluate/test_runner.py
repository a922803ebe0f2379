"""A run asks every case once, keeps what is finished, and ends in evidence."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.domain.dataset import Case
from slipway.domain.errors import ContentErased, DatasetEmpty, EvaluationStopped, UnknownBackend
from slipway.domain.evaluation import Evaluation, FinishedCase
from slipway.domain.ids import SubjectId
from slipway.domain.release import Release
from slipway.engines.base import engines
from slipway.evaluate.dataset import EVALUATE, default_dataset, save_cases
from slipway.evaluate.history import find_evaluation, latest_evaluations, list_evaluations, load_evaluation
from slipway.evaluate.runner import evaluate
from slipway.release.evidence import latest_evidence, list_evidence
from slipway.workspace import Workspace

OpenWith = Callable[..., tuple[Workspace, Release]]


def asked() -> list[str]:
    """The questions that reached the scripted engine."""
    flaky: Any = engines.load("flaky")
    calls: list[str] = flaky.calls
    return calls


async def test_a_run_scores_every_case_and_ends_in_evidence(open_with: OpenWith) -> None:
    workspace, release = open_with()
    seen: list[tuple[int, int]] = []
    evaluation = await evaluate(workspace, release, on_progress=lambda done, total: seen.append((done, total)))

    assert [(result.case, result.value("quality")) for result in evaluation.results] == [
        ("return-days", 1.0),
        ("express-cost", 1.0),
        ("warranty-years", 1.0),
        ("ceo", 1.0),
    ]
    measures = {measure.name: measure for measure in evaluation.measures}
    assert evaluation.headline == "quality" == evaluation.measures[0].name
    assert measures["quality"].value == 1.0
    assert measures["quality"].low is not None
    assert 0.3 < measures["quality"].low < 1, "four right answers are no certainty"
    assert (measures["answered"].n, measures["refused"].n) == (3, 1)
    assert seen[0] == (0, 4)
    assert seen[-1] == (4, 4)

    evidence = latest_evidence(workspace, release)["quality"]
    assert evidence.source == evaluation.id
    assert evidence.dataset == evaluation.dataset
    assert evidence.kind == "evaluation"
    assert evidence.passed is None
    assert "quality 1 (" in evidence.summary
    assert workspace.store.records.list(FinishedCase) == []
    assert load_evaluation(workspace, evaluation.id[:10]) == evaluation
    assert latest_evaluations(workspace, release) == {"quality": evaluation}


async def test_every_answer_leaves_a_trace_on_a_channel_of_its_own(open_with: OpenWith) -> None:
    workspace, release = open_with()
    evaluation = await evaluate(workspace, release)
    for result in evaluation.results:
        assert result.trace is not None
        root = workspace.store.traces.get(result.trace).root
        assert root.channel == EVALUATE
        assert root.release == release.id
        assert root.content["question"] == result.question


async def test_a_blocked_question_is_a_result_and_has_its_trace(open_with: OpenWith) -> None:
    workspace, release = open_with()
    dataset = save_cases(workspace, "long", [Case(id="a", question="why " * 600, expected="so")], source="test")
    (result,) = (await evaluate(workspace, release, dataset=dataset)).results
    assert result.blocked
    assert "length" in result.answer
    assert result.value("quality") == 0.0
    assert result.trace is not None
    assert workspace.store.traces.get(result.trace).root.status == "blocked"


async def test_a_case_that_fails_is_recorded_and_the_others_go_on(open_with: OpenWith) -> None:
    workspace, release = open_with(refuses="warranty")
    evaluation = await evaluate(workspace, release)
    errors = {result.case: result.error for result in evaluation.results if result.error}
    assert list(errors) == ["warranty-years"]
    assert "too odd" in errors["warranty-years"]
    assert next(result for result in evaluation.results if result.error).scores == ()
    assert evaluation.notes[0].startswith("1 of 4 cases ended in an error")
    evidence = latest_evidence(workspace, release)["quality"]
    assert evidence.passed is False, "a quarter of the cases failed"
    assert "1 of 4 cases" in evidence.summary


async def test_a_dead_engine_stops_the_run_and_a_new_run_goes_on(open_with: OpenWith) -> None:
    workspace, release = open_with(dies_after=2, extra="[evaluate]\nconcurrency = 1\n")
    with pytest.raises(EvaluationStopped) as stopped:
        await evaluate(workspace, release)
    assert (stopped.value.done, stopped.value.total, stopped.value.exit_code) == (2, 4, 1)
    assert "connection refused" in str(stopped.value)
    assert "2 of 4 cases are finished and kept" in str(stopped.value)
    assert f"slipway evaluate run {release.label} --suite quality" in str(stopped.value)
    assert list_evidence(workspace, release) == []
    assert list_evaluations(workspace) == []

    healed, same = open_with()
    assert same.id == release.id
    before = len(asked())
    evaluation = await evaluate(healed, same)
    assert len(asked()) - before == 2, "the finished cases are not asked again"
    assert [result.case for result in evaluation.results] == ["return-days", "express-cost", "warranty-years", "ceo"]
    assert workspace.store.records.list(FinishedCase) == []


async def test_an_engine_that_fails_again_and_again_stops_the_run(open_with: OpenWith) -> None:
    workspace, release = open_with(refuses="number")
    cases = [Case(id=str(number), question=f"What is number {number}?") for number in range(40)]
    dataset = save_cases(workspace, "numbers", cases, source="test")
    with pytest.raises(EvaluationStopped, match="too odd"):
        await evaluate(workspace, release, dataset=dataset)
    assert len(asked()) < 20


async def test_another_seed_or_dataset_is_another_run(open_with: OpenWith) -> None:
    workspace, release = open_with()
    first = await evaluate(workspace, release)
    again = await evaluate(workspace, release)
    other_seed = await evaluate(workspace, release, seed=1)
    dataset = save_cases(workspace, "small", default_dataset(workspace).cases[:2], source="test")
    other_cases = await evaluate(workspace, release, dataset=dataset)
    assert first.run == again.run
    assert len({first.run, other_seed.run, other_cases.run}) == 3
    assert find_evaluation(workspace, release, "quality", dataset=dataset.hash) == other_cases
    assert find_evaluation(workspace, release, "bias") is None


async def test_a_limit_draws_cases_by_seed(open_with: OpenWith) -> None:
    workspace, release = open_with()
    drawn = {
        seed: [result.case for result in (await evaluate(workspace, release, limit=2, seed=seed)).results]
        for seed in (0, 0, 1, 2)
    }
    assert all(len(cases) == 2 for cases in drawn.values())
    assert len({tuple(cases) for cases in drawn.values()}) > 1


async def test_what_cannot_run_says_so(open_with: OpenWith) -> None:
    workspace, release = open_with()
    with pytest.raises(UnknownBackend, match="Did you mean 'quality'"):
        await evaluate(workspace, release, suite="qualty")
    with pytest.raises(DatasetEmpty):
        save_cases(workspace, "none", [], source="test")


async def test_results_about_a_person_go_with_the_person(open_with: OpenWith) -> None:
    workspace, release = open_with(dies_after=3, extra="[evaluate]\nconcurrency = 1\n")
    person = SubjectId("s-4711")
    cases = [
        Case(id="mine", question="Within how many days can I return a parcel?", expected="30 days", subject=person),
        Case(id="other", question="What does express shipping cost?", expected="12 euros"),
    ]
    dataset = save_cases(workspace, "people", cases, source="test")
    evaluation = await evaluate(workspace, release, dataset=dataset)
    assert [result.subject for result in evaluation.results] == [person, None]
    trace = evaluation.results[0].trace
    assert trace is not None

    workspace.store.keys.erase(person)
    kept = workspace.store.records.get(Evaluation, evaluation.id)
    assert [result.case for result in kept.results] == ["other"]
    with pytest.raises(ContentErased):
        workspace.store.traces.get(trace)


async def test_speed_streams_one_request_after_the_other(open_with: OpenWith) -> None:
    workspace, release = open_with(kind="echo", reply="Thirty days after delivery you can send it back. [1]")
    evaluation = await evaluate(workspace, release, suite="speed")
    measures = {measure.name: measure for measure in evaluation.measures}
    assert list(measures) == ["latency_p50", "latency_p95", "first_piece_p50", "tokens_per_second"]
    assert measures["latency_p50"].n == 3, "only answerable questions"
    assert 0 < measures["first_piece_p50"].value <= measures["latency_p95"].value
    assert latest_evidence(workspace, release)["speed"].kind == "latency"


KILLED = """
    import asyncio
    from slipway.evaluate.runner import evaluate
    from slipway.release.parts import load_release
    from slipway.workspace import open_workspace

    with open_workspace("{folder}") as workspace:
        release = load_release(workspace)
        def told(done, total):
            print(done, flush=True)
        asyncio.run(evaluate(workspace, release, on_progress=told))
"""


def test_a_killed_run_continues(open_with: OpenWith, application: Path) -> None:
    workspace, _ = open_with(kind="echo", delay_s=0.4, extra="[evaluate]\nconcurrency = 1\n")
    code = textwrap.dedent(KILLED).format(folder=application)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 2:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    kept = {case.result.case for case in workspace.store.records.list(FinishedCase)}
    assert len(kept) >= 2
    traces = workspace.store.traces.count()

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout.split()[0]) == len(kept)
    (evaluation,) = list_evaluations(workspace)
    assert len(evaluation.results) == 4
    assert workspace.store.traces.count() == traces + 4 - len(kept)
    assert kept <= {result.case for result in evaluation.results}
