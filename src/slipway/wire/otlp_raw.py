"""What OTLP carries, whichever way it was written: spans and log records before any dialect is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.domain.errors import OtlpRefused
from slipway.wire.dialects.base import Event

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
DEEPEST_VALUE = 32
UNREADABLE = (TypeError, ValueError, OverflowError, AttributeError, RecursionError)
"""What reading values of unexpected types may raise: such a span is counted, and the others are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSpan:
    """A span. Ids are hexadecimal."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """A log record. Ids are hexadecimal, empty where there are none."""

    trace: str
    span: str
    name: str
    time_ns: int
    body: Any
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


def media_type(content_type: str) -> str:
    """`PROTOBUF` or `JSON`. Raises `OtlpRefused`."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in (PROTOBUF, "application/protobuf"):
        return PROTOBUF
    if kind == JSON:
        return JSON
    raise OtlpRefused(f"the content type is '{kind}'; send {PROTOBUF} or {JSON}", http_status=415)
