"""Brings an application up: builds what is missing, evaluates, gates, promotes; repeats only what changed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slipway.domain.dataset import Dataset
from slipway.domain.document import Unreadable
from slipway.domain.errors import EvaluationStopped, FileMissing, NothingToIndex
from slipway.domain.index import Index
from slipway.domain.release import Channel, Gate, Release
from slipway.evaluate.cases import read_cases
from slipway.evaluate.dataset import import_dataset, save_cases
from slipway.evaluate.runner import evaluate
from slipway.guard.parts import guardrails_from_settings
from slipway.models.choice import choose_engine
from slipway.prompt.library import sync_prompts
from slipway.release.channels import promote
from slipway.release.evidence import latest_evidence
from slipway.release.gate import gate_release
from slipway.release.parts import cut_release, list_releases
from slipway.retrieve.documents import Loaded
from slipway.retrieve.index import build_index, load_sources
from slipway.retrieve.questions import make_questions
from slipway.review.queue import queue_answers
from slipway.workspace import Workspace

QUESTIONS = "questions"
"""Name of the dataset that holds the application's questions."""
NAMED = 3
"""Most unreadable files that a step names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of bringing an application up. `changed` is False when there was nothing to do."""

    name: str
    summary: str
    seconds: float
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What `bring_up` reached."""

    release: Release
    gate: Gate
    live: bool
    steps: tuple[Step, ...]
    unreadable: tuple[Unreadable, ...] = ()
    """Documents that were left out, with the reason."""


OnProgress = Callable[[str, int, int], None]
"""Called with (what, done, total) while a step works."""


async def bring_up(
    workspace: Workspace,
    *,
    on_step: Callable[[Step], None] = lambda _step: None,
    on_progress: OnProgress = lambda _what, _done, _total: None,
) -> Brought:
    """Prompts, index, questions, release, evidence, gate and, when the gate is open, promotion.

    A second call with nothing changed does nothing. Before anything is written it raises `FileMissing` when a
    configured folder is not there, `NothingToIndex` when no document could be read, and what is wrong with the engine,
    the rails or the questions. Raises `EvaluationStopped` when the engine fails: finished cases are kept, and a new
    release of which no case was finished is taken back.
    """
    steps: list[Step] = []

    def tell(name: str, began: float, summary: str, *, changed: bool) -> None:
        step = Step(name=name, summary=summary, seconds=time.perf_counter() - began, changed=changed)
        steps.append(step)
        on_step(step)

    began = time.perf_counter()
    check_inputs(workspace)
    loaded = read_documents(workspace, on_progress=lambda done, total: on_progress("documents", done, total))
    reading = time.perf_counter() - began

    began = time.perf_counter()
    known = workspace.store.records.latest(Index, workspace.settings.retrieve.index)
    prompts = sync_prompts(workspace)
    tell("prompt", began, f"{len(prompts)} prompts in step with their files", changed=False)

    began = time.perf_counter() - reading
    index = build_index(
        workspace, documents=loaded.documents, on_progress=lambda done, total: on_progress("index", done, total)
    )
    tell("retrieve", began, describe_index(index, loaded), changed=known is None or known.hash != index.hash)

    began = time.perf_counter()
    dataset, made = bring_dataset(workspace, loaded)
    tell("questions", began, describe_dataset(dataset), changed=made)

    began = time.perf_counter()
    released = {known.id for known in list_releases(workspace)}
    release = cut_release(workspace)
    evidence = latest_evidence(workspace, release)
    tell("release", began, f"{release.label} {release.id[:12]}", changed=not evidence)

    for suite in workspace.settings.evaluate.suites:
        began = time.perf_counter()
        found = evidence.get(suite)
        if found is not None and (found.dataset is None or found.dataset.hash == dataset.hash):
            tell(f"evaluate {suite}", began, found.summary, changed=False)
            continue
        try:
            await evaluate(
                workspace,
                release,
                suite=suite,
                dataset=dataset,
                limit=workspace.settings.evaluate.limit,
                seed=workspace.settings.evaluate.seed,
                on_progress=partial(on_progress, f"evaluate {suite}"),
            )
        except EvaluationStopped as stopped:
            if not stopped.done and not latest_evidence(workspace, release) and release.id not in released:
                workspace.store.records.delete(Release, release.id)
                raise stopped.__cause__ or stopped from None
            raise
        tell(f"evaluate {suite}", began, latest_evidence(workspace, release)[suite].summary, changed=True)

    began = time.perf_counter()
    queued = queue_answers(workspace, release, limit=workspace.settings.review.sample)
    tell("review", began, f"{len(queued)} answers wait for people", changed=False)

    began = time.perf_counter()
    gate = gate_release(workspace, release)
    live = serves(workspace, release)
    if gate.open and not live:
        promote(workspace, release, by="slipway up")
        tell("promote", began, f"{release.label} answers as '{workspace.application}'", changed=True)
        live = True
    else:
        tell("promote", began, _describe_gate(release, gate, live=live), changed=False)
    return Brought(release=release, gate=gate, live=live, steps=tuple(steps), unreadable=tuple(loaded.unreadable))


def check_inputs(workspace: Workspace) -> None:
    """Raises what is wrong with the engine, the rails or the file of questions."""
    settings = workspace.settings
    choose_engine(settings, settings.release.engine, folder=workspace.folder)
    guardrails_from_settings(settings)
    if settings.application.questions:
        read_cases(questions_file(workspace))


def questions_file(workspace: Workspace) -> Path:
    """The file of [application] questions. Raises `FileMissing`."""
    path: Path = workspace.folder / workspace.settings.application.questions
    if not path.exists():
        raise FileMissing(path, next_step="Correct [application] questions in slipway.toml.")
    return path


def read_documents(workspace: Workspace, *, on_progress: Callable[[int, int], None] | None = None) -> Loaded:
    """The documents that slipway.toml names. Raises `FileMissing`, or `NothingToIndex` when none can be read."""
    loaded = load_sources(workspace, on_progress=on_progress)
    if not loaded.documents:
        named = [f"{item.source}: {item.reason}" for item in loaded.unreadable[:3]]
        raise NothingToIndex(workspace.settings.retrieve.index, files=len(loaded.unreadable), examples=named)
    return loaded


def bring_dataset(workspace: Workspace, loaded: Loaded) -> tuple[Dataset, bool]:
    """The application's questions as a dataset version, and whether it is new. Without a file they are made."""
    before = workspace.store.records.latest(Dataset, QUESTIONS)
    if workspace.settings.application.questions:
        dataset = import_dataset(workspace, QUESTIONS, questions_file(workspace))
    elif before is not None and before.made:
        return before, False
    else:
        cases = make_questions(loaded.documents)
        dataset = save_cases(workspace, QUESTIONS, cases, source="made from the documents", made=True)
    return dataset, before is None or before.hash != dataset.hash


def serves(workspace: Workspace, release: Release) -> bool:
    """Whether the application's own channel serves this release."""
    channel = workspace.store.records.find(Channel, workspace.application)
    return channel is not None and any(share.release == release.id for share in channel.shares)


def describe_index(index: Index, loaded: Loaded) -> str:
    how = "lexical and MiniLM" if index.dimensions else "lexical only (no embedding model)"
    left_out = ""
    if loaded.unreadable:
        named = [Path(item.source).name for item in loaded.unreadable[:NAMED]]
        more = ["…"] if len(loaded.unreadable) > NAMED else []
        left_out = f", {len(loaded.unreadable)} unreadable ({', '.join([*named, *more])})"
    return f"{index.name}@{index.version}: {len(index.documents)} documents{left_out}, {index.chunks} chunks, {how}"


def describe_dataset(dataset: Dataset) -> str:
    unanswerable = sum(case.answerable is False for case in dataset.cases)
    made = ", made from the documents" if dataset.made else ""
    return f"{dataset.name}@{dataset.version}: {len(dataset.cases)} questions, {unanswerable} without an answer{made}"


def _describe_gate(release: Release, gate: Gate, *, live: bool) -> str:
    if live and gate.open:
        return f"{release.label} is live"
    reasons: Sequence[str] = [f"{check.name} {check.state}" for check in gate.checks if check.state != "passed"]
    return f"{release.label} waits: {', '.join(reasons)}. See: slipway release gate {release.label}"
