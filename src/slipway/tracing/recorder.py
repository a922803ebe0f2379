"""Records one request as a trace: spans in the order they happen, handed over in one piece when the request ends."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import msgspec

from slipway.domain.errors import Blocked, SlipwayError
from slipway.domain.ids import ReleaseId, SpanId, SubjectId, TraceId, new_span_id, new_trace_id
from slipway.domain.trace import Span, SpanKind
from slipway.store.journal import Journal
from slipway.store.journal_spans import JournalSpan
from slipway.store.store import Store
from slipway.store.trace_pages import plain

Sink = Callable[[Sequence[Span]], None]
"""Takes the spans of one finished trace, root first."""

_FIXED = frozenset({"trace", "span", "parent", "start_ns", "end_ns", "project"})
_SETTABLE = frozenset(Span.__slots__) - _FIXED
_MERGED = frozenset({"content", "verdicts"})
_OF_THE_WHOLE = ("subject", "session", "release", "channel", "environment")


class SpanRecording:
    """One step while it runs. Use it in a `with`; an exception marks it as failed and goes on."""

    __slots__ = ("_before", "_fields", "_trace", "end_ns", "id", "parent", "start_ns")

    def __init__(self, trace: "TraceRecording", parent: SpanId | None, fields: dict[str, Any]) -> None:
        self.id = new_span_id()
        self.parent = parent
        self._trace = trace
        self._fields = fields
        self.start_ns = self.end_ns = 0
        self._before: SpanRecording | None = None

    def set(self, **fields: Any) -> None:
        """Sets fields of the span; `content` and `verdicts` are added to what is there. Raises `TypeError`."""
        if not fields.keys() <= _SETTABLE:
            raise TypeError(f"a span has no field {', '.join(sorted(fields.keys() - _SETTABLE))} that can be set")
        for name in _MERGED & fields.keys():
            fields[name] = {**self._fields.get(name, {}), **fields[name]}
        self._fields.update(fields)

    def first_token(self) -> None:
        """Notes the time of the first token; only the first call counts."""
        self._fields.setdefault("first_token_ns", self._trace.recorder.now_ns() - self.start_ns)

    def span(self, name: str, *, kind: SpanKind = "other", **fields: Any) -> "SpanRecording":
        """A step inside this one."""
        return self._trace.new_span(name, kind, self.id, fields)

    def __enter__(self) -> Self:
        self.start_ns = self._trace.recorder.now_ns()
        # Set back on exit rather than reset by token: a generator may be ended in another context than it began in.
        self._before = _current.get()
        _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end_ns = self._trace.recorder.now_ns()
        _current.set(self._before)
        if error is not None:
            self._fields.setdefault("error", f"{type(error).__name__}: {error}")
            self._fields["status"] = _status_of(error)
        elif self._fields.get("status", "unset") == "unset":
            self._fields["status"] = "ok"


class TraceRecording(SpanRecording):
    """The root span, and through `span` the steps inside it. When it ends, everything goes to the sink."""

    __slots__ = ("_spans", "recorder", "trace_id")

    def __init__(self, recorder: "Recorder", trace_id: TraceId, parent: SpanId | None, fields: dict[str, Any]) -> None:
        super().__init__(self, parent, fields)
        self.recorder = recorder
        self.trace_id = trace_id
        self._spans: list[SpanRecording] = []

    def span(self, name: str, *, kind: SpanKind = "other", **fields: Any) -> SpanRecording:
        """A step inside the one that runs in this task, or inside the root."""
        current = _current.get()
        parent = current.id if current is not None and current._trace is self else self.id
        return self.new_span(name, kind, parent, fields)

    def new_span(self, name: str, kind: SpanKind, parent: SpanId, fields: dict[str, Any]) -> SpanRecording:
        made = SpanRecording(self, parent, {"name": name, "kind": kind})
        if fields:
            made.set(**fields)
        self._spans.append(made)
        return made

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        SpanRecording.__exit__(self, kind, error, traceback)
        self.recorder.finish(self, self._spans)


class Recorder:
    """Makes traces of one project. A recorder may serve any number of tasks and threads.

    `sink` gets each finished trace; when it fails, the request goes on and `lost` counts. Without `keep_content`,
    spans keep their numbers but not what was said.
    """

    def __init__(
        self,
        *,
        project: str,
        sink: Sink,
        now_ns: Callable[[], int] = time.time_ns,
        keep_content: bool = True,
    ) -> None:
        self.project, self.sink, self.now_ns, self.keep_content = project, sink, now_ns, keep_content
        self.lost = 0
        self.last_failure = ""

    def trace(
        self,
        name: str,
        *,
        kind: SpanKind = "request",
        trace_id: TraceId | None = None,
        parent: SpanId | None = None,
        subject: SubjectId | None = None,
        session: str = "",
        release: ReleaseId | None = None,
        channel: str = "",
        environment: str = "",
    ) -> TraceRecording:
        """A new trace, to be used in a `with`. `trace_id` and `parent` continue a trace that began elsewhere."""
        fields: dict[str, Any] = {
            "name": name,
            "kind": kind,
            "subject": subject,
            "session": session,
            "release": release,
            "channel": channel,
            "environment": environment,
        }
        return TraceRecording(self, trace_id or new_trace_id(), parent, fields)

    def finish(self, root: TraceRecording, steps: Sequence[SpanRecording]) -> None:
        """Builds the spans and gives them to the sink. Steps that never ran are left out; open ones end now."""
        whole = {name: root._fields[name] for name in _OF_THE_WHOLE}
        spans = [self._build(root.trace_id, root, {})]
        spans += [self._build(root.trace_id, step, whole) for step in steps if step.start_ns]
        try:
            self.sink(spans)
        except (SlipwayError, OSError, ValueError) as wrong:
            # An answer is worth more than its trace; /metrics and the logs show the loss.
            self.lost += 1
            self.last_failure = str(wrong)

    def _build(self, trace_id: TraceId, step: SpanRecording, whole: Mapping[str, Any]) -> Span:
        fields = {**whole, **step._fields}
        if not self.keep_content:
            fields.pop("content", None)
            fields.pop("error", None)
        return Span(
            trace=trace_id,
            span=step.id,
            parent=step.parent,
            start_ns=step.start_ns,
            end_ns=step.end_ns or self.now_ns(),
            project=self.project,
            **fields,
        )


def current_span() -> SpanRecording | None:
    """The step that runs in this task, of whatever trace; None outside of any."""
    return _current.get()


def journal_sink(journal: Journal) -> Sink:
    """Appends each trace to the journal: it survives the process."""

    def write(spans: Sequence[Span]) -> None:
        journal.append(encode_spans(spans))

    return write


def store_sink(store: Store) -> Sink:
    """Writes each trace to the store at once: for commands and tests, not for the server."""

    def write(spans: Sequence[Span]) -> None:
        store.traces.add(spans)

    return write


def encode_spans(spans: Sequence[Any]) -> bytes:
    """What a journal record holds: MessagePack of the spans."""
    try:
        return _encoder.encode(spans)
    except (OverflowError, TypeError, ValueError):
        return _encoder.encode([plain(one if isinstance(one, dict) else _fields_of(one)) for one in spans])


def decode_spans(payload: bytes) -> list[Span]:
    """Raises `ValueError` (of msgspec) when the payload is no list of spans."""
    return _decoder.decode(payload)


def read_spans(payload: bytes | memoryview) -> list[Span]:
    """As `decode_spans`, for those who only read them: each is a `JournalSpan`, which is made three times as fast."""
    return _reader.decode(payload)


def _fields_of(one: Span) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Span.__slots__}


def _status_of(error: BaseException) -> str:
    match error:
        case Blocked():
            return "blocked"
        case asyncio.CancelledError() | GeneratorExit() | KeyboardInterrupt():
            return "cancelled"
        case _:
            return "error"


_current: ContextVar[SpanRecording | None] = ContextVar("slipway_span", default=None)
_encoder = msgspec.msgpack.Encoder(enc_hook=str)
_decoder = msgspec.msgpack.Decoder(list[Span])
_reader: msgspec.msgpack.Decoder[list[Span]] = msgspec.msgpack.Decoder(list[JournalSpan])  # type: ignore[valid-type]
