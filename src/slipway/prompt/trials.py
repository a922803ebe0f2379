"""Trials: cases x prompt versions x models, with assertions, tokens, money and latency."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from slipway.domain.document import Passage
from slipway.domain.errors import EngineError, NotFound
from slipway.domain.ids import new_id
from slipway.domain.index import Index
from slipway.domain.message import Request
from slipway.domain.model import Model
from slipway.domain.prompt import Prompt
from slipway.engines.base import Tools
from slipway.models.catalog import price_of
from slipway.models.choice import choose_engine
from slipway.prompt.assertions import Observed, holds
from slipway.prompt.cases import TrialCase
from slipway.prompt.starter import number_passages
from slipway.prompt.template import render, variables_of
from slipway.store.records import Kind, register
from slipway.tracing.cost import cost_of
from slipway.workspace import Workspace

Search = Callable[[str], list[Passage]]
"""Finds passages for a question."""
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One case through one prompt version and one model."""

    case: str
    prompt: str
    model: str
    reply: str
    passed: bool | None
    """None where the case asserts nothing."""
    failed: tuple[str, ...]
    error: str
    input_tokens: int
    output_tokens: int
    cost_micros: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What one prompt version with one model did over all cases. Money is in millionths of a dollar."""

    prompt: str
    model: str
    passed: int
    asserted: int
    input_tokens: int
    output_tokens: int
    cost_micros: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A saved trial."""

    id: str
    attempts: tuple[Attempt, ...]
    columns: tuple[Column, ...]
    created_at: datetime


register(Trial, Kind(kind="trial"))


async def try_prompts(
    workspace: Workspace,
    prompts: Sequence[Prompt],
    cases: Sequence[TrialCase],
    models: Sequence[Model],
    *,
    search: Search | None = None,
    at_once: int = 4,
    on_progress: OnProgress | None = None,
) -> Trial:
    """Every combination, `at_once` requests at a time; an engine's failure is a failed attempt, not the end. Saved.

    `search` fills the variable `passages` where a prompt reads it and the case does not give it. Raises `NotFound`
    when there is nothing to try or no index to search, `VariablesMissing` when a case lacks a variable.
    """
    if not prompts or not cases or not models:
        raise NotFound("prompt, case or model", "to try", next_step="Give at least one of each.")
    if search is None and any("passages" in variables_of(prompt) for prompt in prompts):
        lacking = next((case.id for case in cases if "passages" not in case.variables), None)
        if lacking:
            raise NotFound(
                "index",
                workspace.settings.retrieve.index,
                next_step=f"Case '{lacking}' brings no passages. Build the index: slipway retrieve build",
            )
    gate = asyncio.Semaphore(at_once)
    total, done = len(prompts) * len(cases) * len(models), 0

    async def one(prompt: Prompt, case: TrialCase, model: Model) -> Attempt:
        nonlocal done
        async with gate:
            attempt = await _attempt(workspace, prompt, case, model, search)
        done += 1
        if on_progress:
            on_progress(done, total)
        return attempt

    attempts = await asyncio.gather(
        *(one(prompt, case, model) for prompt in prompts for model in models for case in cases)
    )
    trial = Trial(id=new_id(), attempts=tuple(attempts), columns=tuple(summarise(attempts)), created_at=workspace.now())
    workspace.store.records.save(trial, parents=[("prompt", f"{prompt.name}@{prompt.version}") for prompt in prompts])
    return trial


def index_search(workspace: Workspace, search: Callable[[Workspace, Index, str], list[Passage]]) -> Search | None:
    """A search over the application's latest index, or None while there is none."""
    index = workspace.store.records.latest(Index, workspace.settings.retrieve.index)
    return None if index is None else lambda question: search(workspace, index, question)


def summarise(attempts: Sequence[Attempt]) -> list[Column]:
    """One column for every prompt version and model, in the order of their first attempt."""
    columns = []
    for prompt, model in dict.fromkeys((attempt.prompt, attempt.model) for attempt in attempts):
        own = [attempt for attempt in attempts if (attempt.prompt, attempt.model) == (prompt, model)]
        columns.append(
            Column(
                prompt=prompt,
                model=model,
                passed=sum(attempt.passed is True for attempt in own),
                asserted=sum(attempt.passed is not None for attempt in own),
                input_tokens=sum(attempt.input_tokens for attempt in own),
                output_tokens=sum(attempt.output_tokens for attempt in own),
                cost_micros=sum(attempt.cost_micros for attempt in own),
                seconds=sum(attempt.seconds for attempt in own) / len(own),
            )
        )
    return columns


async def _attempt(
    workspace: Workspace, prompt: Prompt, case: TrialCase, model: Model, search: Search | None
) -> Attempt:
    question = str(case.variables.get("question", ""))
    variables = dict(case.variables)
    passages: list[Passage] = []
    if "passages" in prompt.variables and "passages" not in variables and search is not None:
        passages = await asyncio.to_thread(search, question)
        variables["passages"] = number_passages(passages)
    request = Request(model=model.name, messages=render(prompt, variables), question=question, passages=tuple(passages))
    engine = choose_engine(workspace.settings, model.engine, folder=workspace.folder)
    began = time.perf_counter()
    label, called = f"{prompt.name}@{prompt.version}", f"{model.engine}/{model.name}"
    try:
        reply = await engine.complete(request, tools=Tools(http=workspace.http, embedder=workspace.embedder))
    except EngineError as failure:
        return Attempt(
            case=case.id,
            prompt=label,
            model=called,
            reply="",
            passed=False if case.assertions else None,
            failed=(),
            error=str(failure),
            input_tokens=0,
            output_tokens=0,
            cost_micros=0,
            seconds=time.perf_counter() - began,
        )
    seconds = time.perf_counter() - began
    cost = cost_of(reply.usage, price_of(model.engine, model.name, base_url=str(getattr(engine, "base_url", "")))).money
    observed = Observed(text=reply.text, seconds=seconds, cost=cost.amount)
    failed = tuple(assertion.name for assertion in case.assertions if not holds(assertion, observed))
    return Attempt(
        case=case.id,
        prompt=label,
        model=called,
        reply=reply.text,
        passed=not failed if case.assertions else None,
        failed=failed,
        error="",
        input_tokens=reply.usage.input_tokens,
        output_tokens=reply.usage.output_tokens,
        cost_micros=cost.micros,
        seconds=seconds,
    )
