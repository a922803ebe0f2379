"""Values of attributes of any type, read without surprise."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

LARGEST_NUMBER = 2**53
"""Of tokens or of millionths of a dollar: more is a mistake of whoever counted, and a sum of many stays storable."""


def as_text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)


def as_count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return 0
    return int(min(number, LARGEST_NUMBER)) if math.isfinite(number) and number > 0 else 0


def as_micros(value: Any) -> int:
    """Dollars to millionths; 0 for what is no amount."""
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return 0
    return round(min(number * 1_000_000, LARGEST_NUMBER)) if math.isfinite(number) and number > 0 else 0


def as_finish(value: Any) -> str:
    """Why a model stopped: the first of a list, in one spelling."""
    value = readable(value)
    if isinstance(value, list | tuple):
        value = value[0] if value else ""
    reason = as_text(value)
    reason = reason.strip('"')
    # Traceloop writes the singular, Vercel a hyphen.
    return {"tool_call": "tool_calls", "function_call": "tool_calls", "tool-calls": "tool_calls"}.get(reason, reason)


def as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {} if value is None else {"content": value}


def readable(value: Any) -> Any:
    """JSON in a text becomes what it says; any other text stays."""
    if isinstance(value, str) and value[:1] in "[{" and value:
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def unwrapped(value: Any) -> Any:
    """What a JSON text says, a plain text in quotes too."""
    if isinstance(value, str) and value[:1] == '"':
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return readable(value)


def unquoted(value: Any) -> str:
    """Some exporters write a word as a JSON text."""
    return as_text(value).strip('"')
