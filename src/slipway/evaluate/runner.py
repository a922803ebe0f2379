"""Runs a suite over a release: asks case by case, keeps what is finished, concludes, and attaches the evidence."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from slipway.domain.answer import Answer
from slipway.domain.dataset import Dataset
from slipway.domain.errors import Blocked, DatasetEmpty, EngineError, EngineUnreachable, EvaluationStopped
from slipway.domain.evaluation import CaseResult, Evaluation, FinishedCase
from slipway.domain.ids import ContentHash, TraceId, hash_parts, new_id, new_trace_id
from slipway.domain.prompt import Prompt
from slipway.domain.release import Evidence, Release
from slipway.evaluate.dataset import EVALUATE, default_dataset, part_of
from slipway.evaluate.suites.base import Conclusion, Material, Probe, Suite, suites
from slipway.metrics.base import AnswerView, view_of
from slipway.release.evidence import attach
from slipway.release.gate import show_measure
from slipway.release.pipeline import Asked, answer, stream_answer
from slipway.workspace import Workspace

OnProgress = Callable[[int, int], None]
"""Called with (done, total)."""
IN_A_ROW = 5
"""So many engine errors one after the other end a run: the next case would fail too."""
BROKEN = 0.1
"""Evidence with a larger share of failed cases does not pass."""


async def evaluate(
    workspace: Workspace,
    release: Release,
    *,
    suite: str = "quality",
    dataset: Dataset | None = None,
    limit: int | None = None,
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """One run of `suite`. Without a dataset it asks the application's own questions.

    Finished cases are kept under release, suite, dataset and seed: a run that was stopped goes on where it was. A case
    whose engine fails is recorded with its error and has no scores. Every answer leaves a trace on the channel
    `evaluate`. Raises `UnknownBackend` for an unknown suite, `DatasetEmpty`, and `EvaluationStopped` when the engine
    cannot be reached or fails again and again.
    """
    chosen = suites.make(suite)
    asked = dataset or default_dataset(workspace)
    settings = workspace.settings.evaluate
    material = Material(
        cases=asked.cases,
        instructions=_instructions(workspace, release),
        seed=settings.seed if seed is None else seed,
        limit=settings.limit if limit is None else limit,
    )
    started_at, began = workspace.now(), time.perf_counter()
    probes = chosen.plan(material)
    if not probes:
        raise DatasetEmpty(f"The suite '{suite}'", next_step="Import questions: slipway evaluate import NAME FILE")
    run = _Run(
        workspace=workspace,
        release=release,
        name=suite,
        suite=chosen,
        material=material,
        id=run_id(release, suite, asked, material.seed),
        total=len(probes),
        on_progress=on_progress or (lambda _done, _total: None),
    )
    results = await run.ask_all(probes)
    conclusion = chosen.conclude(results, material)
    evaluation = Evaluation(
        id=new_id(),
        release=release.id,
        suite=suite,
        dataset=part_of(asked),
        results=conclusion.results,
        measures=conclusion.measures,
        groups=conclusion.groups,
        notes=(*_notes(conclusion), *conclusion.notes),
        headline=conclusion.measures[0].name if conclusion.measures else "",
        seed=material.seed,
        run=run.id,
        started_at=started_at,
        seconds=time.perf_counter() - began,
    )
    _save(workspace, evaluation, chosen)
    return evaluation


def run_id(release: Release, suite: str, dataset: Dataset, seed: int) -> ContentHash:
    """The same work has the same id."""
    return hash_parts({"release": release.id, "suite": suite, "dataset": dataset.hash, "seed": seed})


def _instructions(workspace: Workspace, release: Release) -> str:
    if release.prompt is None:
        return ""
    return workspace.store.records.get(Prompt, str(release.prompt)).system


@dataclass(kw_only=True)
class _Run:
    """The asking part of an evaluation, with what is finished so far."""

    workspace: Workspace
    release: Release
    name: str
    suite: Suite
    material: Material
    id: ContentHash
    total: int
    on_progress: OnProgress
    finished: dict[str, CaseResult] = field(default_factory=dict)
    failures: int = 0
    stopped_by: EngineError | None = None

    async def ask_all(self, probes: Sequence[Probe]) -> list[CaseResult]:
        """Results in the order of the probes. Raises `EvaluationStopped`."""
        keys = [probe_key(self.id, probe) for probe in probes]
        kept = {
            case.id: case.result for case in self.workspace.store.records.list(FinishedCase, where={"run": self.id})
        }
        self.finished = {key: kept[key] for key in keys if key in kept}
        self.on_progress(len(self.finished), self.total)
        waiting = iter([(key, probe) for key, probe in zip(keys, probes, strict=True) if key not in self.finished])
        at_once = 1 if self.suite.streamed else self.workspace.settings.evaluate.concurrency
        if self.suite.streamed and len(self.finished) < self.total:
            await self._warm_up(probes[0])
        await asyncio.gather(*(self._work(waiting) for _ in range(at_once)))
        if self.stopped_by is not None:
            done = sum(not result.error for result in self.finished.values())
            raise EvaluationStopped(
                self.name, self.release.label, done=done, total=self.total, reason=str(self.stopped_by)
            ) from self.stopped_by
        return [self.finished[key] for key in keys]

    async def _work(self, waiting: Iterator[tuple[str, Probe]]) -> None:
        """One of the workers that share the cases that wait."""
        for key, probe in waiting:
            if self.stopped_by is not None:
                return
            result, failure = await self._ask(probe)
            self._count(failure)
            self.finished[key] = result
            # What another try may mend is not kept, so that a resumed run tries it.
            if failure is None or not failure.retryable:
                case = FinishedCase(id=key, run=self.id, result=result, subject=result.subject)
                self.workspace.store.records.save(case)
            self.on_progress(len(self.finished), self.total)

    def _count(self, failure: EngineError | None) -> None:
        self.failures = self.failures + 1 if failure is not None else 0
        if isinstance(failure, EngineUnreachable) or self.failures >= IN_A_ROW:
            self.stopped_by = failure

    async def _warm_up(self, probe: Probe) -> None:
        """The first answer loads weights and opens connections; it would spoil the measurement."""
        _, failure = await self._ask(probe)
        self._count(failure)

    async def _ask(self, probe: Probe) -> tuple[CaseResult, EngineError | None]:
        trace = new_trace_id()
        asked = Asked(
            question=probe.case.question,
            history=probe.history,
            planted=probe.planted,
            subject=probe.case.subject,
            session=f"{EVALUATE} {self.id[:12]}",
            channel=EVALUATE,
            trace=trace,
        )
        try:
            view = await self._answer(asked)
        except Blocked as blocked:
            return self._result(probe, AnswerView(text="", blocked=True), trace, said=str(blocked)), None
        except EngineError as failure:
            return _failed(probe, trace, failure), failure
        return self._result(probe, view, trace, said=view.text), None

    async def _answer(self, asked: Asked) -> AnswerView:
        if not self.suite.streamed:
            return view_of(await answer(self.release, asked, workspace=self.workspace))
        began, first = time.perf_counter(), None
        async for event in stream_answer(self.release, asked, workspace=self.workspace):
            if isinstance(event, Answer):
                return view_of(event, first_piece_s=first)
            first = first if first is not None else time.perf_counter() - began
        raise AssertionError("a stream ends with its answer")

    def _result(self, probe: Probe, view: AnswerView, trace: TraceId, *, said: str) -> CaseResult:
        case = probe.case
        return CaseResult(
            case=case.id,
            question=case.question,
            answer=said,
            scores=self.suite.score(probe, view, self.material),
            abstained=view.abstained,
            blocked=view.blocked,
            citations=view.citations,
            trace=trace,
            seconds=view.seconds,
            input_tokens=view.usage.input_tokens,
            output_tokens=view.usage.output_tokens,
            cost_micros=view.cost.micros,
            group=case.group,
            tags=case.tags,
            subject=case.subject,
        )


def probe_key(run: str, probe: Probe) -> str:
    """Id of a finished case: another text under the same case id is another case."""
    asked = [message.text for message in probe.history] + [passage.text for passage in probe.planted]
    return hash_parts({"run": run, "case": probe.case.id, "question": probe.case.question, "before": asked})[:32]


def _failed(probe: Probe, trace: TraceId, failure: EngineError) -> CaseResult:
    case = probe.case
    return CaseResult(
        case=case.id,
        question=case.question,
        answer="",
        scores=(),
        error=str(failure),
        trace=trace,
        group=case.group,
        tags=case.tags,
        subject=case.subject,
    )


def _notes(conclusion: Conclusion) -> list[str]:
    failed = sum(bool(result.error) for result in conclusion.results)
    return [f"{failed} of {len(conclusion.results)} cases ended in an error and have no scores."] if failed else []


def _save(workspace: Workspace, evaluation: Evaluation, suite: Suite) -> None:
    """The evaluation and its evidence, and away with the finished cases: all of it or nothing."""
    records = workspace.store.records
    failed = sum(bool(result.error) for result in evaluation.results)
    parents = [("release", evaluation.release), ("dataset", str(evaluation.dataset))]
    parents += [("trace", result.trace) for result in evaluation.results if result.subject and result.trace]
    with workspace.store.transaction():
        records.save(evaluation, parents=parents)
        attach(
            workspace,
            Evidence(
                id=new_id(),
                release=evaluation.release,
                kind=suite.kind,
                suite=evaluation.suite,
                measures=evaluation.measures,
                passed=False if failed > BROKEN * len(evaluation.results) else None,
                summary=summarise(evaluation),
                created_at=workspace.now(),
                dataset=evaluation.dataset,
                seed=evaluation.seed,
                source=evaluation.id,
            ),
            parents=[("evaluation", evaluation.id)],
        )
        for case in records.list(FinishedCase, where={"run": evaluation.run}):
            records.delete(FinishedCase, case.id)


def summarise(evaluation: Evaluation) -> str:
    """The headline in one line, with what went wrong."""
    failed = sum(bool(result.error) for result in evaluation.results)
    headline = show_measure(evaluation.measures[0]) if evaluation.measures else "no case could be scored"
    return f"{headline}; {failed} of {len(evaluation.results)} cases ended in an error" if failed else headline
