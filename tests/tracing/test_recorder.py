"""The recorder: one request becomes one trace, in whatever order and on whatever tasks its steps run."""

import asyncio
import errno
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slipway.domain.errors import Blocked, DiskFull
from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId
from slipway.domain.trace import Span
from slipway.store.journal import Journal, read_journal
from slipway.store.store import Store
from slipway.tracing.recorder import (
    Recorder,
    current_span,
    decode_spans,
    encode_spans,
    journal_sink,
    store_sink,
)

SECOND = 1_000_000_000


class Taken(list[Span]):
    """A sink that keeps everything."""

    def __call__(self, spans: Sequence[Span]) -> None:
        self.extend(spans)

    def named(self, name: str) -> Span:
        return next(span for span in self if span.name == name)


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
def recorder(taken: Taken) -> Recorder:
    """Its clock ticks a second with every look."""
    ticks = itertools.count(SECOND, SECOND)
    return Recorder(project="lamps", sink=taken, now_ns=lambda: next(ticks))


def test_a_trace_has_its_steps_in_order(recorder: Recorder, taken: Taken) -> None:
    with recorder.trace("answer", release=ReleaseId("r"), channel="c", subject=SubjectId("anna")) as trace:
        with trace.span("retrieval", kind="retrieval") as span:
            span.set(content={"passages": []})
        with trace.span("chat", kind="chat", model="m") as span:
            span.set(input_tokens=3)
            span.first_token()
            span.first_token()
        trace.set(status="abstained", content={"question": "?"})
    assert [span.name for span in taken] == ["answer", "retrieval", "chat"]
    root, retrieval, chat = taken
    assert root.trace == retrieval.trace == chat.trace == trace.trace_id
    assert (root.parent, retrieval.parent, chat.parent) == (None, root.span, root.span)
    assert (root.kind, root.status, chat.status) == ("request", "abstained", "ok")
    assert (chat.release, chat.channel, chat.subject, chat.project) == ("r", "c", "anna", "lamps")
    assert chat.first_token_ns == SECOND
    assert root.start_ns < retrieval.start_ns < retrieval.end_ns < chat.start_ns < chat.end_ns < root.end_ns


def test_steps_inside_steps(recorder: Recorder, taken: Taken) -> None:
    with recorder.trace("answer") as trace:
        with trace.span("outer"):
            with trace.span("inner") as inner, inner.span("innermost"):
                assert current_span() is not inner
            with trace.span("sibling"):
                pass
        with trace.span("after"):
            pass
    parents = {span.name: next((one.name for one in taken if one.span == span.parent), None) for span in taken}
    assert parents == {
        "answer": None,
        "outer": "answer",
        "inner": "outer",
        "innermost": "inner",
        "sibling": "outer",
        "after": "answer",
    }
    assert current_span() is None


@dataclass
class Failure:
    error: BaseException
    status: str
    text: str


FAILURES = [
    pytest.param(Failure(ValueError("no"), "error", "ValueError: no"), id="an error"),
    pytest.param(Failure(Blocked("pii", "answer", "an IBAN"), "blocked", "Blocked: Guardrail 'pii'"), id="a guardrail"),
    pytest.param(Failure(asyncio.CancelledError(), "cancelled", "CancelledError"), id="a client that left"),
    pytest.param(Failure(KeyboardInterrupt(), "cancelled", "KeyboardInterrupt"), id="a person that stopped it"),
]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_marks_its_step_and_the_whole_and_goes_on(recorder: Recorder, taken: Taken, failure: Failure) -> None:
    def fail() -> None:
        with recorder.trace("answer") as trace:
            with trace.span("fine"):
                pass
            with trace.span("failing"):
                raise failure.error

    with pytest.raises(type(failure.error)):
        fail()
    assert [span.status for span in taken] == [failure.status, "ok", failure.status]
    assert taken.named("failing").error.startswith(failure.text)


def test_fields_are_checked_and_content_is_added_to(recorder: Recorder, taken: Taken) -> None:
    with recorder.trace("answer") as trace:
        trace.set(content={"a": 1}, verdicts={"x": "allow"})
        trace.set(content={"b": 2}, verdicts={"y": "flag"}, session="s")
        with pytest.raises(TypeError, match="no field tokens"):
            trace.set(tokens=3)
        with pytest.raises(TypeError, match="no field start_ns"):
            trace.set(start_ns=3)
    assert taken[0].content == {"a": 1, "b": 2}
    assert taken[0].verdicts == {"x": "allow", "y": "flag"}
    assert taken[0].session == "s"


def test_a_trace_that_began_elsewhere_goes_on(recorder: Recorder, taken: Taken) -> None:
    with recorder.trace("answer", trace_id=TraceId("ab" * 16), parent=SpanId("cd" * 8)):
        pass
    assert (taken[0].trace, taken[0].parent) == ("ab" * 16, "cd" * 8)


async def test_requests_at_the_same_time_do_not_mix(taken: Taken) -> None:
    recorder = Recorder(project="lamps", sink=taken)

    async def request(number: int) -> None:
        with recorder.trace(f"request {number}") as trace, trace.span(f"outer {number}"):
            await asyncio.sleep(0.001 * (number % 3))
            with trace.span(f"inner {number}"):
                await asyncio.sleep(0)

    await asyncio.gather(*(request(number) for number in range(20)))
    spans = {span.name: span for span in taken}
    for number in range(20):
        root, outer, inner = (spans[f"{name} {number}"] for name in ("request", "outer", "inner"))
        assert inner.parent == outer.span
        assert outer.parent == root.span
        assert inner.trace == root.trace


async def test_a_stream_that_is_given_up_is_recorded(recorder: Recorder, taken: Taken) -> None:
    async def stream() -> AsyncIterator[int]:
        with recorder.trace("answer") as trace, trace.span("chat"):
            for number in range(10):
                yield number

    pieces = stream()
    async for number in pieces:
        if number == 2:
            break
    await pieces.aclose()  # type: ignore[attr-defined]
    assert [span.status for span in taken] == ["cancelled", "cancelled"]


FAILING_SINKS = [
    pytest.param(DiskFull("journal"), id="a full disk"),
    pytest.param(OSError(errno.EIO, "input/output error"), id="a broken disk"),
]


@pytest.mark.parametrize("error", FAILING_SINKS)
def test_an_answer_does_not_fail_with_its_trace(error: Exception) -> None:
    def sink(_spans: Sequence[Span]) -> None:
        raise error

    recorder = Recorder(project="lamps", sink=sink)
    with recorder.trace("answer"):
        pass
    assert (recorder.lost, recorder.last_failure) == (1, str(error))


def test_content_may_be_left_out(taken: Taken) -> None:
    recorder = Recorder(project="lamps", sink=taken, keep_content=False)

    def fail() -> None:
        with recorder.trace("answer") as trace:
            trace.set(content={"question": "?"}, input_tokens=3)
            raise ValueError("what the user said")

    with pytest.raises(ValueError, match="said"):
        fail()
    assert (taken[0].content, taken[0].error, taken[0].input_tokens) == ({}, "", 3)


def test_a_step_that_never_ran_is_left_out(recorder: Recorder, taken: Taken) -> None:
    with recorder.trace("answer") as trace:
        trace.span("forgotten")
    assert [span.name for span in taken] == ["answer"]


ODD: list[Any] = [
    pytest.param({"n": 10**30}, {"n": str(10**30)}, id="a huge number"),
    pytest.param({"t": "\ud800"}, {"t": "?"}, id="half a surrogate pair"),
    pytest.param({"s": {1, 2}}, {"s": [1, 2]}, id="a set"),
    pytest.param({"p": Path("a/b")}, {"p": "a/b"}, id="an object"),
]


@pytest.mark.parametrize(("content", "kept"), ODD)
def test_whatever_is_recorded_can_be_journalled(content: dict[str, Any], kept: dict[str, Any], tmp_path: Path) -> None:
    with Journal.open(tmp_path, worker="w") as journal:
        recorder = Recorder(project="lamps", sink=journal_sink(journal))
        with recorder.trace("answer") as trace:
            trace.set(content=content)
    assert recorder.lost == 0
    (payload,) = read_journal(tmp_path)
    assert decode_spans(payload)[0].content == kept


def test_spans_come_back_from_the_journal_as_they_were(recorder: Recorder, taken: Taken) -> None:
    with recorder.trace("answer", subject=SubjectId("anna")) as trace, trace.span("chat", kind="chat") as span:
        span.set(verdicts={"a": "allow"}, content={"messages": [{"role": "user", "text": "é"}]}, cost_micros=5)
    assert decode_spans(encode_spans(taken)) == taken
    with pytest.raises(ValueError, match="MessagePack"):
        decode_spans(b"\xc1 no spans")


def test_the_store_takes_traces_directly(store: Store) -> None:
    recorder = Recorder(project=store.project, sink=store_sink(store))
    with recorder.trace("answer") as trace:
        trace.set(content={"question": "Why?"})
    assert store.traces.get(trace.trace_id).root.content == {"question": "Why?"}


def test_a_recorder_is_a_sink_factory_of_any_kind() -> None:
    seen: list[int] = []
    sink: Callable[[Sequence[Span]], None] = lambda spans: seen.append(len(spans))  # noqa: E731
    with Recorder(project="p", sink=sink).trace("answer") as trace, trace.span("a"):
        pass
    assert seen == [2]
