"""What the answer of a trace came from: its passages with their shares, and its sentences without support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.domain.errors import InputError
from slipway.domain.ids import TraceId
from slipway.domain.message import ABSTENTION
from slipway.domain.trace import Trace
from slipway.embedders.base import Embedder
from slipway.retrieve.attribution import Attribution, Source, attribute
from slipway.store.trace_outline import read_outline, read_steps
from slipway.watch.said import answer_of, passages_of
from slipway.workspace import Workspace

MOST_STEPS = 200
"""Steps of a trace that are read for it."""
MOST_PASSAGES = 60
MOST_CHARACTERS = 20_000
"""Characters of an answer or a passage that are taken apart."""


def explain_trace(workspace: Workspace, id: str) -> Attribution:
    """The answer of a stored trace, taken apart. Raises `NotFound`, `InputError` where there is nothing to explain."""
    traces = workspace.store.traces
    outline = read_outline(traces, TraceId(id))
    wanted = [step.id for step in outline.steps if step.kind in ("chat", "retrieval")][:MOST_STEPS]
    trace = traces.get(TraceId(id)) if len(outline.steps) <= MOST_STEPS else read_steps(traces, TraceId(id), wanted)
    if why := not_explained(trace):
        raise InputError(f"Trace {id} cannot be explained: {why}")
    return explain_answer(trace, embedder=workspace.embedder)


def not_explained(trace: Trace) -> str:
    """Why there is nothing to take apart, in one sentence; empty where there is."""
    answer = answer_of(trace)
    if trace.root.status == "abstained" or ABSTENTION in answer:
        return "the answer says that the documents do not hold it, so no passage is behind it."
    if not answer:
        return "it holds no answer: the request failed or was blocked, or its content was not kept or was erased."
    if not any(source.text for source in sources_of(trace)):
        return "it holds no passages: nothing was searched, or their text was not recorded."
    return ""


def explain_answer(trace: Trace, *, embedder: Embedder | None = None) -> Attribution:
    """The answer of a trace against the passages that the trace retrieved; none of either gives nothing."""
    return attribute(answer_of(trace)[:MOST_CHARACTERS], sources_of(trace), embedder=embedder)


def sources_of(trace: Trace) -> list[Source]:
    """The passages of a trace, each once, in the order in which they were found; at most `MOST_PASSAGES`."""
    return list(dict.fromkeys(_source(passage) for passage in passages_of(trace)))[:MOST_PASSAGES]


def found_index(trace: Trace) -> str:
    """The index version that the passages come from, such as `documents@3`; empty where it is not known."""
    return next((span.index for span in trace.spans if span.kind == "retrieval" and span.index), "")


def _source(passage: Mapping[str, Any]) -> Source:
    text = str(passage.get("text") or passage.get("content") or "")[:MOST_CHARACTERS]
    start = _whole(passage.get("start"))
    return Source(
        document=str(passage.get("document") or passage.get("id") or ""),
        start=start,
        end=_whole(passage.get("end")) or start + len(text),
        text=text,
        score=_number(passage.get("score")),
    )


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
