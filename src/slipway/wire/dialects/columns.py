"""The typed columns of a span, out of the attributes of any dialect."""

import math
from collections.abc import Sequence
from typing import Any

from slipway.domain.trace import SpanKind
from slipway.wire.dialects import tables
from slipway.wire.dialects.base import Attributes, Event
from slipway.wire.dialects.values import as_count, as_finish, as_micros, as_text, unquoted

COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
TEXTS = ("name", "provider", "model", "response_model", "session", "subject", "index")
OF_THE_RESOURCE = ("environment", "release", "channel")
"""What a whole process may say for all of its spans."""


def columns(attributes: Attributes, events: Sequence[Event], resource: Attributes, *, start_ns: int) -> dict[str, Any]:
    """The typed fields of `Span` that the attributes tell; what they do not tell is left out."""
    told = _told(attributes)
    if any(name not in told for name in OF_THE_RESOURCE):
        of_resource = _told(resource)
        told |= {name: of_resource[name] for name in OF_THE_RESOURCE if name in of_resource and name not in told}
    found: dict[str, Any] = {name: unquoted(told.get(name)) for name in (*TEXTS, *OF_THE_RESOURCE)}
    found |= {name: as_count(told.get(name)) for name in COUNTS}
    found["cost_micros"] = as_micros(told.get("cost_micros"))
    found["finish"] = as_finish(told.get("finish"))
    name, version = as_text(told.get("prompt")), as_text(told.get("prompt_version"))
    found["prompt"] = f"{name}@{version}" if name and version else name
    found["first_token_ns"] = _first_token(attributes, events, start_ns)
    for where, refine in tables.REFINERS:
        if any(name in attributes for name in where):
            refine(attributes, events, start_ns, found)
    found["kind"] = _kind(attributes, called=bool(found["provider"] and found["model"]))
    return {key: value for key, value in found.items() if value}


def _told(attributes: Attributes) -> dict[str, Any]:
    """By column, the value of the attribute that ranks first."""
    ranks: dict[str, int] = {}
    told: dict[str, Any] = {}
    meaning = tables.COLUMN_OF
    for name, value in attributes.items():
        if name in meaning and value is not None and value != "":
            column, rank = meaning[name]
            if rank < ranks.get(column, 1 << 30):
                ranks[column], told[column] = rank, value
    return told


def _kind(attributes: Attributes, *, called: bool) -> SpanKind:
    for name, kinds in tables.KINDS.items():
        if name in attributes:
            value = unquoted(attributes[name])
            if kind := kinds.get(value) or kinds.get(value.lower()):
                return kind
    return "chat" if called else "other"


def _first_token(attributes: Attributes, events: Sequence[Event], start_ns: int) -> int | None:
    for name, factor in tables.SECONDS_TO_FIRST_TOKEN.items():
        if name in attributes:
            try:
                number = float(attributes[name]) * factor
            except (TypeError, ValueError):
                continue
            if math.isfinite(number):
                return max(0, round(number))
    for event in events:
        if event.name in tables.FIRST_TOKEN_EVENTS and event.time_ns:
            return max(0, event.time_ns - start_ns)
    return None
