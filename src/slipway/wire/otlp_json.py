"""OTLP bodies in JSON: ids in hexadecimal, 64-bit numbers as strings."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from slipway.domain.errors import OtlpRefused
from slipway.wire.dialects.base import Event
from slipway.wire.otlp_raw import DEEPEST_VALUE, UNREADABLE, RawRecord, RawSpan

POINTS = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


def read_spans(raw: bytes) -> Iterator[RawSpan | str]:
    """Spans, or why one cannot be read. Raises `OtlpRefused`."""
    for resource, scope, span in _members(raw, "resourceSpans", "scopeSpans", "spans"):
        try:
            yield _span(span, resource, scope)
        except UNREADABLE as wrong:
            yield f"a span cannot be read: {wrong}"


def read_records(raw: bytes) -> Iterator[RawRecord | str]:
    """Log records, or why one cannot be read. Raises `OtlpRefused`."""
    for resource, _, record in _members(raw, "resourceLogs", "scopeLogs", "logRecords"):
        try:
            yield _record(record, resource)
        except UNREADABLE as wrong:
            yield f"a log record cannot be read: {wrong}"


def count_points(raw: bytes) -> int:
    """Number of data points of a request to /v1/metrics. Raises `OtlpRefused`."""
    points = 0
    for _, _, metric in _members(raw, "resourceMetrics", "scopeMetrics", "metrics"):
        points += sum(1 for kind in POINTS for _ in _objects(_object(metric, kind), "dataPoints"))
    return points


def _members(
    raw: bytes, groups: str, scopes: str, members: str
) -> Iterator[tuple[dict[str, Any], str, Mapping[str, Any]]]:
    try:
        request = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        try:
            # Text that is no UTF-8 is no reason to lose all the rest.
            request = msgspec.json.decode(raw.decode("utf-8", "replace"))
        except (msgspec.DecodeError, RecursionError):
            raise OtlpRefused(f"the body is no JSON ({wrong})", http_status=400) from wrong
    if not isinstance(request, dict):
        raise OtlpRefused(f"the body is no JSON object with {groups}", http_status=400)
    for group in _objects(request, groups):
        try:
            resource = _pairs(_object(group, "resource"))
        except UNREADABLE:
            resource = {}
        for scoped in _objects(group, scopes):
            scope = str(_object(scoped, "scope").get("name", ""))
            for member in _objects(scoped, members):
                yield resource, scope, member


def _span(span: Mapping[str, Any], resource: Mapping[str, Any], scope: str) -> RawSpan:
    status = _object(span, "status")
    code = status.get("code", 0)
    return RawSpan(
        trace=str(span.get("traceId", "")).lower(),
        span=str(span.get("spanId", "")).lower(),
        parent=str(span.get("parentSpanId") or "").lower(),
        name=str(span.get("name", "")),
        start_ns=int(span.get("startTimeUnixNano") or 0),
        end_ns=int(span.get("endTimeUnixNano") or 0),
        code={"STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}.get(code, 0) if isinstance(code, str) else int(code),
        message=str(status.get("message", "")),
        attributes=_pairs(span),
        events=[
            Event(
                name=str(event.get("name", "")), time_ns=int(event.get("timeUnixNano") or 0), attributes=_pairs(event)
            )
            for event in _objects(span, "events")
        ],
        resource=resource,
        scope=scope,
    )


def _record(record: Mapping[str, Any], resource: Mapping[str, Any]) -> RawRecord:
    return RawRecord(
        trace=str(record.get("traceId") or "").lower(),
        span=str(record.get("spanId") or "").lower(),
        name=str(record.get("eventName") or ""),
        time_ns=int(record.get("timeUnixNano") or 0) or int(record.get("observedTimeUnixNano") or 0),
        body=_value(record.get("body"), 0),
        attributes=_pairs(record),
        resource=resource,
    )


def _pairs(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {str(pair.get("key", "")): _value(pair.get("value"), 0) for pair in _objects(holder, "attributes")}


def _value(value: Any, depth: int) -> Any:
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
            return [_value(one, depth + 1) for one in array.get("values") or []]
        case {"kvlistValue": dict(pairs)}:
            if depth >= DEEPEST_VALUE:
                return "…"
            return {
                str(pair.get("key", "")): _value(pair.get("value"), depth + 1) for pair in _objects(pairs, "values")
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
