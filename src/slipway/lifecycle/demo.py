"""The demo: one application through all eleven stages, a knowledge gap found and closed, a second release compared."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from slipway.domain.answer import Answer
from slipway.domain.errors import SlipwayError
from slipway.domain.evaluation import Comparison
from slipway.domain.release import Gate
from slipway.lifecycle import stations
from slipway.lifecycle.material import lay_out
from slipway.lifecycle.shown import OnProgress, Shown
from slipway.lifecycle.start import init_application
from slipway.stages import STAGES, Stage
from slipway.workspace import open_workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """How one stage went: `summary` is its result, or the error that ended it."""

    name: Stage
    ok: bool
    seconds: float
    summary: str


async def run_demo(
    folder: Path,
    *,
    documents: list[Path] | None = None,
    on_stage: Callable[[StageResult], None] = lambda _stage: None,
    on_progress: OnProgress = lambda _what, _done, _total: None,
) -> "DemoResult":
    """Makes an application in `folder` and takes it through its whole life; a later stage needs those before it.

    Raises `Conflict` when the folder is an application already, `FileMissing` and `NothingToIndex` for documents.
    """
    stations.refuse_used_folder(folder)
    material = lay_out(folder, documents or [])
    init_application(
        folder,
        name=stations.NAME,
        questions=material.questions,
        purpose="Answers questions from its documents, with citations, and says so when they do not hold the answer.",
        roles=[stations.ROLE],
    )
    results: list[StageResult] = []
    with open_workspace(folder) as workspace:
        shown = Shown(workspace=workspace, material=material, on_progress=on_progress)
        for stage in STAGES:
            result = await _run(stage, stations.OF[stage], shown)
            results.append(result)
            on_stage(result)
            if not result.ok:
                break
    return DemoResult(
        stages={result.name: result for result in results},
        releases=tuple(release.id for release in (shown.first, shown.second) if release),
        comparison=_comparison(shown.comparison),
        gap={"question": shown.gap_question, "document": material.held_back_id},
        gate=shown.gate,
        answers=tuple(_answer(question, answer) for question, answer in shown.answers),
        unreadable=tuple(f"{item.source}: {item.reason}" for item in material.unreadable),
        ok=len(results) == len(STAGES) and all(result.ok for result in results),
        closing=f"Ask it: slipway release ask --dir {folder} {stations.quoted(shown.gap_question)}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What `slipway demo --json` prints."""

    stages: dict[str, StageResult]
    releases: tuple[str, ...]
    comparison: dict[str, object] | None
    gap: dict[str, str]
    gate: Gate | None
    answers: tuple[dict[str, object], ...]
    unreadable: tuple[str, ...]
    ok: bool
    closing: str


async def _run(stage: Stage, work: Callable[[Shown], Awaitable[str]], shown: Shown) -> StageResult:
    began = time.perf_counter()
    try:
        summary, ok = await work(shown), True
    except SlipwayError as wrong:
        summary, ok = str(wrong), False
    return StageResult(name=stage, ok=ok, seconds=round(time.perf_counter() - began, 3), summary=summary)


def _comparison(comparison: Comparison | None) -> dict[str, object] | None:
    if comparison is None:
        return None
    return {
        "metric": comparison.metric,
        "before": comparison.before,
        "after": comparison.after,
        "difference": comparison.difference,
        "interval": list(comparison.interval),
        "n": comparison.n,
        "clear": comparison.clear,
    }


def _answer(question: str, answer: Answer) -> dict[str, object]:
    return {
        "question": question,
        "text": answer.text,
        "abstained": answer.abstained,
        "release": answer.release,
        "trace": answer.trace,
        "citations": [
            {
                "document": citation.document,
                "title": citation.title,
                "start": citation.start,
                "end": citation.end,
                "text": citation.text,
            }
            for citation in answer.citations
        ],
    }
