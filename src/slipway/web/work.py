"""Long work that a page starts: jobs, run by a thread of the server, shown as progress and stopped on request."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from slipway.domain.job import Job
from slipway.jobs.queue import Claim, cancel_job, enqueue, get_job, list_jobs, resume_job
from slipway.jobs.runners.threads import Handler, ThreadRunner
from slipway.web.current import Current
from slipway.web.number import count, seconds
from slipway.workspace import Workspace

ATTEMPTS = 2
"""A job whose process was killed is taken over once; one that fails by itself twice is left to a person."""
FAILED_SHOWN = timedelta(minutes=15)
TONES = {"queued": "", "running": "on", "done": "pass", "failed": "fail", "cancelled": "warn"}
Work = Callable[[Workspace, Mapping[str, Any], Claim], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobShown:
    """A job as the progress component shows it."""

    id: str
    title: str
    word: str
    tone: str
    note: str
    running: bool
    done: int
    total: int
    error: str


class Worker:
    """Runs the jobs of one application with a thread; starts with the server, or with the first job."""

    def __init__(self, current: Current, *, in_background: bool = True) -> None:
        handlers = {kind: self._handler(current, work) for kind, work in KINDS.items()}
        self._runner = ThreadRunner(current.workspace.store, handlers, threads=1)
        self._in_background = in_background
        self._started = False

    def start(self) -> None:
        if self._in_background and not self._started:
            self._started = True
            self._runner.start()

    def stop(self) -> None:
        """Takes no more jobs; one that runs is resumed by the next server."""
        if self._started:
            self._runner.stop(wait_s=2.0)

    def run_pending(self) -> int:
        """Runs what waits in this thread; returns how many jobs there were."""
        return self._runner.run_pending()

    @staticmethod
    def _handler(current: Current, work: Work) -> Handler:
        def handle(claimed: Claim) -> object:
            return work(current.workspace, dict(claimed.payload or {}), claimed)

        return handle


def start(workspace: Workspace, kind: str, title: str, **payload: Any) -> str:
    """Puts work into the queue; returns the id of its job."""
    return enqueue(workspace.store, kind, {"title": title, **payload}, max_attempts=ATTEMPTS, now=workspace.now())


def running(workspace: Workspace, kinds: Sequence[str] = ()) -> list[JobShown]:
    """What waits, runs, or failed within the last quarter of an hour, oldest first."""
    now = workspace.now()
    shown = []
    for job in list_jobs(workspace.store, limit=50):
        recent = job.finished_at is not None and now - job.finished_at < FAILED_SHOWN
        waits = job.state in ("queued", "running") or (job.state == "failed" and recent)
        if waits and job.kind in (kinds or KINDS):
            shown.append(show_job(job, workspace))
    return shown[::-1]


def show_job(job: Job, workspace: Workspace) -> JobShown:
    payload = job.payload if isinstance(job.payload, dict) else {}
    at_work = job.state in ("queued", "running")
    parts = []
    if job.total:
        parts.append(f"{count(job.done)} of {count(job.total)}")
    if job.state == "running" and job.done and job.total > job.done:
        passed = (workspace.now() - job.created_at).total_seconds()
        parts.append(f"about {seconds(passed / job.done * (job.total - job.done))} left")
    if job.message and job.state != "failed":
        parts.append(job.message)
    return JobShown(
        id=job.id,
        title=str(payload.get("title") or job.kind),
        word="stopping" if job.cancel_requested and at_work else job.state,
        tone=TONES[job.state],
        note=", ".join(parts),
        running=at_work,
        done=job.done,
        total=job.total,
        error=job.message if job.state == "failed" else "",
    )


def stop(workspace: Workspace, id: str) -> Job:
    """Raises `NotFound`, `Conflict`."""
    return cancel_job(workspace.store, id)


def resume(workspace: Workspace, id: str) -> Job:
    """Raises `NotFound`, `Conflict`."""
    return resume_job(workspace.store, id)


def mark_of_jobs(workspace: Workspace) -> str:
    """A text that differs when any job of the last fifty moved on."""
    return " ".join(_mark(job) for job in list_jobs(workspace.store, limit=50))


def mark_of_job(workspace: Workspace, id: str) -> str:
    return _mark(get_job(workspace.store, id))


def _mark(job: Job) -> str:
    return f"{job.id[-6:]}:{job.state}:{job.done}:{job.total}:{job.message[:20]}:{job.cancel_requested}"


# What a job of each kind does ---------------------------------------------------------------------------------------


def _bring_up(workspace: Workspace, _payload: Mapping[str, Any], claim: Claim) -> object:
    from slipway.lifecycle.up import bring_up

    brought = asyncio.run(bring_up(workspace, on_progress=lambda what, done, total: claim.progress(done, total, what)))
    return {"release": brought.release.label, "live": brought.live}


def _evaluate(workspace: Workspace, payload: Mapping[str, Any], claim: Claim) -> object:
    from slipway.evaluate.runner import evaluate
    from slipway.release.parts import load_release

    release = load_release(workspace, payload["release"])
    done = asyncio.run(evaluate(workspace, release, suite=payload["suite"], on_progress=claim.progress))
    return {"evaluation": done.id}


def _build_index(workspace: Workspace, _payload: Mapping[str, Any], claim: Claim) -> object:
    from slipway.retrieve.index import build_index

    index = build_index(workspace, on_progress=claim.progress)
    return {"index": f"{index.name}@{index.version}"}


def _compare_settings(workspace: Workspace, _payload: Mapping[str, Any], claim: Claim) -> object:
    from slipway.evaluate.dataset import default_dataset
    from slipway.retrieve.comparison import compare_settings
    from slipway.retrieve.index import load_sources
    from slipway.retrieve.questions import make_questions

    documents = load_sources(workspace).documents
    known = [case for case in default_dataset(workspace).cases if case.spans or case.documents]
    cases = known or make_questions(documents)
    done = compare_settings(workspace, cases=cases[:200], documents=documents, on_percent=claim.progress)
    return {"comparison": done.id}


def _apply_settings(workspace: Workspace, payload: Mapping[str, Any], claim: Claim) -> object:
    from slipway.domain.settings_comparison import SettingsComparison
    from slipway.retrieve.applying import apply_best

    comparison = workspace.store.records.get(SettingsComparison, payload["comparison"])
    return {
        "index": apply_best(
            workspace, comparison, force=payload.get("force") == "yes", on_progress=claim.progress
        ).applied
    }


def _calibrate_index(workspace: Workspace, payload: Mapping[str, Any], claim: Claim) -> object:
    from slipway.evaluate.dataset import load_dataset
    from slipway.retrieve.calibration import calibrate_index
    from slipway.retrieve.index import load_index

    index = load_index(workspace, payload["index"])
    cases = load_dataset(workspace, payload["dataset"]).cases
    calibrate_index(workspace, index, cases, false_alarms=payload["false_alarms"], on_progress=claim.progress)
    return {"index": payload["index"]}


def _triage(workspace: Workspace, payload: Mapping[str, Any], _claim: Claim) -> object:
    from slipway.learn.triage import triage
    from slipway.release.parts import load_release

    return {"findings": len(triage(workspace, load_release(workspace, payload.get("release", ""))))}


def _close_gaps(workspace: Workspace, payload: Mapping[str, Any], _claim: Claim) -> object:
    from slipway.learn.closing import close_answered
    from slipway.release.parts import load_release

    closed = asyncio.run(close_answered(workspace, load_release(workspace, payload.get("release", ""))))
    return {"closed": len(closed)}


def _try(workspace: Workspace, payload: Mapping[str, Any], claim: Claim) -> object:
    from slipway.domain.model import Model
    from slipway.evaluate.dataset import default_dataset
    from slipway.prompt.cases import from_dataset
    from slipway.prompt.library import load_prompt
    from slipway.prompt.trials import index_search, try_prompts
    from slipway.retrieve.query import search_index

    release = workspace.settings.release
    trial = asyncio.run(
        try_prompts(
            workspace,
            [load_prompt(workspace, prompt) for prompt in payload["prompts"]],
            from_dataset(default_dataset(workspace).cases).cases[: payload["limit"]],
            [Model(engine=release.engine, name=release.model)],
            search=index_search(workspace, search_index),
            on_progress=claim.progress,
        )
    )
    return {"trial": trial.id}


def _train(workspace: Workspace, payload: Mapping[str, Any], claim: Claim) -> object:
    from slipway.train.runs import settings_for, train

    done = train(
        workspace,
        settings_for(workspace, method=payload.get("method", "")),
        datasets=payload.get("datasets", []),
        force=bool(payload.get("force")),
        on_step=lambda step, steps, loss: claim.progress(step, steps, f"loss {loss:.3f}"),
    )
    return {"run": done.id}


KINDS: dict[str, Work] = {
    "up": _bring_up,
    "evaluate": _evaluate,
    "build_index": _build_index,
    "compare_settings": _compare_settings,
    "apply_settings": _apply_settings,
    "calibrate_index": _calibrate_index,
    "try": _try,
    "train": _train,
    "triage": _triage,
    "close_gaps": _close_gaps,
}
