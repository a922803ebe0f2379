"""OpenTelemetry over HTTP: bodies of /v1/traces, /v1/logs and /v1/metrics to spans and back, and the answers."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from slipway.domain.ids import SpanId, TraceId
from slipway.domain.trace import Span, SpanEvent
from slipway.wire import otlp_json, otlp_protobuf
from slipway.wire.compression import LARGEST_BODY, decompress
from slipway.wire.dialects.columns import columns
from slipway.wire.dialects.content import content, error_text
from slipway.wire.dialects.values import LARGEST_NUMBER
from slipway.wire.otlp_raw import JSON, PROTOBUF, UNREADABLE, RawRecord, RawSpan, media_type

Signal = Literal["traces", "logs", "metrics"]
ProjectOf = Callable[[Mapping[str, Any]], str]
"""Attributes of a resource to the project that its spans belong to."""
OWN_SPAN = "slipway.span"
"""Attribute with everything about a span that OpenTelemetry has no name for, as JSON."""
LONGEST_VALUE = 1 << 20
"""Characters of one attribute that are kept."""
AHEAD_NS = 3600 * 10**9
"""How far a sender's clock may be ahead. What lies further in the future would stand above everything for ever."""
LATEST_NS = 4_102_444_800 * 10**9
"""2100: whatever says it comes later would not fit the journal, and take along what lies beside it."""
_HEXADECIMAL = re.compile("[0-9a-f]+")
_NUMBERS = (
    *("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"),
    *("cost_micros", "first_token_ns"),
)
_BESIDE = frozenset({"trace", "span", "parent", "name", "start_ns", "end_ns", "project"})
_REJECTED: Mapping[Signal, str] = {
    "traces": "rejectedSpans",
    "logs": "rejectedLogRecords",
    "metrics": "rejectedDataPoints",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What of a body can be kept; how many members cannot, and why. With none rejected, `message` is a warning."""

    spans: list[Span] = field(default_factory=list)
    events: list[SpanEvent] = field(default_factory=list)
    points: int = 0
    rejected: int = 0
    message: str = ""


def decode_traces(
    body: bytes,
    content_type: str,
    content_encoding: str = "",
    *,
    project: str | ProjectOf,
    largest: int = LARGEST_BODY,
    now_ns: int | None = None,
) -> Decoded:
    """Spans of a request to /v1/traces. A span that cannot be used is counted; the others are taken.

    With `now_ns`, spans of a clock that is more than an hour ahead are moved back to now, each by the same time. Raises
    `OtlpRefused` with the HTTP status when nothing of the body can be used: unknown type or encoding (415), too large
    once decompressed (413), broken (400).
    """
    raw = decompress(body, content_encoding, largest=largest)
    read = otlp_protobuf.read_spans if media_type(content_type) == PROTOBUF else otlp_json.read_spans
    spans: list[Span] = []
    rejected, reason, cut = 0, "", 0
    for entry in read(raw):
        if isinstance(entry, str):
            rejected, reason = rejected + 1, entry
            continue
        if problem := _problem(entry):
            rejected, reason = rejected + 1, problem
            continue
        try:
            span, shortened = _span(entry, _project(project, entry.resource))
        except UNREADABLE as wrong:
            rejected, reason = rejected + 1, f"span {entry.span} cannot be read: {wrong}"
        else:
            spans.append(span)
            cut += shortened
    warnings = [f"{cut} values were cut to {LONGEST_VALUE} characters"] if cut else []
    if now_ns is not None and (ahead := [span for span in spans if span.start_ns > now_ns + AHEAD_NS]):
        spans = _moved_back(spans, now_ns)
        warnings.append(f"{len(ahead)} spans begin in the future and were moved to now; set the sender's clock")
    if rejected:
        warnings.insert(0, f"{rejected} spans were not taken, the last because {reason}")
    return Decoded(spans=spans, rejected=rejected, message="; ".join(warnings))


def decode_logs(
    body: bytes,
    content_type: str,
    content_encoding: str = "",
    *,
    project: str | ProjectOf,
    largest: int = LARGEST_BODY,
) -> Decoded:
    """Events of a request to /v1/logs that name their span. Plain lines of a log are counted as rejected.

    Raises `OtlpRefused` as `decode_traces` does.
    """
    raw = decompress(body, content_encoding, largest=largest)
    read = otlp_protobuf.read_records if media_type(content_type) == PROTOBUF else otlp_json.read_records
    events: list[SpanEvent] = []
    rejected, reason = 0, ""
    for entry in read(raw):
        if isinstance(entry, str):
            rejected, reason = rejected + 1, entry
        elif not (_is_id(entry.trace, 32) and _is_id(entry.span, 16)):
            rejected, reason = rejected + 1, "it names no span"
        elif abs(entry.time_ns) > LATEST_NS:
            rejected, reason = rejected + 1, "it has a time after the year 2100"
        elif (event := _event(entry, _project(project, entry.resource))) is None:
            rejected, reason = rejected + 1, "it is a plain line of a log, no named event of a span"
        else:
            events.append(event)
    message = f"{rejected} log records were not taken, the last because {reason}" if rejected else ""
    return Decoded(events=events, rejected=rejected, message=message)


def decode_metrics(
    body: bytes, content_type: str, content_encoding: str = "", *, largest: int = LARGEST_BODY
) -> Decoded:
    """How many data points a request to /v1/metrics has. Raises `OtlpRefused` as `decode_traces` does."""
    raw = decompress(body, content_encoding, largest=largest)
    count = otlp_protobuf.count_points if media_type(content_type) == PROTOBUF else otlp_json.count_points
    return Decoded(points=count(raw))


def encode_response(content_type: str, rejected: int, message: str, *, signal: Signal = "traces") -> tuple[str, bytes]:
    """Content type and body of the answer, in the kind of the request; says how many members were not taken."""
    if media_type(content_type) == JSON:
        told: dict[str, Any] = {}
        if rejected or message:
            told = {"partialSuccess": {_REJECTED[signal]: str(rejected), "errorMessage": message}}
        return JSON, msgspec.json.encode(told)
    if not (rejected or message):
        return PROTOBUF, b""
    # The three answers are alike: field 1 holds how many were rejected (1, varint) and why (2, text).
    text = message.encode()
    partial = (b"\x08" + _varint(rejected) if rejected else b"") + b"\x12" + _varint(len(text)) + text
    return PROTOBUF, b"\x0a" + _varint(len(partial)) + partial


def encode_traces(spans: Iterable[Span], *, service: str) -> bytes:
    """Spans as the JSON of an OTLP request: GenAI attributes for other tools, and `slipway.span` to read back whole."""
    return msgspec.json.encode(
        {
            "resourceSpans": [
                {
                    "resource": {"attributes": [_pair("service.name", service)]},
                    "scopeSpans": [{"scope": {"name": "slipway"}, "spans": [_encoded(span) for span in spans]}],
                }
            ]
        }
    )


def encode_error(content_type: str, code: int, message: str) -> tuple[str, bytes]:
    """A `google.rpc.Status` in the kind of the request, as OTLP wants errors; `code` is the gRPC code."""
    if PROTOBUF not in content_type:
        return JSON, msgspec.json.encode({"code": code, "message": message})
    text = message.encode()
    # Two fields do not need a generated class: 1 (varint) code, 2 (length-delimited) message.
    return PROTOBUF, b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


def _project(project: str | ProjectOf, resource: Mapping[str, Any]) -> str:
    return project if isinstance(project, str) else project(resource)


def _problem(raw: RawSpan) -> str:
    if not _is_id(raw.trace, 32):
        return f"'{raw.trace[:40]}' is no trace id (32 hexadecimal digits, not all zero)"
    if not _is_id(raw.span, 16):
        return f"'{raw.span[:40]}' is no span id (16 hexadecimal digits, not all zero)"
    if raw.start_ns <= 0:
        return f"span {raw.span} has no start time"
    if max(raw.start_ns, raw.end_ns) > LATEST_NS:
        return f"span {raw.span} has a time after the year 2100"
    return ""


def _is_id(text: str, length: int) -> bool:
    return len(text) == length and _HEXADECIMAL.fullmatch(text) is not None and text.strip("0") != ""


def _span(raw: RawSpan, project: str) -> tuple[Span, int]:
    """The span, and how many of its values were cut."""
    if (own := _own_span(raw, project)) is not None:
        return own, 0
    attributes, cut = _bounded(raw.attributes)
    said = content(attributes, raw.events)
    if raw.resource:
        said["resource"] = dict(raw.resource)
    if raw.scope:
        said["scope"] = raw.scope
    told = columns(attributes, raw.events, raw.resource, start_ns=raw.start_ns)
    if told.get("first_token_ns", 0) > LARGEST_NUMBER:
        del told["first_token_ns"]
    span = Span(
        trace=TraceId(raw.trace),
        span=SpanId(raw.span),
        parent=SpanId(raw.parent) if _is_id(raw.parent, 16) else None,
        name=told.pop("name", raw.name),
        start_ns=raw.start_ns,
        end_ns=max(raw.end_ns, raw.start_ns),
        # OpenTelemetry leaves the status of what went well unset.
        status="error" if raw.code == 2 else "ok",
        project=project,
        error=error_text(attributes, raw.events, raw.message) if raw.code == 2 else "",
        content=said,
        **told,
    )
    return span, cut


def _bounded(attributes: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """The attributes, none longer than `LONGEST_VALUE`, and how many were."""
    long = [name for name, value in attributes.items() if isinstance(value, str) and len(value) > LONGEST_VALUE]
    if not long:
        return attributes, 0
    short = {name: f"{attributes[name][:LONGEST_VALUE]}… ({len(attributes[name])} characters)" for name in long}
    return {**attributes, **short}, len(long)


def _moved_back(spans: list[Span], now_ns: int) -> list[Span]:
    """Spans of a clock that is ahead end now; how they lie to each other stays, and so does what their clock said."""
    ahead = [span for span in spans if span.start_ns > now_ns + AHEAD_NS]
    by_ns = max(span.end_ns for span in ahead) - now_ns
    moved = {id(span) for span in ahead}
    return [
        replace(
            span,
            start_ns=max(1, span.start_ns - by_ns),
            end_ns=max(1, span.end_ns - by_ns),
            content={**span.content, "clock": {"start_ns": span.start_ns, "end_ns": span.end_ns}},
        )
        if id(span) in moved
        else span
        for span in spans
    ]


def _event(raw: RawRecord, project: str) -> SpanEvent | None:
    """A named event; None for a plain line. Before 1.30 the name was an attribute."""
    attributes = dict(raw.attributes)
    name = raw.name or str(attributes.pop("event.name", "") or "")
    if not name:
        return None
    if isinstance(raw.body, dict):
        attributes |= {str(key): value for key, value in raw.body.items()}
    elif raw.body not in (None, ""):
        attributes["body"] = raw.body
    bounded, _ = _bounded(attributes)
    return SpanEvent(
        trace=TraceId(raw.trace),
        span=SpanId(raw.span),
        project=project,
        name=name,
        time_ns=raw.time_ns,
        attributes=dict(bounded),
    )


def _own_span(raw: RawSpan, project: str) -> Span | None:
    """A span that Slipway itself exported, as it was; None for everybody else's."""
    told = raw.attributes.get(OWN_SPAN)
    if not isinstance(told, str):
        return None
    try:
        fields = msgspec.json.decode(told)
        beside = {
            "trace": raw.trace,
            "span": raw.span,
            "parent": raw.parent or None,
            "name": raw.name,
            "start_ns": raw.start_ns,
            "end_ns": max(raw.end_ns, raw.start_ns),
            "project": project,
        }
        span = msgspec.convert({**fields, **beside}, Span)
    except (msgspec.DecodeError, RecursionError, TypeError):
        return None
    numbers = (getattr(span, name) for name in _NUMBERS)
    return span if all(number is None or 0 <= number <= LARGEST_NUMBER for number in numbers) else None


def _encoded(span: Span) -> dict[str, Any]:
    told = msgspec.to_builtins(span, enc_hook=str)
    own = {key: value for key, value in told.items() if key not in _BESIDE and value not in (None, "", 0, {})}
    attributes = [_pair(name, value) for name, value in _genai(span) if value]
    return {
        "traceId": span.trace,
        "spanId": span.span,
        "parentSpanId": span.parent or "",
        "name": span.name,
        "kind": 2 if span.kind == "request" else 1,
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "status": {"code": 2, "message": span.error} if span.status == "error" else {"code": 1},
        "attributes": [*attributes, _pair(OWN_SPAN, msgspec.json.encode(own).decode())],
    }


def _genai(span: Span) -> Iterator[tuple[str, str | int]]:
    """The columns that the GenAI conventions (1.41) have names for."""
    operations = {"chat": "chat", "embeddings": "embeddings", "retrieval": "retrieval", "tool": "execute_tool"}
    yield "gen_ai.operation.name", operations.get(span.kind, "")
    yield "gen_ai.provider.name", span.provider
    yield "gen_ai.request.model", span.model
    yield "gen_ai.response.model", span.response_model
    yield "gen_ai.usage.input_tokens", span.input_tokens
    yield "gen_ai.usage.output_tokens", span.output_tokens
    yield "gen_ai.usage.cache_read.input_tokens", span.cached_tokens
    yield "gen_ai.conversation.id", span.session
    yield "user.id", span.subject or ""
    yield "slipway.release.id", span.release or ""
    yield "slipway.channel", span.channel
    yield "deployment.environment.name", span.environment


def _pair(name: str, value: str | int) -> dict[str, Any]:
    return {"key": name, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
