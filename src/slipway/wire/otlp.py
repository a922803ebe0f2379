"""OpenTelemetry over HTTP: bodies of /v1/traces, protobuf or JSON, to spans and back."""

import base64
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import zstandard

from slipway.domain.errors import OtlpRefused
from slipway.domain.ids import SpanId, TraceId
from slipway.domain.trace import Span
from slipway.wire.dialects import Event, columns, content, error_text

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
LARGEST_BODY = 64 << 20
"""Bytes of one body after decompression. Exporters send some hundred spans at a time; more is a bomb."""
DEEPEST_VALUE = 32
UNREADABLE = (TypeError, ValueError, OverflowError, AttributeError, RecursionError)
"""What reading values of unexpected types may raise: such a span is counted, and the others are taken."""
OWN_SPAN = "slipway.span"
"""Attribute with everything about a span that OpenTelemetry has no name for, as JSON."""
_BESIDE = frozenset({"trace", "span", "parent", "name", "start_ns", "end_ns", "project"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedTraces:
    """Spans that can be stored; how many could not, and why."""

    spans: list[Span]
    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raw:
    """A span as OTLP has it, whichever way it was written. Ids are hexadecimal."""

    trace: str
    span: str
    parent: str
    name: str
    start_ns: int
    end_ns: int
    code: int
    message: str
    attributes: Mapping[str, Any]
    events: Sequence[Event]
    resource: Mapping[str, Any]
    scope: str


def decode_traces(
    body: bytes,
    content_type: str,
    content_encoding: str = "",
    *,
    project: str,
    largest: int = LARGEST_BODY,
) -> DecodedTraces:
    """Spans of a request to /v1/traces. A span that cannot be used is counted; the others are taken.

    Raises `OtlpRefused` with the HTTP status when nothing of the body can be used: unknown type or encoding (415), too
    large once decompressed (413), broken (400).
    """
    raw = decompress(body, content_encoding, largest=largest)
    kind = media_type(content_type)
    entries = _from_protobuf(raw) if kind == PROTOBUF else _from_json(raw)
    spans: list[Span] = []
    rejected, reason = 0, ""
    for entry in entries:
        if isinstance(entry, str):
            rejected, reason = rejected + 1, entry
            continue
        if problem := _problem(entry):
            rejected, reason = rejected + 1, problem
            continue
        try:
            spans.append(_span(entry, project))
        except UNREADABLE as wrong:
            rejected, reason = rejected + 1, f"span {entry.span} cannot be read: {wrong}"
    return DecodedTraces(spans=spans, rejected=rejected, message=reason)


def encode_response(content_type: str, rejected: int, message: str) -> tuple[str, bytes]:
    """Content type and body of the answer, in the kind of the request; says how many spans were not taken."""
    if media_type(content_type) == JSON:
        told: dict[str, Any] = {}
        if rejected or message:
            told = {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": message}}
        return JSON, msgspec.json.encode(told)
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    if rejected or message:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = message
    return PROTOBUF, answer.SerializeToString()


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


def media_type(content_type: str) -> str:
    """`PROTOBUF` or `JSON`. Raises `OtlpRefused`."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in (PROTOBUF, "application/protobuf"):
        return PROTOBUF
    if kind == JSON:
        return JSON
    raise OtlpRefused(f"the content type is '{kind}'; send {PROTOBUF} or {JSON}", http_status=415)


def decompress(body: bytes, encoding: str, *, largest: int = LARGEST_BODY) -> bytes:
    """The body without gzip, deflate or zstd, never more than `largest` bytes. Raises `OtlpRefused`."""
    match encoding.strip().lower():
        case "" | "identity":
            raw = body
        case "gzip" | "x-gzip":
            raw = _inflate(body, 16 + zlib.MAX_WBITS, largest)
        case "deflate":
            # The header says zlib; some senders leave it out.
            zlib_header = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
            raw = _inflate(body, zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS, largest)
        case "zstd":
            try:
                reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body)
                raw = reader.read(largest + 1)
            except zstandard.ZstdError as wrong:
                raise OtlpRefused(f"the body is no zstd ({wrong})", http_status=400) from wrong
        case _:
            raise OtlpRefused(f"the encoding '{encoding}' is not known; send gzip, deflate or zstd", http_status=415)
    if len(raw) > largest:
        raise OtlpRefused(f"the body is larger than {largest >> 20} MiB; send fewer spans at a time", http_status=413)
    return raw


def _inflate(body: bytes, window: int, largest: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    rest = body
    while rest:
        inflater = zlib.decompressobj(window)
        try:
            piece = inflater.decompress(rest, largest + 1 - size)
        except zlib.error as wrong:
            raise OtlpRefused(f"the body cannot be decompressed ({wrong})", http_status=400) from wrong
        pieces.append(piece)
        size += len(piece)
        if size > largest:
            break
        if not inflater.eof:
            raise OtlpRefused("the compressed body is cut off", http_status=400)
        # A gzip body may have several members.
        rest = inflater.unused_data
    return b"".join(pieces)


def _from_protobuf(raw: bytes) -> Iterator[_Raw | str]:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(raw)
    except DecodeError as wrong:
        raise OtlpRefused(f"the body is no OTLP protobuf ({wrong})", http_status=400) from wrong
    for resource_spans in request.resource_spans:
        resource = _pairs(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _Raw(
                    trace=span.trace_id.hex(),
                    span=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    name=span.name,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    code=span.status.code,
                    message=span.status.message,
                    attributes=_pairs(span.attributes),
                    events=[
                        Event(name=event.name, time_ns=event.time_unix_nano, attributes=_pairs(event.attributes))
                        for event in span.events
                    ],
                    resource=resource,
                    scope=scope_spans.scope.name,
                )


def _pairs(attributes: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: _value(pair.value, 0) for pair in attributes}


def _value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "array_value" | "kvlist_value" if depth >= DEEPEST_VALUE:
            return "…"
        case "array_value":
            return [_value(one, depth + 1) for one in value.array_value.values]
        case "kvlist_value":
            return {pair.key: _value(pair.value, depth + 1) for pair in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case _:
            return getattr(value, kind)


def _from_json(raw: bytes) -> Iterator[_Raw | str]:
    try:
        request = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise OtlpRefused(f"the body is no JSON ({wrong})", http_status=400) from wrong
    if not isinstance(request, dict):
        raise OtlpRefused("the body is no JSON object with resourceSpans", http_status=400)
    for resource_spans in _objects(request, "resourceSpans"):
        try:
            resource = _json_pairs(_object(resource_spans, "resource"))
        except UNREADABLE:
            resource = {}
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            scope = str(_object(scope_spans, "scope").get("name", ""))
            for span in _objects(scope_spans, "spans"):
                try:
                    yield _json_span(span, resource, scope)
                except UNREADABLE as wrong:
                    yield f"a span cannot be read: {wrong}"


def _json_span(span: Mapping[str, Any], resource: Mapping[str, Any], scope: str) -> _Raw:
    status = _object(span, "status")
    code = status.get("code", 0)
    return _Raw(
        trace=str(span.get("traceId", "")).lower(),
        span=str(span.get("spanId", "")).lower(),
        parent=str(span.get("parentSpanId") or "").lower(),
        name=str(span.get("name", "")),
        start_ns=int(span.get("startTimeUnixNano") or 0),
        end_ns=int(span.get("endTimeUnixNano") or 0),
        code={"STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}.get(code, 0) if isinstance(code, str) else int(code),
        message=str(status.get("message", "")),
        attributes=_json_pairs(span),
        events=[
            Event(
                name=str(event.get("name", "")),
                time_ns=int(event.get("timeUnixNano") or 0),
                attributes=_json_pairs(event),
            )
            for event in _objects(span, "events")
        ],
        resource=resource,
        scope=scope,
    )


def _json_pairs(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {str(pair.get("key", "")): _json_value(pair.get("value"), 0) for pair in _objects(holder, "attributes")}


def _json_value(value: Any, depth: int) -> Any:
    """An `AnyValue`: 64-bit integers are written as strings."""
    if not isinstance(value, dict):
        return None
    match value:
        case {"stringValue": found} | {"boolValue": found} | {"bytesValue": found}:
            return found
        case {"intValue": found}:
            return int(found)
        case {"doubleValue": found}:
            return float(found)
        case {"arrayValue": dict(array)}:
            if depth >= DEEPEST_VALUE:
                return "…"
            return [_json_value(one, depth + 1) for one in array.get("values") or []]
        case {"kvlistValue": dict(pairs)}:
            if depth >= DEEPEST_VALUE:
                return "…"
            return {
                str(pair.get("key", "")): _json_value(pair.get("value"), depth + 1)
                for pair in _objects(pairs, "values")
            }
        case _:
            return None


def _objects(holder: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    found = holder.get(key)
    for one in found if isinstance(found, list) else []:
        if isinstance(one, dict):
            yield one


def _object(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = holder.get(key)
    return found if isinstance(found, dict) else {}


def _problem(raw: _Raw) -> str:
    if not _is_id(raw.trace, 32):
        return f"'{raw.trace[:40]}' is no trace id (32 hexadecimal digits, not all zero)"
    if not _is_id(raw.span, 16):
        return f"'{raw.span[:40]}' is no span id (16 hexadecimal digits, not all zero)"
    if raw.start_ns <= 0:
        return f"span {raw.span} has no start time"
    return ""


def _is_id(text: str, length: int) -> bool:
    return len(text) == length and all(digit in "0123456789abcdef" for digit in text) and text.strip("0") != ""


def _span(raw: _Raw, project: str) -> Span:
    if (own := _own_span(raw, project)) is not None:
        return own
    said = content(raw.attributes, raw.events)
    if raw.resource:
        said["resource"] = dict(raw.resource)
    if raw.scope:
        said["scope"] = raw.scope
    return Span(
        trace=TraceId(raw.trace),
        span=SpanId(raw.span),
        parent=SpanId(raw.parent) if _is_id(raw.parent, 16) else None,
        name=raw.name,
        start_ns=raw.start_ns,
        end_ns=max(raw.end_ns, raw.start_ns),
        # OpenTelemetry leaves the status of what went well unset.
        status="error" if raw.code == 2 else "ok",
        project=project,
        error=error_text(raw.attributes, raw.events, raw.message) if raw.code == 2 else "",
        content=said,
        **columns(raw.attributes, raw.events, raw.resource, start_ns=raw.start_ns),
    )


def _own_span(raw: _Raw, project: str) -> Span | None:
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
        return msgspec.convert({**fields, **beside}, Span)
    except (msgspec.DecodeError, TypeError):
        return None


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
