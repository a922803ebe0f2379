"""OTLP bodies in protobuf. One that is cut off or holds text that is no UTF-8 gives up only what is broken in it."""

import base64
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

from slipway.domain.errors import OtlpRefused
from slipway.wire.dialects.base import Event
from slipway.wire.otlp_raw import DEEPEST_VALUE, UNREADABLE, RawRecord, RawSpan

Raw = TypeVar("Raw", RawSpan, RawRecord)
_GROUPS, _SCOPED, _MEMBERS = 1, 2, 2
"""The fields of a request, of what a resource sent, of what a scope sent, that hold the next ones."""


def read_spans(raw: bytes) -> Iterator[RawSpan | str]:
    """Spans, or why one cannot be read. Raises `OtlpRefused` where nothing can."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(raw)
    except DecodeError as wrong:
        yield from _one_by_one(raw, "opentelemetry.proto.trace.v1.Span", _span, wrong)
        return
    for group in request.resource_spans:
        resource = _pairs(group.resource.attributes)
        for scoped in group.scope_spans:
            for span in scoped.spans:
                yield _span(span, resource, scoped.scope.name)


def read_records(raw: bytes) -> Iterator[RawRecord | str]:
    """Log records, or why one cannot be read. Raises `OtlpRefused` where nothing can."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    request = ExportLogsServiceRequest()
    try:
        request.ParseFromString(raw)
    except DecodeError as wrong:
        yield from _one_by_one(raw, "opentelemetry.proto.logs.v1.LogRecord", _record, wrong)
        return
    for group in request.resource_logs:
        resource = _pairs(group.resource.attributes)
        for scoped in group.scope_logs:
            for record in scoped.log_records:
                yield _record(record, resource, scoped.scope.name)


def count_points(raw: bytes) -> int:
    """Number of data points of a request to /v1/metrics. Raises `OtlpRefused`."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest()
    try:
        request.ParseFromString(raw)
    except DecodeError as wrong:
        raise OtlpRefused(f"the body is no OTLP protobuf ({wrong})", http_status=400) from wrong
    points = 0
    for group in request.resource_metrics:
        for scoped in group.scope_metrics:
            for metric in scoped.metrics:
                kind = metric.WhichOneof("data")
                points += len(getattr(metric, kind).data_points) if kind else 0
    return points


def _span(span: Any, resource: dict[str, Any], scope: Any) -> RawSpan:
    return RawSpan(
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=_text(span.name),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        code=span.status.code,
        message=_text(span.status.message),
        attributes=_pairs(span.attributes),
        events=[
            Event(name=_text(event.name), time_ns=event.time_unix_nano, attributes=_pairs(event.attributes))
            for event in span.events
        ],
        resource=resource,
        scope=_text(scope),
    )


def _record(record: Any, resource: dict[str, Any], scope: Any) -> RawRecord:
    return RawRecord(
        trace=record.trace_id.hex(),
        span=record.span_id.hex(),
        name=_text(record.event_name),
        time_ns=record.time_unix_nano or record.observed_time_unix_nano,
        body=_value(record.body, 0),
        attributes=_pairs(record.attributes),
        resource=resource,
    )


def _text(value: Any) -> str:
    """Text is bytes where it was read without a look at its encoding."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _pairs(attributes: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in attributes:
        key, value = pair.key, pair.value
        # Most values are text, and this is the inner loop.
        text = value.string_value
        found[key if key.__class__ is str else _text(key)] = (
            text if text and text.__class__ is str else _value(value, 0)
        )
    return found


def _value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    match kind:
        case "string_value":
            return _text(value.string_value)
        case None:
            return None
        case "array_value" | "kvlist_value" if depth >= DEEPEST_VALUE:
            return "…"
        case "array_value":
            return [_value(one, depth + 1) for one in value.array_value.values]
        case "kvlist_value":
            return {_text(pair.key): _value(pair.value, depth + 1) for pair in value.kvlist_value.values}
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case _:
            return getattr(value, kind)


# What is broken ------------------------------------------------------------------------------------------------------


def _one_by_one(
    raw: bytes, kind: str, read: Callable[[Any, dict[str, Any], Any], Raw], why: Exception
) -> Iterator[Raw | str]:
    """Every member of a request that cannot be parsed whole, each by itself and with text as bytes."""
    from google.protobuf.message import DecodeError

    member, resource_kind, scope_kind = (
        _lenient(name)
        for name in (
            kind,
            "opentelemetry.proto.resource.v1.Resource",
            "opentelemetry.proto.common.v1.InstrumentationScope",
        )
    )
    taken: list[Raw | str] = []
    for group, _ in _fields(raw, _GROUPS):
        resource = {}
        for found, whole in _fields(group, 1):
            resource = _pairs(resource_kind.FromString(found).attributes) if whole else {}
        for scoped, _ in _fields(group, _SCOPED):
            try:
                scope = next((scope_kind.FromString(found).name for found, whole in _fields(scoped, 1) if whole), "")
            except DecodeError:
                scope = ""
            for found, whole in _fields(scoped, _MEMBERS):
                try:
                    taken.append(read(member.FromString(found), resource, scope) if whole else "the body is cut off")
                except (DecodeError, *UNREADABLE) as wrong:
                    taken.append(f"it is broken: {wrong}")
    if all(isinstance(one, str) for one in taken):
        raise OtlpRefused(f"the body is no OTLP protobuf ({why})", http_status=400) from why
    yield from taken


def _fields(raw: bytes, number: int) -> Iterator[tuple[bytes, bool]]:
    """Every length-delimited field of that number, and whether all of it is there. Ends where nothing makes sense."""
    at = 0
    try:
        while at < len(raw):
            tag, at = _varint(raw, at)
            match tag & 7:
                case 0:
                    _, at = _varint(raw, at)
                case 1:
                    at += 8
                case 2:
                    length, at = _varint(raw, at)
                    if tag >> 3 == number:
                        yield raw[at : at + length], at + length <= len(raw)
                    at += length
                case 5:
                    at += 4
                case _:
                    return
    except IndexError:
        return


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise IndexError


@cache
def _lenient(kind: str) -> Any:
    """A class of OTLP whose texts are bytes, so that one that is no UTF-8 does not take the others along."""
    from google.protobuf import descriptor_pool, message_factory

    return message_factory.GetMessageClass(_lenient_pool(descriptor_pool).FindMessageTypeByName(kind))


@cache
def _lenient_pool(descriptor_pool: Any) -> Any:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from opentelemetry.proto.common.v1 import common_pb2
    from opentelemetry.proto.logs.v1 import logs_pb2
    from opentelemetry.proto.resource.v1 import resource_pb2
    from opentelemetry.proto.trace.v1 import trace_pb2

    pool = descriptor_pool.DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2, logs_pb2):
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in _messages(file.message_type):
            for field in message.field:
                if field.type == FieldDescriptorProto.TYPE_STRING:
                    field.type = FieldDescriptorProto.TYPE_BYTES
        pool.Add(file)
    return pool


def _messages(types: Iterable[Any]) -> Iterator[Any]:
    for message in types:
        yield message
        yield from _messages(message.nested_type)
